namespace GemmaServer.Text;

/// <summary>
/// Cuts an answer's visible text at the first stop string. What may become one is held back, so no part of a stop string is
/// ever given out early; the result is the same however the text was cut into deltas.
/// </summary>
/// <param name="stops">Stop strings; empty ones are ignored.</param>
/// <param name="includeStop">Give out the stop string itself too.</param>
public sealed class StopTextFilter(IReadOnlyList<string> stops, bool includeStop = false)
{
    private readonly StopPatterns _patterns = new(stops);
    private string _held = "";

    /// <summary>Whether a stop string was found; nothing is given out after that.</summary>
    public bool Stopped => MatchedStop is not null;

    /// <summary>The stop string found: the one complete first, the longest of several complete at once; null before.</summary>
    public string? MatchedStop => _patterns.Matched;

    /// <summary>Takes the next text and returns what is now certain to be before any stop string.</summary>
    public string Push(string delta)
    {
        if (Stopped || delta.Length == 0) return "";
        if (_patterns.IsEmpty) return delta;
        for (int i = 0; i < delta.Length; i++)
        {
            if (!_patterns.Push(delta[i])) continue;
            int end = _held.Length + i + 1;
            string cut = Joined(delta, includeStop ? end : end - _patterns.MatchedLength);
            _held = "";
            return cut;
        }
        int certain = _held.Length + delta.Length - _patterns.Pending;
        string text = Joined(delta, certain);
        _held = certain >= _held.Length ? delta[(certain - _held.Length)..] : string.Concat(_held.AsSpan(certain), delta);
        return text;
    }

    /// <summary>The end of the text: what was held back, unless a stop string was found.</summary>
    public string Flush()
    {
        string text = _held;
        _held = "";
        _patterns.Reset();
        return text;
    }

    // The first units of what was held followed by the delta.
    private string Joined(string delta, int length)
    {
        if (length <= _held.Length) return _held[..length];
        ReadOnlySpan<char> part = delta.AsSpan(0, length - _held.Length);
        return _held.Length == 0 && part.Length == delta.Length ? delta : string.Concat(_held, part);
    }
}
