using System.Text;

namespace GemmaServer.Text;

/// <summary>Reads a subset of Lark's notation for grammars, the one that servers of models take.</summary>
/// <remarks>
/// Rules <c>name: …</c> and terminals <c>NAME: …</c> with <c>"text"</c>, <c>"text"i</c>, <c>"a".."z"</c>, <c>/regex/</c> (flags
/// <c>i s u</c>), groups, <c>[optional]</c>, <c>|</c>, <c>? * + ~n ~n..m {m,n}</c>, <c>%import common.NAME</c> and <c>%ignore</c>. The
/// whole answer is the rule <c>start</c>. Priorities, aliases and the prefixes <c>?</c> and <c>!</c> say nothing about texts and are
/// passed over. What is ignored may stand behind each text and terminal of a rule, never inside a terminal and not before the first.
/// A terminal matches whatever its expression does: there is no lexer that always takes the longest.
/// </remarks>
public sealed class LarkGrammar
{
    private const int MaxDepth = 500;

    private readonly LarkScanner _scan;
    private readonly Dictionary<string, GrammarRule> _rules = new(StringComparer.Ordinal);
    private readonly List<GrammarNode> _ignored = [];
    private readonly GrammarRule _gap = new("%ignore");
    private readonly bool _hasGaps;
    private int _depth;
    private bool _inTerminal;

    private LarkGrammar(string text)
    {
        _scan = new LarkScanner(text);
        // Whether anything is ignored is said anywhere, and costs those nothing that have none.
        _hasGaps = text.Contains("%ignore", StringComparison.Ordinal);
    }

