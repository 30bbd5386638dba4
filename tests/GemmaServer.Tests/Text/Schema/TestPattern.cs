using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>A plain regular expression for schema tests: letters, classes, groups, alternatives, counts, and anchors at either end.</summary>
internal sealed class TestPattern
{
    private static readonly GrammarNode s_anyText = GrammarNode.Repeat(GrammarNode.AnyChar, 0, null);

    private readonly string _text;
    private int _at;

    private TestPattern(string text) => _text = text;

    /// <summary>Every text in which the pattern is found.</summary>
    public static GrammarNode Read(string pattern)
    {
        List<GrammarNode> options = [];
        TestPattern reader = new(pattern);
        do
        {
            bool isStart = reader.Skip('^');
            GrammarNode body = reader.Sequence();
            bool isEnd = reader.Skip('$');
            options.Add(GrammarNode.Sequence(isStart ? GrammarNode.Empty : s_anyText, body, isEnd ? GrammarNode.Empty : s_anyText));
        }
        while (reader.Skip('|'));
        if (reader._at < pattern.Length) throw new GrammarException($"The pattern '{pattern}' is not understood.");
        return GrammarNode.Choice([.. options]);
    }

    private char Peek => _at < _text.Length ? _text[_at] : '\0';

    private bool Skip(char c)
    {
        if (Peek != c || _at >= _text.Length) return false;
        _at++;
        return true;
    }

    private GrammarNode Alternatives()
    {
        List<GrammarNode> options = [Sequence()];
        while (Skip('|')) options.Add(Sequence());
        return GrammarNode.Choice([.. options]);
    }

    private GrammarNode Sequence()
    {
        List<GrammarNode> parts = [];
        while (_at < _text.Length && Peek is not ('|' or ')' or '$')) parts.Add(Counted(Atom()));
        return GrammarNode.Sequence([.. parts]);
    }

    private GrammarNode Counted(GrammarNode atom)
    {
        if (Skip('*')) return GrammarNode.Repeat(atom, 0, null);
        if (Skip('+')) return GrammarNode.Repeat(atom, 1, null);
        if (Skip('?')) return GrammarNode.Optional(atom);
        if (!Skip('{')) return atom;
        int close = _text.IndexOf('}', _at);
        string[] counts = _text[_at..close].Split(',');
        _at = close + 1;
        int min = int.Parse(counts[0]);
        return GrammarNode.Repeat(atom, min, counts.Length == 1 ? min : counts[1].Length == 0 ? null : int.Parse(counts[1]));
    }

    private GrammarNode Atom()
    {
        char c = _text[_at++];
        switch (c)
        {
            case '.': return GrammarNode.Chars(new(0, 9), new(11, 12), new(14, 0x2027), new(0x202A, 0x10FFFF));
            case '[': return Class();
            case '(':
                if (Peek == '?') _at += 2;
                GrammarNode group = Alternatives();
                if (!Skip(')')) throw new GrammarException("A group is not closed.");
                return group;
            case '\\': return GrammarNode.Chars([.. Escaped(_text[_at++])]);
            default:
                if (char.IsHighSurrogate(c)) return GrammarNode.Literal(_text.Substring(_at++ - 1, 2));
                return GrammarNode.Literal(c.ToString());
        }
    }

    private static List<CodePointRange> Escaped(char c) => c switch
    {
        'd' => [new('0', '9')],
        'w' => [new('a', 'z'), new('A', 'Z'), new('0', '9'), new('_', '_')],
        's' => [new(9, 13), new(' ', ' ')],
        'S' => [new(0, 8), new(14, 31), new('!', 0x10FFFF)],
        'n' => [new('\n', '\n')],
        _ => [new(c, c)],
    };

    private GrammarNode Class()
    {
        bool isNegated = Skip('^');
        List<CodePointRange> ranges = [];
        while (Peek != ']')
        {
            char c = _text[_at++];
            if (c == '\\') ranges.AddRange(Escaped(_text[_at++]));
            else if (Peek == '-' && _text[_at + 1] != ']')
            {
                ranges.Add(new(c, _text[_at + 1]));
                _at += 2;
            }
            else ranges.Add(new(c, c));
        }
        _at++;
        GrammarNode chars = GrammarNode.Chars([.. ranges]);
        return isNegated ? GrammarNode.Except(GrammarNode.AnyChar, chars) : chars;
    }
}
