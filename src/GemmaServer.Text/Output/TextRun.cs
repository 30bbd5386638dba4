using System.Text;

namespace GemmaServer.Text;

/// <summary>
/// A stream of visible text or thinking whose outer white space may have to go: white space is held back until the next
/// visible character or the end says whether it counts.
/// </summary>
internal sealed class TextRun(OutputEventKind kind, bool alwaysTrim)
{
    private readonly StringBuilder _held = new();
    private bool _hasText;
    private bool _markerSinceText;

    /// <summary>A control token went by: white space at the text's edge beside it is dropped.</summary>
    public void Marker() => _markerSinceText = true;

    public void Append(ReadOnlySpan<char> text, List<OutputEvent> events)
    {
        ReadOnlySpan<char> visible = PythonText.StripEnd(text);
        ReadOnlySpan<char> trailing = text[visible.Length..];
        if (visible.IsEmpty)
        {
            _held.Append(text);
            return;
        }
        if (!_hasText && (alwaysTrim || _markerSinceText))
        {
            _held.Clear();
            visible = PythonText.StripStart(visible);
        }
        (_hasText, _markerSinceText) = (true, false);
        string delta = _held.Length == 0 ? new string(visible) : _held.Append(visible).ToString();
        _held.Clear().Append(trailing);
        events.Add(new(kind, 0, delta));
    }

    public void End(List<OutputEvent> events)
    {
        if (_held.Length > 0 && !alwaysTrim && !_markerSinceText) events.Add(new(kind, 0, _held.ToString()));
        _held.Clear();
    }
}
