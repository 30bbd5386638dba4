using System.Text;

namespace GemmaServer.Text;

/// <summary>Collects a prompt's segments, joining text that touches so that it is tokenized as one run.</summary>
internal sealed class PromptWriter
{
    private readonly List<PromptSegment> _segments = [];
    private readonly StringBuilder _text = new();
    private int? _generationStart;

    /// <summary>Writes one control token.</summary>
    public void Control(string token)
    {
        EndText();
        _segments.Add(new(true, token));
    }

    /// <summary>Writes text that stays text whatever it spells. True when there was any.</summary>
    public bool Text(ReadOnlySpan<char> text)
    {
        _text.Append(text);
        return text.Length > 0;
    }

    /// <summary>Writes a string between two delimiter tokens; nothing is escaped.</summary>
    public void Quoted(string text)
    {
        Control(ControlTokens.Quote);
        Text(text);
        Control(ControlTokens.Quote);
    }

    /// <summary>What follows is the generation prompt; it begins with a control token, so no text is cut in two.</summary>
    public void BeginGeneration()
    {
        EndText();
        _generationStart = _segments.Count;
    }

    public RenderedPrompt ToPrompt(PromptState endState)
    {
        EndText();
        return new(_segments, endState, _generationStart);
    }

    private void EndText()
    {
        if (_text.Length == 0) return;
        _segments.Add(new(false, PythonText.ReplaceLoneSurrogates(_text.ToString())));
        _text.Clear();
    }
}
