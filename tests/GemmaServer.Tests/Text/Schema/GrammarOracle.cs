using System.Text;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>
/// Says whether a text matches a grammar, by Brzozowski derivatives over code points and tokens: slow, short, and nothing in common with
/// the automaton or the compiler. A special token is a symbol of its own, written as a negative number.
/// </summary>
internal sealed class GrammarOracle
{
    private readonly Dictionary<(Kind, string), Term> _terms = [];
    private readonly Dictionary<GrammarNode, Term> _converted = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<(Term, int), Term> _derived = [];
    private readonly Term _nothing, _empty;
    private readonly Term _root;

    public GrammarOracle(GrammarNode grammar)
    {
        _nothing = Make(Kind.Nothing, "");
        _empty = Make(Kind.Empty, "");
        _root = Convert(grammar);
    }

    private enum Kind { Nothing, Empty, Chars, Token, Sequence, Choice, Repeat, Both, Except, Lazy }

    public static int Token(int id) => -1 - id;

    public static List<int> Symbols(string text) => [.. text.EnumerateRunes().Select(r => r.Value)];

    public bool Matches(string text) => Matches(Symbols(text));

    public bool Matches(IEnumerable<int> symbols)
    {
        Term state = _root;
        foreach (int symbol in symbols)
        {
            state = Derive(state, symbol);
            if (state == _nothing) return false;
        }
        return IsNullable(state);
    }

    private Term Make(Kind kind, string key, params Term[] parts)
    {
        string full = key + "|" + string.Join(',', parts.Select(p => p.Id));
        if (!_terms.TryGetValue((kind, full), out Term? term)) _terms[(kind, full)] = term = new(kind, parts, _terms.Count);
        return term;
    }

    private Term Convert(GrammarNode node)
    {
        if (_converted.TryGetValue(node, out Term? known)) return known;
        Term term = node switch
        {
            GrammarLiteral literal => Sequence([.. literal.Text.EnumerateRunes().Select(r => Chars([new(r.Value, r.Value)]))]),
            GrammarChars chars => Chars(chars.Ranges),
            GrammarToken token => Chars([new(Token(token.Id), Token(token.Id))]),
            GrammarSequence sequence => Sequence([.. sequence.Parts.Select(Convert)]),
            GrammarChoice choice => Choice([.. choice.Options.Select(Convert)]),
            GrammarRepeat repeat => Repeat(Convert(repeat.Body), repeat.Min, repeat.Max),
            GrammarBoth { IsNegated: false } both => Both(Convert(both.A), Convert(both.B)),
            GrammarBoth both => Except(Convert(both.A), Convert(both.B)),
            _ => Make(Kind.Lazy, "rule" + _converted.Count),
        };
        if (node is GrammarRule rule) term.Rule = rule;
        return _converted[node] = term;
    }

    private Term Chars(IReadOnlyList<CodePointRange> ranges)
    {
        if (ranges.Count == 0) return _nothing;
        Term term = Make(Kind.Chars, string.Join(';', ranges.Select(r => $"{r.First}-{r.Last}")));
        term.Ranges = ranges;
        return term;
    }

    private Term Sequence(params Term[] parts)
    {
        if (parts.Contains(_nothing)) return _nothing;
        Term[] kept = [.. parts.SelectMany(p => p.Kind == Kind.Sequence ? p.Parts : [p]).Where(p => p != _empty)];
        return kept.Length switch { 0 => _empty, 1 => kept[0], _ => Make(Kind.Sequence, "", kept) };
    }

    private Term Choice(params Term[] parts)
    {
        Term[] kept = [.. parts.SelectMany(p => p.Kind == Kind.Choice ? p.Parts : [p]).Where(p => p != _nothing).Distinct().OrderBy(p => p.Id)];
        return kept.Length switch { 0 => _nothing, 1 => kept[0], _ => Make(Kind.Choice, "", kept) };
    }

    private Term Repeat(Term body, int min, int? max)
    {
        if (max < min) return _nothing;
        if (max == 0) return _empty;
        Term term = Make(Kind.Repeat, $"{min}-{max}", body);
        (term.Min, term.Max) = (min, max);
        return term;
    }

    private Term Both(Term a, Term b) => a == _nothing || b == _nothing ? _nothing : a == b ? a : Make(Kind.Both, "", a, b);

    private Term Except(Term a, Term b) => a == _nothing || a == b ? _nothing : b == _nothing ? a : Make(Kind.Except, "", a, b);

    private bool IsNullable(Term term)
    {
        if (term.IsNullable is { } known) return known;
        if (term.Kind == Kind.Lazy)
        {
            term.IsNullable = false;   // while it is being asked: a rule is not empty because of itself
            return (term.IsNullable = IsNullable(Convert(term.Rule!.Body!))).Value;
        }
        return (term.IsNullable = term.Kind switch
        {
            Kind.Empty => true,
            Kind.Sequence => term.Parts.All(IsNullable),
            Kind.Choice => term.Parts.Any(IsNullable),
            Kind.Repeat => term.Min == 0 || IsNullable(term.Parts[0]),
            Kind.Both => IsNullable(term.Parts[0]) && IsNullable(term.Parts[1]),
            Kind.Except => IsNullable(term.Parts[0]) && !IsNullable(term.Parts[1]),
            _ => false,
        }).Value;
    }

    private Term Derive(Term term, int symbol)
    {
        if (_derived.TryGetValue((term, symbol), out Term? known)) return known;
        return _derived[(term, symbol)] = term.Kind switch
        {
            Kind.Chars => term.Ranges.Any(r => r.First <= symbol && symbol <= r.Last) ? _empty : _nothing,
            Kind.Sequence => DeriveSequence(term, symbol),
            Kind.Choice => Choice([.. term.Parts.Select(p => Derive(p, symbol))]),
            Kind.Repeat => Sequence(Derive(term.Parts[0], symbol), Repeat(term.Parts[0], Math.Max(0, term.Min - 1), term.Max - 1)),
            Kind.Both => Both(Derive(term.Parts[0], symbol), Derive(term.Parts[1], symbol)),
            Kind.Except => Except(Derive(term.Parts[0], symbol), Derive(term.Parts[1], symbol)),
            Kind.Lazy => Derive(Convert(term.Rule!.Body!), symbol),
            _ => _nothing,
        };
    }

    private Term DeriveSequence(Term term, int symbol)
    {
        List<Term> options = [];
        for (int i = 0; i < term.Parts.Length; i++)
        {
            options.Add(Sequence([Derive(term.Parts[i], symbol), .. term.Parts[(i + 1)..]]));
            if (!IsNullable(term.Parts[i])) break;
        }
        return Choice([.. options]);
    }

    private sealed class Term(Kind kind, Term[] parts, int id)
    {
        public Kind Kind => kind;

        public Term[] Parts => parts;

        public int Id => id;

        public IReadOnlyList<CodePointRange> Ranges { get; set; } = [];

        public int Min { get; set; }

        public int? Max { get; set; }

        public GrammarRule? Rule { get; set; }

        public bool? IsNullable { get; set; }
    }
}
