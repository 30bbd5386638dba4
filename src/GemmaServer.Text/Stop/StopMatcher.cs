namespace GemmaServer.Text;

/// <summary>
/// Says when a stop string has appeared in an answer's visible text; fed with token ids where they are committed. It sees the
/// content that the output parser shows: not thoughts, not tool calls, and not the white space between a control token and the
/// first visible character. A match may begin and end inside tokens but never spans a control token. Allocates nothing after
/// construction, save a larger buffer for an unusually long token.
/// </summary>
/// <remarks>
/// <c>&lt;|"|&gt;</c> in content counts as the <c>"</c> it is shown as. Where text across a dropped control token would read as a stop
/// string, <see cref="StopTextFilter"/> cuts and this does not.
/// </remarks>
public sealed class StopMatcher
{
    private enum Where
    {
        Content,
        Thought,
        Call,
        End,
    }

    private readonly Tokenizer _tokenizer;
    private readonly SpecialTokens _special;
    private readonly StopPatterns _patterns;
    private readonly Utf8Assembler _utf8 = new();
    private Where _where;
    private bool _afterControl, _sawVisible;

    /// <param name="tokenizer">The vocabulary.</param>
    /// <param name="stops">Stop strings; empty ones are ignored.</param>
    /// <param name="thoughtOpen">The prompt ends inside a thought.</param>
    public StopMatcher(Tokenizer tokenizer, IReadOnlyList<string> stops, bool thoughtOpen)
    {
        _tokenizer = tokenizer;
        _special = tokenizer.Special;
        _patterns = new StopPatterns(stops);
        _where = thoughtOpen ? Where.Thought : Where.Content;
    }

    /// <summary>Takes a token; true when a stop string is complete with this token, and ever after.</summary>
    public bool Push(int token)
    {
        if (_patterns.Matched is not null) return true;
        if (_patterns.IsEmpty || _where == Where.End) return false;
        if (_tokenizer.IsSpecial(token) && !(token == _special.Quote && _where == Where.Content)) return PushControl(token);
        if (_where != Where.Content) return false;
        return Match(_utf8.Push(token == _special.Quote ? "\""u8 : _tokenizer.TokenBytes(token)));
    }

    private bool PushControl(int token)
    {
        // Bytes of a character that is now cut off show as U+FFFD, which somebody may even have named as a stop.
        if (Match(_utf8.Flush())) return true;
        _patterns.Reset();
        _afterControl = true;
        _where = Next(token);
        return false;
    }

    private Where Next(int token)
    {
        if (token == _special.ChannelStart) return Where.Thought;
        if (token == _special.ToolCallStart) return Where.Call;
        if (token == _special.ChannelEnd) return _where == Where.Thought ? Where.Content : _where;
        if (token == _special.ToolCallEnd) return _where == Where.Call ? Where.Content : _where;
        return IsEnd(token) ? Where.End : _where;
    }

    private bool IsEnd(int token)
    {
        for (int i = 0; i < _special.EndOfGeneration.Count; i++)
            if (_special.EndOfGeneration[i] == token) return true;
        return false;
    }

    private bool Match(ReadOnlySpan<char> text)
    {
        foreach (char unit in text)
        {
            if (!_sawVisible && IsWhiteSpace(unit))
            {
                if (_afterControl) continue;
            }
            else _sawVisible = true;
            if (_patterns.Push(unit)) return true;
        }
        return false;
    }

    // As the template's trim: Python's str.strip, which also takes the separators U+001C to U+001F.
    private static bool IsWhiteSpace(char unit) => char.IsWhiteSpace(unit) || unit is >= '\u001C' and <= '\u001F';
}
