using System.Globalization;
using System.Text;

namespace GemmaServer.Text;

/// <summary>Reads the words of a Lark grammar.</summary>
internal sealed class LarkScanner(string text)
{
    private const int MaxNumber = 1_000_000;

    private int _at;

    /// <summary>The next character behind spaces, line ends and comments; zero at the end.</summary>
    public char Current
    {
        get
        {
            SkipSpace();
            return Peek(0);
        }
    }

    public bool AtEnd => Current == '\0' && _at >= text.Length;

    private char Peek(int ahead) => _at + ahead < text.Length ? text[_at + ahead] : '\0';

    /// <summary>Whether a definition is next: a name and a colon, with a priority at most between. Ends the one before.</summary>
    public bool AtDefinition
    {
        get
        {
            SkipSpace();
            int start = _at;
            while (Peek(0) is '?' or '!') _at++;
            bool isName = IsNameStart(Peek(0));
            if (isName)
            {
                SkipName();
                SkipBlanks();
                if (Peek(0) == '.' && (char.IsAsciiDigit(Peek(1)) || Peek(1) == '-'))
                {
                    _at += 2;
                    while (char.IsAsciiDigit(Peek(0))) _at++;
                    SkipBlanks();
                }
            }
            bool isDefinition = isName && Peek(0) == ':' && Peek(1) is not (':' or '=');
            _at = start;
            return isDefinition;
        }
    }

    public bool Take(char c)
    {
        if (Current != c || AtEnd) return false;
        _at++;
        return true;
    }

    public bool Take(string word)
    {
        SkipSpace();
        if (!text.AsSpan(_at).StartsWith(word)) return false;
        _at += word.Length;
        return true;
    }

    public void Expect(char c)
    {
        if (!Take(c)) throw Wrong($"'{c}' is missing");
    }

    public static bool IsNameStart(char c) => char.IsAsciiLetter(c) || c == '_';

    public string Name()
    {
        if (!IsNameStart(Current)) throw Wrong("a name is expected");
        int start = _at;
        SkipName();
        return text[start.._at];
    }

    public int Number()
    {
        SkipSpace();
        int start = _at;
        while (char.IsAsciiDigit(Peek(0))) _at++;
        return int.TryParse(text.AsSpan(start, _at - start), NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number <= MaxNumber
            ? number
            : throw Wrong($"a number up to {MaxNumber} is expected");
    }

    /// <summary>Takes a quoted text, whose escapes are those of Python.</summary>
    public string Quoted()
    {
        char quote = Current;
        _at++;
        StringBuilder value = new();
        while (Peek(0) != quote)
        {
            if (_at >= text.Length || Peek(0) is '\n' or '\r') throw Wrong("a text does not end");
            value.Append(char.ConvertFromUtf32(Peek(0) == '\\' ? Escape() : CodePoint()));
        }
        _at++;
        return value.ToString();
    }

    /// <summary>Takes what stands between two slashes, as it is.</summary>
    public string Pattern()
    {
        int start = ++_at;
        while (Peek(0) != '/')
        {
            if (_at >= text.Length || Peek(0) is '\n' or '\r') throw Wrong("a regular expression does not end");
            _at += Peek(0) == '\\' && _at + 1 < text.Length ? 2 : 1;
        }
        return text[start.._at++];
    }

    /// <summary>Takes the letters right behind a text or a regular expression.</summary>
    public string Flags(string known)
    {
        int start = _at;
        while (known.Contains(Peek(0), StringComparison.Ordinal)) _at++;
        return text[start.._at];
    }

    public GrammarException Wrong(string what)
    {
        int line = 1 + text.AsSpan(0, Math.Min(_at, text.Length)).Count('\n');
        return new GrammarException($"Line {line} of the grammar: {what}.");
    }

    private void SkipName()
    {
        // A hyphen is part of a name, but not that of '->'.
        while (char.IsAsciiLetterOrDigit(Peek(0)) || Peek(0) == '_' || (Peek(0) == '-' && char.IsAsciiLetterOrDigit(Peek(1)))) _at++;
    }

    private void SkipBlanks()
    {
        while (Peek(0) is ' ' or '\t') _at++;
    }

    private void SkipSpace()
    {
        while (_at < text.Length)
        {
            char c = text[_at];
            if (c == '#' || (c == '/' && Peek(1) == '/')) while (_at < text.Length && text[_at] is not ('\n' or '\r')) _at++;
            else if (c is ' ' or '\t' or '\n' or '\r' or '\f') _at++;
            else return;
        }
    }

    private int CodePoint()
    {
        if (!Rune.TryGetRuneAt(text, _at, out Rune rune)) throw Wrong("half of a surrogate pair");
        _at += rune.Utf16SequenceLength;
        return rune.Value;
    }

    private int Escape()
    {
        char kind = Peek(1);
        _at += 2;
        return kind switch
        {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'f' => '\f',
            'v' => '\v',
            'b' => '\b',
            'a' => '\a',
            'x' => Hex(2),
            'u' => Unit(),
            'U' => Hex(8),
            '"' or '\'' or '\\' or '/' => kind,
            _ => throw Wrong($"'\\{kind}' is no escape"),
        };
    }

    /// <summary>Four digits, or twice four for what JSON spells as a pair of surrogates.</summary>
    private int Unit()
    {
        if (_at + 10 <= text.Length && text[_at + 4] == '\\' && text[_at + 5] == 'u'
            && Digits(_at, 4) is >= 0xD800 and < 0xDC00 and var high && Digits(_at + 6, 4) is >= 0xDC00 and < 0xE000 and var low)
        {
            _at += 10;
            return char.ConvertToUtf32((char)high, (char)low);
        }
        return Hex(4);
    }

    private int Hex(int digits)
    {
        if (Digits(_at, digits) is not { } value || !Rune.IsValid(value)) throw Wrong($"{digits} hexadecimal digits of a character are expected");
        _at += digits;
        return (int)value;
    }

    private uint? Digits(int start, int count) => start + count <= text.Length
        && uint.TryParse(text.AsSpan(start, count), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint value) ? value : null;
}
