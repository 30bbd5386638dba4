using System.Text;

namespace GemmaServer.Text;

/// <summary>
/// Turns the body of a call, <c>city:&lt;|"|>Paris&lt;|"|>,days:2}</c>, into JSON text as it arrives. One pass, no recursion, no
/// look back; whatever comes, the JSON is an object once the parser is closed.
/// </summary>
/// <remarks>
/// Source: spec/gemma4-chat.md, 6.4. Written JSON is final: a string's text goes out as it comes, a bare scalar only at its
/// terminator, a closing brace only when it was read.
/// </remarks>
internal sealed class ArgumentParser
{
    private const byte IsArray = 1, HasMember = 2, IsDoubled = 4;

    private readonly CharBuffer _text = new();      // the key or value being read
    private readonly CharBuffer _held = new();      // end of an open string that may be closing braces or white space
    private readonly StringBuilder _scratch = new();
    private readonly byte[] _open = new byte[ChatValue.MaxDepth];   // open containers, innermost last
    private int _depth;
    private int _heldClosers;
    private State _state;
    private bool _isEscaped;
    private int _valueEnd, _nextMember;             // in _text, while text after a comma may still belong to the value
    private bool _isNextBlank;
    private int _spelled;                           // how much of a delimiter was spelled in a quoted string

    private enum State
    {
        Member, BareKey, QuotedKey, JsonKey, AfterKey,
        Value, Bare, BareOrMember, Quoted, QuotedTail, PlainQuoted, Json, SingleQuoted, SingleQuotedEnd, AfterValue,
    }

    /// <summary>JSON written since the owner last emptied it.</summary>
    public StringBuilder Json { get; } = new();

    /// <summary>Whether the outermost brace has closed.</summary>
    public bool IsClosed => _depth == 0;

    /// <summary>Starts behind a call's opening brace.</summary>
    public void Begin()
    {
        Json.Clear();
        _depth = 0;
        Open(0);
    }

