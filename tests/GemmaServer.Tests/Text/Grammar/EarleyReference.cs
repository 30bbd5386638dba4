using System.Text;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>
/// What a grammar with recursion matches, by Earley's chart: one set of items for each byte, nothing kept between answers. The
/// grammar is first written out as plain rules over bytes.
/// </summary>
internal sealed class EarleyReference
{
    private readonly record struct Symbol(int Rule, byte First, byte Last)
    {
        public bool IsRule => Rule >= 0;
    }

    private readonly record struct Item(int Rule, int Option, int Dot, int Origin);

    private static readonly System.Collections.Concurrent.ConcurrentDictionary<string, List<Symbol[]>> s_classes = [];

    private readonly List<List<Symbol[]>> _rules = [];
    private readonly Dictionary<GrammarNode, int> _ids = [];
    private readonly bool[] _isEmpty, _isProductive;
    private readonly List<List<Item>> _chart = [];

    public EarleyReference(GrammarNode root)
    {
        RuleOf(root);
        _isEmpty = Fixpoint(static (symbol, known) => symbol.IsRule && known[symbol.Rule]);
        _isProductive = Fixpoint(static (symbol, known) => !symbol.IsRule || known[symbol.Rule]);
        List<Item> first = [];
        if (_isProductive[0]) AddAll(first, 0, 0);
        _chart.Add(first);
        Complete();
    }

    public bool IsComplete => _chart[^1].Any(item => item is { Rule: 0, Origin: 0 } && item.Dot == _rules[0][item.Option].Length);

    public bool TakesAnyByte => Enumerable.Range(0, 256).Any(value => CanRead([(byte)value]));

    public bool CanRead(ReadOnlySpan<byte> bytes)
    {
        int length = _chart.Count;
        bool isAlive = true;
        for (int i = 0; isAlive && i < bytes.Length; i++) isAlive = Scan(bytes[i]);
        _chart.RemoveRange(length, _chart.Count - length);
        return isAlive;
    }

    public void Read(ReadOnlySpan<byte> bytes)
    {
        foreach (byte value in bytes) Assert.True(Scan(value));
    }

    private bool Scan(byte value)
    {
        List<Item> next = [];
        foreach (Item item in _chart[^1])
        {
            if (NextSymbol(item) is { IsRule: false } symbol && symbol.First <= value && value <= symbol.Last) next.Add(item with { Dot = item.Dot + 1 });
        }
        if (next.Count == 0) return false;
        _chart.Add(next);
        Complete();
        return true;
    }

    private Symbol? NextSymbol(Item item) => item.Dot < _rules[item.Rule][item.Option].Length ? _rules[item.Rule][item.Option][item.Dot] : null;

    private void Complete()
    {
        int at = _chart.Count - 1;
        List<Item> set = _chart[at];
        HashSet<Item> seen = [.. set];
        for (int i = 0; i < set.Count; i++)
        {
            Item item = set[i];
            if (NextSymbol(item) is not { } symbol)
            {
                foreach (Item waiting in _chart[item.Origin].ToArray())
                    if (NextSymbol(waiting) is { IsRule: true } caller && caller.Rule == item.Rule) Add(waiting with { Dot = waiting.Dot + 1 });
            }
            else if (symbol.IsRule)
            {
                List<Item> predicted = [];
                AddAll(predicted, symbol.Rule, at);
                foreach (Item p in predicted) Add(p);
                if (_isEmpty[symbol.Rule]) Add(item with { Dot = item.Dot + 1 });
            }
        }

        void Add(Item item)
        {
            if (seen.Add(item)) set.Add(item);
        }
    }

    // Options that come to no end are left out, so that whatever is alive can be completed.
    private void AddAll(List<Item> set, int rule, int origin)
    {
        for (int option = 0; option < _rules[rule].Count; option++)
            if (_rules[rule][option].All(s => !s.IsRule || _isProductive[s.Rule])) set.Add(new(rule, option, 0, origin));
    }

