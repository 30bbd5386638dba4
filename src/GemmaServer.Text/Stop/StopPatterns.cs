using System.Text;

namespace GemmaServer.Text;

/// <summary>
/// Follows several stop strings through a text, one UTF-16 unit at a time, without looking back. The match is the one that is
/// complete first, and the longest of those complete at the same place; it does not depend on how the text was cut.
/// </summary>
/// <remarks>Knuth, Morris, Pratt: a state is the longest end of the text that begins the stop string.</remarks>
internal sealed class StopPatterns
{
    private readonly string[] _stops;     // as given
    private readonly string[] _patterns;  // well-formed: lone surrogates are U+FFFD, as in any decoded text
    private readonly int[][] _failure;    // [stop][length matched] → length of the next shorter candidate
    private readonly int[] _state;

    /// <param name="stops">Empty ones are left out: they ask for nothing.</param>
    public StopPatterns(IReadOnlyList<string> stops)
    {
        _stops = [.. stops.Where(s => !string.IsNullOrEmpty(s))];
        _patterns = [.. _stops.Select(s => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(s)))];
        _failure = [.. _patterns.Select(Failure)];
        _state = new int[_patterns.Length];
    }

    /// <summary>Whether there is nothing to look for.</summary>
    public bool IsEmpty => _patterns.Length == 0;

    /// <summary>How many units at the end of the text so far may be the beginning of a stop string.</summary>
    public int Pending { get; private set; }

    /// <summary>The stop string found, as it was given; null before.</summary>
    public string? Matched { get; private set; }

    /// <summary>Length of the match in the text.</summary>
    public int MatchedLength { get; private set; }

    /// <summary>Takes the next unit; true when a stop string is complete. Nothing may be pushed after that.</summary>
    public bool Push(char unit)
    {
        Pending = 0;
        for (int i = 0; i < _patterns.Length; i++)
        {
            string pattern = _patterns[i];
            int state = _state[i];
            while (state > 0 && pattern[state] != unit) state = _failure[i][state];
            if (pattern[state] == unit) state++;
            _state[i] = state;
            Pending = Math.Max(Pending, state);
            if (state == pattern.Length && state > MatchedLength) (Matched, MatchedLength) = (_stops[i], state);
        }
        return MatchedLength > 0;
    }

    /// <summary>Forgets the text so far: a match cannot begin in it.</summary>
    public void Reset()
    {
        Array.Clear(_state);
        Pending = 0;
    }

    private static int[] Failure(string pattern)
    {
        int[] failure = new int[pattern.Length + 1];
        for (int end = 1, state = 0; end < pattern.Length; end++)
        {
            while (state > 0 && pattern[state] != pattern[end]) state = failure[state];
            if (pattern[state] == pattern[end]) state++;
            failure[end + 1] = state;
        }
        return failure;
    }
}