    /// <summary>The rule <c>start</c>.</summary>
    /// <exception cref="GrammarException">The text is no grammar, or has what is not supported; the message names the line.</exception>
    public static GrammarNode Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return new LarkGrammar(text).ParseItems();
    }

    /// <summary>Whether a text is one of Lark's rather than GBNF: whether it begins with <c>name:</c> or a directive.</summary>
    public static bool IsLikely(string text)
    {
        LarkScanner scan = new(text);
        return scan.Current == '%' || scan.AtDefinition;
    }

    private static bool IsTerminal(string name) => char.IsAsciiLetterUpper(name.AsSpan().TrimStart('_') is { Length: > 0 } rest ? rest[0] : 'a');

    private GrammarNode ParseItems()
    {
        while (!_scan.AtEnd)
        {
            if (_scan.Take('%')) Directive();
            else Definition();
        }
        foreach (GrammarRule rule in _rules.Values)
            if (rule.Body is null) throw new GrammarException($"The {(IsTerminal(rule.Name) ? "terminal" : "rule")} '{rule.Name}' is not defined.");
        _gap.Body = GrammarParts.Times(GrammarParts.Alt([.. _ignored]), 0, null);
        return _rules.TryGetValue("start", out GrammarRule? start) ? start : throw new GrammarException("The grammar has no rule 'start'.");
    }

    private void Definition()
    {
        while (_scan.Take('?') || _scan.Take('!')) { }
        string name = _scan.Name();
        if (_scan.Take('.'))
        {
            _scan.Take('-');
            _scan.Number();
        }
        if (_scan.Current == '{') throw _scan.Wrong("templates are not supported");
        if (_scan.Current == '[') throw _scan.Wrong("attributes of rules are not supported");
        if (!_scan.Take(':')) throw _scan.Wrong($"':' is missing behind '{name}'");
        _inTerminal = IsTerminal(name);
        Define(name, Alternatives());
        if (!_scan.AtEnd && _scan.Current != '%' && !_scan.AtDefinition) throw _scan.Wrong($"'{_scan.Current}' is not expected");
    }

    private void Define(string name, GrammarNode body)
    {
        GrammarRule rule = Rule(name);
        if (rule.Body is not null) throw _scan.Wrong($"'{name}' is defined twice");
        rule.Body = body;
    }

    private GrammarRule Rule(string name)
    {
        if (!_rules.TryGetValue(name, out GrammarRule? rule)) _rules.Add(name, rule = new GrammarRule(name));
        return rule;
    }

    private void Directive()
    {
        string kind = _scan.Name();
        switch (kind)
        {
            case "ignore":
                _inTerminal = true;
                _ignored.Add(Alternatives());
                break;
            case "import": Import(); break;
            case "llguidance" when _scan.Take('{') && _scan.Take('}'): break;      // its way to say that this is Lark
            default: throw _scan.Wrong($"'%{kind}' is not supported");
        }
    }

    private void Import()
    {
        if (_scan.Current == '.' || _scan.Name() != "common") throw _scan.Wrong("only the library 'common' can be imported");
        if (_scan.Take('.'))
        {
            string name = _scan.Name();
            Import(name, _scan.Take("->") ? _scan.Name() : name);
            return;
        }
        _scan.Expect('(');
        do
        {
            string name = _scan.Name();
            Import(name, name);
        }
        while (_scan.Take(','));
        _scan.Expect(')');
    }

    private void Import(string name, string alias)
    {
        if (!IsTerminal(alias)) throw _scan.Wrong($"'{alias}' is no terminal's name");
        Define(alias, LarkCommon.Find(name) ?? throw _scan.Wrong($"the library 'common' has no '{name}'"));
    }

    private GrammarNode Alternatives()
    {
        if (++_depth > MaxDepth) throw _scan.Wrong($"groups are nested deeper than {MaxDepth}");
        List<GrammarNode> options = [];
        do
        {
            options.Add(Sequence());
            if (_scan.Take("->")) _scan.Name();
        }
        while (_scan.Take('|'));
        _depth--;
        return options.Count == 1 ? options[0] : GrammarNode.Choice([.. options]);
    }

    private GrammarNode Sequence()
    {
        List<GrammarNode> parts = [];
        while (!_scan.AtDefinition && Element() is { } part) parts.Add(Repeated(part));
        return parts.Count == 1 ? parts[0] : GrammarNode.Sequence([.. parts]);
    }

    private GrammarNode? Element()
    {
        switch (_scan.Current)
        {
            case '"' or '\'': return Lexeme(Text());
            case '/': return Lexeme(Regex());
            case '(': return Group(')');
            case '[': return GrammarNode.Optional(Group(']'));
            case '<': throw _scan.Wrong("tokens ('<...>') are not supported");
            case '@': throw _scan.Wrong("grammars of other names ('@...') are not supported");
            case '{': throw _scan.Wrong("templates are not supported");
            case '&' or '~': throw _scan.Wrong($"'{_scan.Current}' is not supported here");
            case var c when LarkScanner.IsNameStart(c):
                string name = _scan.Name();
                if (IsTerminal(name)) return Lexeme(Rule(name));
                return _inTerminal ? throw _scan.Wrong($"a terminal cannot use the rule '{name}'") : Rule(name);
            default: return null;
        }
    }

    private GrammarNode Group(char end)
    {
        _scan.Take(_scan.Current);
        GrammarNode group = Alternatives();
        _scan.Expect(end);
        return group;
    }

    private GrammarNode Lexeme(GrammarNode node) => _hasGaps && !_inTerminal ? GrammarNode.Sequence(node, _gap) : node;

    private GrammarNode Repeated(GrammarNode part)
    {
        while (true)
        {
            (int Min, int? Max) bounds;
            if (_scan.Take('*')) bounds = (0, null);
            else if (_scan.Take('+')) bounds = (1, null);
            else if (_scan.Current == '?' && !_scan.AtDefinition && _scan.Take('?')) bounds = (0, 1);
            else if (_scan.Take('~')) bounds = Bounds();
            else if (_scan.Take('{')) bounds = Braced();
            else return part;
            if (bounds.Max < bounds.Min) throw _scan.Wrong($"{bounds.Min} to {bounds.Max} is an impossible repetition");
            part = GrammarNode.Repeat(part, bounds.Min, bounds.Max);
        }
    }

    private (int Min, int? Max) Bounds()
    {
        int min = _scan.Number();
        return (min, _scan.Take("..") ? _scan.Number() : min);
    }

    private (int Min, int? Max) Braced()
    {
        if (_scan.Current != ',' && !char.IsAsciiDigit(_scan.Current)) throw _scan.Wrong("templates are not supported");
        int min = _scan.Current == ',' ? 0 : _scan.Number();
        int? max = min;
        if (_scan.Take(',')) max = _scan.Current == '}' ? null : _scan.Number();
        _scan.Expect('}');
        return (min, max);
    }

    private GrammarNode Text()
    {
        string text = _scan.Quoted();
        bool ignoreCase = _scan.Flags("i").Length > 0;
        if (!_scan.Take("..")) return ignoreCase ? AnyCase(text) : GrammarNode.Literal(text);
        if (_scan.Current is not ('"' or '\'')) throw _scan.Wrong("a range of characters needs two texts");
        string other = _scan.Quoted();
        if (ignoreCase || !IsCharacter(text, out int first) || !IsCharacter(other, out int last)) throw _scan.Wrong("a range of characters needs two texts of one character");
        return last < first ? throw _scan.Wrong("a range of characters is upside down") : GrammarNode.Chars(new CodePointRange(first, last));
    }

    private static bool IsCharacter(string text, out int value)
    {
        bool isRune = Rune.TryGetRuneAt(text.Length == 0 ? "\uD800" : text, 0, out Rune rune);
        value = rune.Value;
        return isRune && rune.Utf16SequenceLength == text.Length;
    }

    private static GrammarNode AnyCase(string text)
    {
        List<GrammarNode> characters = [];
        foreach (Rune rune in text.EnumerateRunes())
            characters.Add(GrammarNode.Chars(UnicodeSets.WithOtherCases([new CodePointRange(rune.Value, rune.Value)])));
        return GrammarNode.Sequence([.. characters]);
    }

    private GrammarNode Regex()
    {
        string pattern = _scan.Pattern();
        string flags = _scan.Flags("imslux");
        if (flags.AsSpan().IndexOfAny("mlx") >= 0) throw _scan.Wrong("of a regular expression's flags only 'i', 's' and 'u' are supported");
        try
        {
            return RegexGrammar.Parse((flags.Contains('i') ? "(?i)" : "") + (flags.Contains('s') ? "(?s)" : "") + pattern, anchored: true);
        }
        catch (GrammarException e)
        {
            throw _scan.Wrong($"/{pattern}/: {e.Message.TrimEnd('.')}");
        }
    }
}
