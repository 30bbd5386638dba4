using System.Globalization;
using System.Text;

namespace GemmaServer.Text;

/// <summary>Reads a regular expression character by character.</summary>
internal sealed class RegexScanner(string pattern)
{
    private int _at;

    public bool AtEnd => _at >= pattern.Length;

    public char Current => Peek(0);

    public char Peek(int ahead) => _at + ahead < pattern.Length ? pattern[_at + ahead] : '\0';

    public void Skip(int count) => _at = Math.Min(_at + count, pattern.Length);

    public bool Take(char c)
    {
        if (AtEnd || Current != c) return false;
        _at++;
        return true;
    }

    public GrammarException Wrong(string what) => new($"The regular expression cannot be followed at character {_at + 1}: {what}.");

    /// <summary>Takes one character as it is.</summary>
    public int CodePoint()
    {
        if (!Rune.TryGetRuneAt(pattern, _at, out Rune rune)) throw Wrong("half of a surrogate pair");
        _at += rune.Utf16SequenceLength;
        return rune.Value;
    }

    public void GroupName()
    {
        int end = pattern.IndexOf('>', _at);
        if (end <= _at + 1) throw Wrong("a group's name does not end");
        _at = end + 1;
    }

    /// <summary>Whether <c>{m}</c>, <c>{m,}</c> or <c>{m,n}</c> is next; any other brace is a character.</summary>
    public bool LooksLikeBounds
    {
        get
        {
            int at = _at + 1;
            while (at < pattern.Length && char.IsAsciiDigit(pattern[at])) at++;
            if (at == _at + 1) return false;
            if (at < pattern.Length && pattern[at] == ',') at++;
            while (at < pattern.Length && char.IsAsciiDigit(pattern[at])) at++;
            return at < pattern.Length && pattern[at] == '}';
        }
    }

    /// <summary>Takes a quantifier; null where there is none.</summary>
    public (int Min, int? Max)? Bounds(int most)
    {
        if (Take('*')) return (0, null);
        if (Take('+')) return (1, null);
        if (Take('?')) return (0, 1);
        if (AtEnd || Current != '{' || !LooksLikeBounds) return null;
        _at++;
        int min = Number(most);
        int? max = min;
        if (Take(',')) max = Current == '}' ? null : Number(most);
        _at++;
        if (max < min) throw Wrong($"{{{min},{max}}} is an impossible repetition");
        return (min, max);
    }

    /// <summary>Takes an escaped character.</summary>
    public int Escape(bool inClass)
    {
        char kind = Peek(1);
        if (_at + 1 >= pattern.Length) throw Wrong("'\\' stands at the end");
        Skip(2);
        switch (kind)
        {
            case 't': return '\t';
            case 'n': return '\n';
            case 'v': return '\v';
            case 'f': return '\f';
            case 'r': return '\r';
            case 'b' when inClass: return '\b';
            case '0' when !char.IsAsciiDigit(Current): return 0;
            case 'c' when char.IsAsciiLetter(Current):
                Skip(1);
                return pattern[_at - 1] & 0x1F;
            case 'x': return Hex(2);
            case 'u': return Unicode();
            default:
                if (char.IsAsciiLetterOrDigit(kind)) throw Wrong($"'\\{kind}' is no known escape");
                _at--;
                return CodePoint();
        }
    }

    private int Unicode()
    {
        if (Take('{'))
        {
            int end = pattern.IndexOf('}', _at);
            if (end < 0 || !int.TryParse(pattern.AsSpan(_at, end - _at), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int value)
                || value is < 0 or > CodePointSet.Last)
                throw Wrong("'\\u{' has no code point");
            _at = end + 1;
            return value;
        }
        int unit = Hex(4);
        if (!char.IsHighSurrogate((char)unit) || Current != '\\' || Peek(1) != 'u') return unit;
        int before = _at;
        Skip(2);
        if (Current != '{' && Hex(4) is var low && char.IsLowSurrogate((char)low)) return char.ConvertToUtf32((char)unit, (char)low);
        _at = before;
        return unit;
    }

    private int Hex(int digits)
    {
        if (_at + digits > pattern.Length
            || !int.TryParse(pattern.AsSpan(_at, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int value))
            throw Wrong($"{digits} hexadecimal digits are expected");
        _at += digits;
        return value;
    }

    private int Number(int most)
    {
        int start = _at;
        while (char.IsAsciiDigit(Current)) _at++;
        return int.TryParse(pattern.AsSpan(start, _at - start), NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number <= most
            ? number
            : throw Wrong($"a repetition of more than {most} times");
    }

    /// <summary>Takes what stands up to a closing brace.</summary>
    public string Braced()
    {
        int end = pattern.IndexOf('}', _at);
        if (!Take('{') || end < 0) throw Wrong("'{...}' is expected behind '\\p'");
        string text = pattern[_at..end];
        _at = end + 1;
        return text;
    }
}