    private bool[] Fixpoint(Func<Symbol, bool[], bool> holds)
    {
        bool[] known = new bool[_rules.Count];
        for (bool changed = true; changed;)
        {
            changed = false;
            for (int rule = 0; rule < known.Length; rule++)
            {
                if (known[rule] || !_rules[rule].Any(option => option.All(s => holds(s, known)))) continue;
                known[rule] = changed = true;
            }
        }
        return known;
    }

    private Symbol RuleOf(GrammarNode node)
    {
        if (_ids.TryGetValue(node, out int id)) return new(id, 0, 0);
        id = NewRule();
        _ids.Add(node, id);
        switch (node)
        {
            case GrammarLiteral literal: _rules[id].Add([.. Encoding.UTF8.GetBytes(literal.Text).Select(static b => new Symbol(-1, b, b))]); break;
            case GrammarChars chars: _rules[id].AddRange(s_classes.GetOrAdd(string.Join(',', chars.Ranges), _ => Characters(chars))); break;
            case GrammarSequence sequence: _rules[id].Add([.. sequence.Parts.Select(RuleOf)]); break;
            case GrammarChoice choice: _rules[id].AddRange(choice.Options.Select(o => new[] { RuleOf(o) })); break;
            case GrammarRule rule: _rules[id].Add([RuleOf(rule.Body!)]); break;
            case GrammarRepeat repeat:
                Symbol body = RuleOf(repeat.Body);
                Symbol[] least = [.. Enumerable.Repeat(body, repeat.Min)];
                if (repeat.Max is { } max)
                    for (int n = repeat.Min; n <= max; n++) _rules[id].Add([.. Enumerable.Repeat(body, n)]);
                else
                {
                    int more = NewRule();
                    _rules[more].Add([]);
                    _rules[more].Add([new(more, 0, 0), body]);
                    _rules[id].Add([.. least, new(more, 0, 0)]);
                }
                break;
            default: throw new NotSupportedException();
        }
        return new(id, 0, 0);
    }

    private int NewRule()
    {
        _rules.Add([]);
        return _rules.Count - 1;
    }

    /// <summary>By lengths of UTF-8, from the definition of the encoding, for sets as coarse as the tests have.</summary>
    private static List<Symbol[]> Characters(GrammarChars chars)
    {
        List<Symbol[]> options = [];
        Dictionary<(int, ulong), SortedSet<byte>> lasts = [];
        byte[] bytes = new byte[4];
        foreach (CodePointRange range in chars.Ranges)
        {
            for (int c = range.First; c <= range.Last; c++)
            {
                if (!Rune.TryCreate(c, out Rune rune)) continue;
                int length = rune.EncodeToUtf8(bytes);
                ulong lead = 0;
                for (int i = 0; i < length - 1; i++) lead = lead << 8 | bytes[i];
                if (!lasts.TryGetValue((length, lead), out SortedSet<byte>? set)) lasts.Add((length, lead), set = []);
                set.Add(bytes[length - 1]);
            }
        }
        // Leads are merged when all of what follows is the same, which keeps any character to a few options.
        foreach (var group in lasts.GroupBy(static p => (p.Key.Item1, p.Key.Item2 >> 8, p.Value.Min, p.Value.Max)))
        {
            (int length, ulong head, byte low, byte high) = group.Key;
            byte[] leads = [.. group.Select(static p => (byte)p.Key.Item2).Order()];
            for (int i = 0; i < leads.Length;)
            {
                int end = i;
                while (end + 1 < leads.Length && leads[end + 1] == leads[end] + 1) end++;
                List<Symbol> option = [];
                for (int at = length - 3; at >= 0; at--) option.Add(new(-1, (byte)(head >> (8 * at)), (byte)(head >> (8 * at))));
                if (length > 1) option.Add(new(-1, leads[i], leads[end]));
                AddLast(options, option, group.First().Value);
                i = end + 1;
            }
        }
        return options;
    }

    private static void AddLast(List<Symbol[]> options, List<Symbol> lead, SortedSet<byte> lasts)
    {
        byte[] values = [.. lasts];
        for (int i = 0; i < values.Length;)
        {
            int end = i;
            while (end + 1 < values.Length && values[end + 1] == values[end] + 1) end++;
            options.Add([.. lead, new(-1, values[i], values[end])]);
            i = end + 1;
        }
    }
}
