namespace GemmaServer.Text;

/// <summary>
/// Reads regular expressions of ECMA-262, as JSON Schema uses them, over code points (its <c>u</c> mode), with the leniencies of
/// web browsers.
/// </summary>
/// <remarks>
/// Lazy quantifiers match the same texts as greedy ones. Word boundaries, lookaround and back references cannot be followed and are
/// refused, and so are anchors inside a repetition. <c>(?i)</c> and <c>(?s)</c> are taken, at the start or for a group.
/// </remarks>
public sealed class RegexGrammar
{
    private const int MaxDepth = 500;
    private const int MaxRepetitions = 1_000_000;

    private readonly RegexScanner _scan;
    private bool _ignoreCase, _dotAll;
    private int _depth;

    private RegexGrammar(string pattern) => _scan = new RegexScanner(pattern);

    /// <summary>The texts a pattern matches.</summary>
    /// <param name="pattern">The regular expression.</param>
    /// <param name="anchored">True: the whole text. False: a part of it, wherever <c>^</c> and <c>$</c> do not say otherwise.</param>
    /// <exception cref="GrammarException">The pattern is damaged, or has what cannot be followed.</exception>
    public static GrammarNode Parse(string pattern, bool anchored)
    {
        ArgumentNullException.ThrowIfNull(pattern);
        RegexGrammar parser = new(pattern);
        RegexPart whole = parser.Alternatives();
        if (!parser._scan.AtEnd) throw parser._scan.Wrong("')' has no '(' before it");
        return anchored ? whole.Exactly() : whole.Anywhere();
    }

    private RegexPart Alternatives()
    {
        if (++_depth > MaxDepth) throw _scan.Wrong($"groups are nested deeper than {MaxDepth}");
        List<RegexPart> options = [Sequence()];
        while (_scan.Take('|')) options.Add(Sequence());
        _depth--;
        return RegexPart.Choice(options);
    }

    private RegexPart Sequence()
    {
        List<RegexPart> parts = [];
        while (!_scan.AtEnd && _scan.Current is not ('|' or ')'))
        {
            RegexPart? part = Atom();
            if (part is not null) parts.Add(Repeated(part));
        }
        return RegexPart.Sequence(parts);
    }

    private RegexPart Repeated(RegexPart part)
    {
        if (_scan.Bounds(MaxRepetitions) is not var (min, max)) return part;
        _scan.Take('?');
        if (_scan.Current is '*' or '+' or '?') throw _scan.Wrong($"'{_scan.Current}' has nothing to repeat");
        return part.Repeat(min, max) ?? throw _scan.Wrong("an anchor inside a repetition is not supported");
    }

    /// <summary>Null for what matches nothing by itself: flags.</summary>
    private RegexPart? Atom()
    {
        char c = _scan.Current;
        switch (c)
        {
            case '(': return Group();
            case '[':
                _scan.Skip(1);
                return Characters(new RegexClass(_scan).Read(_ignoreCase));
            case '.':
                _scan.Skip(1);
                return Characters(_dotAll ? [new(0, CodePointSet.Last)] : RegexClass.NotLineEnds);
            case '^':
                _scan.Skip(1);
                return RegexPart.Start;
            case '$':
                _scan.Skip(1);
                return RegexPart.End;
            case '*' or '+' or '?': throw _scan.Wrong($"'{c}' has nothing to repeat");
            case '{' when _scan.LooksLikeBounds: throw _scan.Wrong("'{' has nothing to repeat");
            case '\\': return Escape();
            default: return Character(_scan.CodePoint());
        }
    }

    private RegexPart Escape()
    {
        char kind = _scan.Peek(1);
        switch (kind)
        {
            case 'b' or 'B': throw _scan.Wrong($"a word boundary ('\\{kind}') is not supported");
            case >= '1' and <= '9' or 'k': throw _scan.Wrong("a back reference is not supported");
            default:
                RegexClass set = new(_scan);
                return set.TryReadSet(out CodePointRange[] ranges) ? Characters(set.Cased(ranges, _ignoreCase)) : Character(_scan.Escape(inClass: false));
        }
    }

    private RegexPart? Group()
    {
        bool ignoreCase = _ignoreCase, dotAll = _dotAll;
        _scan.Skip(1);
        if (_scan.Take('?'))
        {
            if (_scan.Current is '=' or '!') throw _scan.Wrong("lookahead ('(?=', '(?!') is not supported");
            if (_scan.Current == '<')
            {
                if (_scan.Peek(1) is '=' or '!') throw _scan.Wrong("lookbehind ('(?<=', '(?<!') is not supported");
                _scan.GroupName();
            }
            else if (!Flags()) return null;   // for the rest of this group or pattern
        }
        RegexPart inner = Alternatives();
        if (!_scan.Take(')')) throw _scan.Wrong("a group does not end");
        (_ignoreCase, _dotAll) = (ignoreCase, dotAll);
        return inner;
    }

    /// <summary>True where a group follows.</summary>
    private bool Flags()
    {
        bool isOn = true;
        while (true)
        {
            char c = _scan.Current;
            if (_scan.AtEnd) throw _scan.Wrong("a group does not end");
            _scan.Skip(1);
            switch (c)
            {
                case 'i': _ignoreCase = isOn; break;
                case 's': _dotAll = isOn; break;
                case '-': isOn = false; break;
                case ':': return true;
                case ')': return false;
                default: throw _scan.Wrong($"a group that starts with '(?{c}' is not supported");
            }
        }
    }

    private RegexPart Character(int codePoint) =>
        Characters(new RegexClass(_scan).Cased([new(codePoint, codePoint)], _ignoreCase));

    private static RegexPart Characters(CodePointRange[] ranges) => RegexPart.Of(GrammarNode.Chars(ranges));
}
