using System.Globalization;

namespace GemmaServer.Text;

/// <summary>Reads GBNF, llama.cpp's notation for grammars.</summary>
/// <remarks>
/// Rules <c>name ::= …</c> with <c>"text"</c>, <c>[a-z]</c>, <c>[^a-z]</c>, <c>.</c>, groups, <c>|</c>, <c>* + ? {m} {m,} {m,n}</c>
/// and <c># comments</c>. The whole answer is the rule <c>root</c>. A rule's text ends at the line's end, unless it is inside
/// parentheses or goes on after <c>|</c>. Tokens (<c>&lt;…&gt;</c>) are not supported.
/// </remarks>
public sealed class GbnfGrammar
{
    private const int MaxDepth = 500;
    private const int MaxRepetitions = 1_000_000;

    private readonly string _text;
    private readonly Dictionary<string, GrammarRule> _rules = new(StringComparer.Ordinal);
    private int _at;
    private int _depth;

    private GbnfGrammar(string text) => _text = text;

    /// <summary>The rule <c>root</c>.</summary>
    /// <exception cref="GrammarException">The text is no grammar; the message names the line.</exception>
    public static GrammarNode Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return new GbnfGrammar(text).ParseRules();
    }

    private GrammarNode ParseRules()
    {
        SkipSpace(newLines: true);
        while (_at < _text.Length)
        {
            GrammarRule rule = Rule(Name());
            SkipSpace(newLines: false);
            if (!_text.AsSpan(_at).StartsWith("::=")) throw Wrong("'::=' is missing behind a rule's name");
            _at += 3;
            if (rule.Body is not null) throw Wrong($"the rule '{rule.Name}' is defined twice");
            SkipSpace(newLines: true);
            rule.Body = Alternatives(isNested: false);
            if (_at < _text.Length && Current is not ('\n' or '\r')) throw Wrong($"'{Current}' is not expected");
            SkipSpace(newLines: true);
        }
        foreach (GrammarRule rule in _rules.Values)
            if (rule.Body is null) throw new GrammarException($"The rule '{rule.Name}' is not defined.");
        return _rules.TryGetValue("root", out GrammarRule? root) ? root : throw new GrammarException("The grammar has no rule 'root'.");
    }

    private char Current => _at < _text.Length ? _text[_at] : '\0';

    private GrammarRule Rule(string name)
    {
        if (!_rules.TryGetValue(name, out GrammarRule? rule)) _rules.Add(name, rule = new GrammarRule(name));
        return rule;
    }

    private static bool IsNamePart(char c) => char.IsAsciiLetterOrDigit(c) || c is '-' or '_';

    private string Name()
    {
        int start = _at;
        while (IsNamePart(Current)) _at++;
        return _at > start ? _text[start.._at] : throw Wrong("a rule's name is expected");
    }

    private GrammarNode Alternatives(bool isNested)
    {
        if (++_depth > MaxDepth) throw Wrong($"groups are nested deeper than {MaxDepth}");
        List<GrammarNode> options = [Sequence(isNested)];
        while (Current == '|')
        {
            _at++;
            SkipSpace(newLines: true);
            options.Add(Sequence(isNested));
        }
        _depth--;
        return options.Count == 1 ? options[0] : GrammarNode.Choice([.. options]);
    }

    private GrammarNode Sequence(bool isNested)
    {
        List<GrammarNode> parts = [];
        while (Element(isNested) is { } part)
        {
            SkipSpace(isNested);
            parts.Add(Repeated(part, isNested));
        }
        return parts.Count == 1 ? parts[0] : GrammarNode.Sequence([.. parts]);
    }

    private GrammarNode? Element(bool isNested)
    {
        switch (Current)
        {
            case '"': return Literal();
            case '[': return Class();
            case '.':
                _at++;
                return GrammarNode.AnyChar;
            case '(':
                _at++;
                SkipSpace(newLines: true);
                GrammarNode group = Alternatives(isNested: true);
                if (Current != ')') throw Wrong("')' is missing");
                _at++;
                return group;
            case '<' or '!': throw Wrong("tokens ('<...>') are not supported");
            case var c when IsNamePart(c):
                return Rule(Name());
            default: return null;
        }
    }

    private GrammarNode Repeated(GrammarNode part, bool isNested)
    {
        while (true)
        {
            int min = 0;
            int? max = null;
            switch (Current)
            {
                case '*': _at++; break;
                case '+': _at++; min = 1; break;
                case '?': _at++; max = 1; break;
                case '{': (min, max) = Bounds(); break;
                default: return part;
            }
            SkipSpace(isNested);
            part = GrammarNode.Repeat(part, min, max);
        }
    }

    private (int Min, int? Max) Bounds()
    {
        _at++;
        SkipSpace(newLines: true);
        int min = Current == ',' ? 0 : Number();
        int? max = min;
        SkipSpace(newLines: true);
        if (Current == ',')
        {
            _at++;
            SkipSpace(newLines: true);
            max = Current == '}' ? null : Number();
            SkipSpace(newLines: true);
        }
        if (Current != '}') throw Wrong("'}' is missing");
        _at++;
        if (max < min) throw Wrong($"{{{min},{max}}} is an impossible repetition");
        return (min, max);
    }

    private int Number()
    {
        int start = _at;
        while (char.IsAsciiDigit(Current)) _at++;
        if (!int.TryParse(_text.AsSpan(start, _at - start), NumberStyles.None, CultureInfo.InvariantCulture, out int number) || number > MaxRepetitions)
            throw Wrong($"a number up to {MaxRepetitions} is expected");
        return number;
    }

    private GrammarNode Literal()
    {
        _at++;
        System.Text.StringBuilder text = new();
        while (Current != '"')
        {
            if (_at >= _text.Length) throw Wrong("a text does not end");
            text.Append(char.ConvertFromUtf32(CodePoint()));
        }
        _at++;
        return GrammarNode.Literal(text.ToString());
    }

    private GrammarNode Class()
    {
        _at++;
        bool isNegated = Current == '^';
        if (isNegated) _at++;
        List<CodePointRange> ranges = [];
        while (Current != ']')
        {
            if (_at >= _text.Length) throw Wrong("a set of characters does not end");
            int first = CodePoint(), last = first;
            if (Current == '-' && _at + 1 < _text.Length && _text[_at + 1] != ']')
            {
                _at++;
                last = CodePoint();
                if (last < first) throw Wrong("a range of characters is upside down");
            }
            ranges.Add(new(first, last));
        }
        _at++;
        return GrammarNode.Chars(isNegated ? CodePointSet.Complement(ranges) : [.. ranges]);
    }

    /// <summary>One character of a text or set, with its escape.</summary>
    private int CodePoint()
    {
        if (Current != '\\')
        {
            if (!System.Text.Rune.TryGetRuneAt(_text, _at, out System.Text.Rune rune)) throw Wrong("half of a surrogate pair");
            _at += rune.Utf16SequenceLength;
            return rune.Value;
        }
        char kind = _at + 1 < _text.Length ? _text[_at + 1] : '\0';
        _at += 2;
        return kind switch
        {
            'x' => Hex(2),
            'u' => Hex(4),
            'U' => Hex(8),
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '"' or '\\' or '[' or ']' or '-' or '^' => kind,
            _ => throw Wrong($"'\\{kind}' is no escape"),
        };
    }

    private int Hex(int digits)
    {
        ReadOnlySpan<char> text = _text.AsSpan(Math.Min(_at, _text.Length));
        if (text.Length < digits || !uint.TryParse(text[..digits], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint value)
            || !System.Text.Rune.IsValid(value))
            throw Wrong($"{digits} hexadecimal digits of a character are expected");
        _at += digits;
        return (int)value;
    }

    private void SkipSpace(bool newLines)
    {
        while (_at < _text.Length)
        {
            char c = _text[_at];
            if (c == '#') while (_at < _text.Length && _text[_at] is not ('\n' or '\r')) _at++;
            else if (c is ' ' or '\t' || (newLines && c is '\n' or '\r')) _at++;
            else return;
        }
    }

    private GrammarException Wrong(string what)
    {
        int line = 1 + _text.AsSpan(0, Math.Min(_at, _text.Length)).Count('\n');
        return new GrammarException($"Line {line} of the grammar: {what}.");
    }
}