    /// <summary>Takes text up to the closing brace. Returns how much of it was taken.</summary>
    public int Push(ReadOnlySpan<char> text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            Step(text[i]);
            if (IsClosed) return i + 1;
        }
        return text.Length;
    }

    /// <summary>Takes the string delimiter token.</summary>
    public void Delimiter()
    {
        switch (_state)
        {
            case State.Member:
                Start(State.QuotedKey);
                break;
            case State.QuotedKey or State.JsonKey:
                _state = State.AfterKey;
                break;
            case State.Value:
                BeginString(State.Quoted);
                break;
            case State.Quoted:
                WriteHeld(_held.Length);
                WriteSpelled();
                EndString();
                break;
            case State.QuotedTail:
                _state = State.AfterValue;
                break;
            case State.BareOrMember when _isNextBlank:
                EndBare(_valueEnd);
                Start(State.QuotedKey);
                break;
            case State.Bare or State.BareOrMember:
                EndBare(_text.Length);
                _state = State.AfterValue;
                break;
            case State.PlainQuoted or State.Json or State.SingleQuoted or State.SingleQuotedEnd:
                EndBuffered(_text.Span);
                break;
        }
    }

    /// <summary>The call ended without its closing brace: finishes what is open.</summary>
    public void ForceClose()
    {
        if (IsClosed) return;
        switch (_state)
        {
            case State.Value when (Top & IsArray) == 0:
                Json.Append("\"\"");
                break;
            case State.Bare or State.BareOrMember:
                EndBare(_text.Length);
                break;
            case State.Quoted:
                DropHeldClosers();
                WriteSpelled();
                EndString();
                break;
            case State.PlainQuoted or State.Json:
                EndBuffered(WithoutClosers(_text.Span));
                break;
            case State.SingleQuoted:
                BeginString(State.AfterValue);
                WriteEscaped("'");   // nothing closed it, so it was an apostrophe
                WriteEscaped(WithoutClosers(_text.Span));
                EndString();
                break;
            case State.SingleQuotedEnd:
                EndBuffered(_text.Span);
                break;
        }
        while (_depth > 0) CloseInnermost();
    }

    private void Step(char c)
    {
        switch (_state)
        {
            case State.Member: StepMember(c); break;
            case State.BareKey: StepBareKey(c); break;
            case State.QuotedKey: _text.Append(c); break;
            case State.JsonKey: StepJsonString(c, State.AfterKey); break;
            case State.AfterKey: StepAfterKey(c); break;
            case State.Value: StepValue(c); break;
            case State.Bare: StepBare(c); break;
            case State.BareOrMember: StepBareOrMember(c); break;
            case State.Quoted: StepQuoted(c); break;
            case State.QuotedTail: break;
            case State.PlainQuoted: StepPlainQuoted(c); break;
            case State.Json: StepJsonString(c, State.AfterValue); break;
            case State.SingleQuoted: StepSingleQuoted(c); break;
            case State.SingleQuotedEnd: StepSingleQuotedEnd(c); break;
            default: StepAfterValue(c); break;
        }
    }

    // ---- keys

    private void StepMember(char c)
    {
        if (c == ',' || PythonText.IsSpace(c)) return;
        if (c is '}' or ']') CloseOne();
        else if (c == '"') Start(State.JsonKey);
        else if (c == '{' && (Top & (HasMember | IsDoubled)) == 0) Top |= IsDoubled;   // {{…}} is one object
        else
        {
            Start(State.BareKey);
            _text.Append(c);
            if (c == ':') WriteBareKey([]);
        }
    }

    private void StepBareKey(char c)
    {
        if (c == ':') WriteBareKey(_text.Span);
        else if (c == ',') _state = State.Member;   // a member without a colon is nothing
        else if (c is '}' or ']') CloseOne();
        else _text.Append(c);
    }

    private void StepAfterKey(char c)
    {
        if (c == ':') WriteKey(_text.Span);
        else if (c == ',') _state = State.Member;
        else if (c is '}' or ']') CloseOne();
    }

    /// <summary>A bare key is trimmed; quotes spelled as text around it are not part of it.</summary>
    private void WriteBareKey(ReadOnlySpan<char> key)
    {
        key = PythonText.Strip(key);
        if (key.Length >= 2 && key[0] == '\'' && key[^1] == '\'') key = key[1..^1];
        else if (key.Length >= 2 * ControlTokens.Quote.Length && key.StartsWith(ControlTokens.Quote) && key.EndsWith(ControlTokens.Quote))
            key = key[ControlTokens.Quote.Length..^ControlTokens.Quote.Length];
        WriteKey(key);
    }

    private void WriteKey(ReadOnlySpan<char> key)
    {
        Separate();
        Json.Append('"');
        WriteEscaped(key);
        Json.Append("\":");
        _state = State.Value;
    }

    // ---- values

    private void StepValue(char c)
    {
        if (PythonText.IsSpace(c)) return;
        bool inArray = (Top & IsArray) != 0;
        switch (c)
        {
            case ',' when inArray:
                break;
            case ',':
                Json.Append("\"\"");
                _state = State.Member;
                break;
            case '}' or ']':
                if (!inArray) Json.Append("\"\"");
                CloseOne();
                break;
            // Deeper than a request may nest, brackets are only text: clients parse this with recursion.
            case '{' when _depth < _open.Length:
                SeparateElement();
                Open(0);
                break;
            case '[' when _depth < _open.Length:
                SeparateElement();
                Open(IsArray);
                break;
            case '"':
                Start(State.Json);
                break;
            case '\'':
                Start(State.SingleQuoted);
                break;
            default:
                Start(State.Bare);
                _text.Append(c);
                break;
        }
    }

    private void StepBare(char c)
    {
        if (c is '}' or ']')
        {
            EndBare(_text.Length);
            CloseOne();
        }
        else if (c == ',')
        {
            EndBareAtComma();
        }
        else
        {
            _text.Append(c);
            if (c == '>' && _text.Span.SequenceEqual(ControlTokens.Quote)) Start(State.PlainQuoted);   // delimiter spelled as text
        }
    }

    /// <summary>In an object, words after a comma belong to an unquoted string unless they turn out to be a member.</summary>
    private void EndBareAtComma()
    {
        bool inArray = (Top & IsArray) != 0;
        _scratch.Clear();
        if (inArray || BareValue.TryWriteScalar(PythonText.Strip(_text.Span), _scratch))
        {
            EndBare(_text.Length);
            _state = inArray ? State.Value : State.Member;
            return;
        }
        _valueEnd = _text.Length;
        NextMaybeMember();
    }

    private void NextMaybeMember()
    {
        _text.Append(',');
        (_nextMember, _isNextBlank, _state) = (_text.Length, true, State.BareOrMember);
    }

    private void StepBareOrMember(char c)
    {
        switch (c)
        {
            case '}' or ']':
                EndBare(_isNextBlank ? _valueEnd : _text.Length);
                CloseOne();
                break;
            case ',':
                if (!_isNextBlank) _valueEnd = _text.Length;
                NextMaybeMember();
                break;
            case ':':
                EndBare(_valueEnd);
                WriteBareKey(_text.Span[_nextMember..]);
                break;
            case '"' when _isNextBlank:
                EndBare(_valueEnd);
                Start(State.JsonKey);
                break;
            default:
                if (!PythonText.IsSpace(c)) _isNextBlank = false;
                _text.Append(c);
                break;
        }
    }

    private void EndBare(int length)
    {
        ReadOnlySpan<char> value = PythonText.Strip(_text.Span[..length]);
        while (_state == State.BareOrMember && value is [.., ',']) value = PythonText.StripEnd(value[..^1]);
        SeparateElement();
        if (BareValue.TryWriteScalar(value, Json)) return;
        Json.Append('"');
        WriteEscaped(value);
        Json.Append('"');
    }

    private void StepAfterValue(char c)
    {
        if (c == ',') _state = (Top & IsArray) != 0 ? State.Value : State.Member;
        else if (c is '}' or ']') CloseOne();   // anything else behind a value is junk
    }

    // ---- strings

    /// <summary>
    /// A string's text goes out at once, except for an end that would be braces if the string were never closed. A delimiter
    /// spelled with ordinary tokens ends the value too, as the references have it; what follows up to the real delimiter is
    /// dropped, so text that a model copies from elsewhere can cut its own string short but never add an argument.
    /// </summary>
    private void StepQuoted(char c)
    {
        if (c == ControlTokens.Quote[_spelled])
        {
            WriteHeld(_held.Length);
            if (++_spelled < ControlTokens.Quote.Length) return;
            _spelled = 0;
            EndString();
            _state = State.QuotedTail;
            return;
        }
        WriteSpelled();
        if (c == ControlTokens.Quote[0])
        {
            WriteHeld(_held.Length);
            _spelled = 1;
        }
        else if (c is '}' or ']')
        {
            if (_heldClosers == _depth) WriteHeld(_held.Length);
            _held.Append(c);
            _heldClosers++;
        }
        else if (PythonText.IsSpace(c))
        {
            _held.Append(c);
        }
        else
        {
            WriteHeld(_held.Length);
            JsonEscape.Append(Json, c);
        }
    }

    /// <summary>The start of a delimiter that did not become one is text.</summary>
    private void WriteSpelled()
    {
        for (int i = 0; i < _spelled; i++) JsonEscape.Append(Json, ControlTokens.Quote[i]);
        _spelled = 0;
    }

    private void StepPlainQuoted(char c)
    {
        _text.Append(c);
        if (c == '>' && _text.Span.EndsWith(ControlTokens.Quote)) EndBuffered(_text.Span[..^ControlTokens.Quote.Length]);
    }

    private void StepJsonString(char c, State next)
    {
        if (c == '"' && !_isEscaped)
        {
            _scratch.Clear();
            bool isValid = JsonText.TryUnescape(_text.Span, _scratch);
            if (isValid)
            {
                _text.Clear();
                foreach (ReadOnlyMemory<char> chunk in _scratch.GetChunks()) _text.Append(chunk.Span);
            }
            if (next == State.AfterKey) _state = next;
            else EndBuffered(_text.Span);
            return;
        }
        _isEscaped = c == '\\' && !_isEscaped;
        _text.Append(c);
    }

    private void StepSingleQuoted(char c)
    {
        if (c != '\'') _text.Append(c);
        else (_state, _valueEnd) = (State.SingleQuotedEnd, _text.Length);
    }

    /// <summary>A quote closes a single-quoted string only in front of what may follow a value; otherwise it is an apostrophe.</summary>
    private void StepSingleQuotedEnd(char c)
    {
        if (c is ',' or '}' or ']')
        {
            EndBuffered(_text.Span[.._valueEnd]);
            StepAfterValue(c);
        }
        else if (PythonText.IsSpace(c))
        {
            _text.Append(c);
        }
        else
        {
            _text.Insert(_valueEnd, '\'');
            _state = State.SingleQuoted;
            StepSingleQuoted(c);
        }
    }

    private void BeginString(State state)
    {
        SeparateElement();
        Json.Append('"');
        _held.Clear();
        _heldClosers = 0;
        _state = state;
    }

    private void EndString()
    {
        Json.Append('"');
        _state = State.AfterValue;
    }

    private void EndBuffered(ReadOnlySpan<char> value)
    {
        if (_state == State.SingleQuotedEnd) value = value[.._valueEnd];
        BeginString(State.AfterValue);
        WriteEscaped(value);
        EndString();
    }

    private void WriteHeld(int length)
    {
        WriteEscaped(_held.Span[..length]);
        _held.Clear();
        _heldClosers = 0;
    }

    /// <summary>The string ran to the call's end: braces at its end close the containers instead, with the white space between.</summary>
    private void DropHeldClosers()
    {
        int first = _held.Span.IndexOfAny('}', ']');
        WriteHeld(first < 0 ? _held.Length : first);
    }

    private ReadOnlySpan<char> WithoutClosers(ReadOnlySpan<char> text)
    {
        ReadOnlySpan<char> kept = text;
        for (int closers = 0; closers < _depth && PythonText.StripEnd(text) is [.., '}' or ']'] trimmed; closers++) kept = text = trimmed[..^1];
        return kept;
    }

    private void WriteEscaped(ReadOnlySpan<char> text)
    {
        foreach (char c in text) JsonEscape.Append(Json, c);
    }

    // ---- containers

    private ref byte Top => ref _open[_depth - 1];

    private void Start(State state)
    {
        _text.Clear();
        _isEscaped = false;
        _state = state;
    }

    private void Open(byte kind)
    {
        _open[_depth++] = kind;
        Json.Append(kind == IsArray ? '[' : '{');
        _state = kind == IsArray ? State.Value : State.Member;
    }

    /// <summary>A closing brace or bracket was read; whichever it is, it closes the innermost container.</summary>
    private void CloseOne()
    {
        if ((Top & IsDoubled) == 0) CloseInnermost();
        else Top &= unchecked((byte)~IsDoubled);
        _state = State.AfterValue;
    }

    private void CloseInnermost() => Json.Append((_open[--_depth] & IsArray) != 0 ? ']' : '}');

    private void SeparateElement()
    {
        if ((Top & IsArray) != 0) Separate();
    }

    private void Separate()
    {
        if ((Top & HasMember) != 0) Json.Append(',');
        Top |= HasMember;
    }
}
