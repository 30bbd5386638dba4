using System.Text;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>
/// What a grammar without recursion matches, by Brzozowski's derivatives: slow, without automata, stacks or trees, and so a twin of
/// the machine that shares nothing with it.
/// </summary>
internal sealed class DerivativeReference
{
    // Enough bytes to complete any text over the tests' characters, and any character that was begun.
    private static readonly byte[] s_bytes = [.. Encoding.UTF8.GetBytes("abcdé日😀\" ").Concat(new byte[] { 0x80, 0x90, 0xA0, 0xC2 }).Distinct()];

    private static readonly Dictionary<string, HashSet<uint>> s_prefixes = [];

    private readonly Dictionary<(string, byte), Term> _derivatives = [];
    private readonly Dictionary<string, bool> _alive = [];
    private readonly Dictionary<GrammarNode, Term> _terms = [];

    private abstract record Term(string Key, bool IsEmpty)
    {
        public sealed override string ToString() => Key;
    }

    private sealed record Never() : Term("0", false);

    private sealed record Nothing() : Term("1", true);

    private sealed record Character(HashSet<uint> Prefixes, string Class, uint Read) : Term($"[{Class}@{Read:x}]", false);

    private sealed record Then(Term A, Term B) : Term($"({A}.{B})", A.IsEmpty && B.IsEmpty);

    private sealed record Or(Term[] Options, string Name) : Term(Name, Options.Any(static o => o.IsEmpty));

    private sealed record Both(Term A, Term B) : Term($"({A}&{B})", A.IsEmpty && B.IsEmpty);

    private sealed record Less(Term A, Term B) : Term($"({A}-{B})", A.IsEmpty && !B.IsEmpty);

    private sealed record Times(Term Body, int Min, int? Max) : Term($"{{{Body},{Min},{Max}}}", Min == 0 || Body.IsEmpty);

    private Term _at;

    public DerivativeReference(GrammarNode root) => _at = TermOf(root);

    private DerivativeReference(DerivativeReference other)
    {
        (_derivatives, _alive, _terms, _at) = (other._derivatives, other._alive, other._terms, other._at);
    }

    public bool IsComplete => _at.IsEmpty;

    /// <summary>Some text completes what was read so far.</summary>
    public bool IsAlive => Alive(_at);

    public DerivativeReference After(ReadOnlySpan<byte> bytes)
    {
        DerivativeReference next = new(this);
        foreach (byte value in bytes) next._at = Derive(next._at, value);
        return next;
    }

    private Term TermOf(GrammarNode node)
    {
        if (_terms.TryGetValue(node, out Term? known)) return known;
        return _terms[node] = node switch
        {
            GrammarLiteral literal => literal.Text.EnumerateRunes().Select(static r => OneOf([new(r.Value, r.Value)])).Aggregate<Term, Term>(new Nothing(), Join),
            GrammarChars chars => OneOf(chars.Ranges),
            GrammarSequence sequence => sequence.Parts.Select(TermOf).Aggregate<Term, Term>(new Nothing(), Join),
            GrammarChoice choice => Any(choice.Options.Select(TermOf)),
            GrammarRepeat repeat when TermOf(repeat.Body) is var body => body is not Never ? new Times(body, repeat.Min, repeat.Max) : repeat.Min == 0 ? new Nothing() : body,
            GrammarBoth both => both.IsNegated ? new Less(TermOf(both.A), TermOf(both.B)) : new Both(TermOf(both.A), TermOf(both.B)),
            GrammarRule rule => TermOf(rule.Body!),
            _ => throw new NotSupportedException(),
        };
    }

    private static Term OneOf(IReadOnlyList<CodePointRange> ranges)
    {
        string name = string.Join(",", ranges.Select(static r => $"{r.First:x}-{r.Last:x}"));
        if (!s_prefixes.TryGetValue(name, out HashSet<uint>? prefixes))
        {
            prefixes = [];
            byte[] buffer = new byte[4];
            foreach (CodePointRange range in ranges)
            {
                for (int c = range.First; c <= range.Last; c++)
                {
                    if (!Rune.TryCreate(c, out Rune rune)) continue;
                    int length = rune.EncodeToUtf8(buffer);
                    uint read = 1;   // a leading one, so that lengths differ
                    for (int i = 0; i < length; i++)
                    {
                        read = i == 3 ? read ^ 0x5A000000 ^ ((uint)buffer[i] * 2654435761u) : read << 8 | buffer[i];
                        prefixes.Add(i == length - 1 ? ~read : read);
                    }
                }
            }
            lock (s_prefixes) s_prefixes[name] = prefixes;
        }
        return prefixes.Count == 0 ? new Never() : new Character(prefixes, name, 1);
    }

    private static Term Join(Term a, Term b) => (a, b) switch
    {
        (Never, _) or (_, Never) => new Never(),
        (Nothing, _) => b,
        (_, Nothing) => a,
        (Then(var first, var second), _) => Join(first, Join(second, b)),
        _ => new Then(a, b),
    };

    private static Term Any(IEnumerable<Term> options)
    {
        Term[] distinct = [.. options.SelectMany(static o => o is Or or ? or.Options : [o]).Where(static o => o is not Never)
            .DistinctBy(static o => o.Key).OrderBy(static o => o.Key, StringComparer.Ordinal)];
        return distinct.Length == 0 ? new Never() : distinct.Length == 1 ? distinct[0] : new Or(distinct, $"({string.Join('|', distinct.Select(static o => o.Key))})");
    }

    private Term Derive(Term term, byte value)
    {
        if (_derivatives.TryGetValue((term.Key, value), out Term? known)) return known;
        Term next = term switch
        {
            Character c => Read(c, value),
            Then t => t.A.IsEmpty ? Any([Join(Derive(t.A, value), t.B), Derive(t.B, value)]) : Join(Derive(t.A, value), t.B),
            Or or => Any(or.Options.Select(o => Derive(o, value))),
            Both both => Derive(both.A, value) is var a && Derive(both.B, value) is var b && (a is Never || b is Never) ? new Never() : new Both(Derive(both.A, value), Derive(both.B, value)),
            Less less => (Derive(less.A, value), Derive(less.B, value)) switch
            {
                (Never, _) => new Never(),
                (var a, Never) => a,
                var (a, b) => new Less(a, b),
            },
            Times { Max: 0 } => new Never(),
            Times times => Join(Derive(times.Body, value), times.Max == 1 ? new Nothing() : new Times(times.Body, Math.Max(0, times.Min - 1), times.Max - 1)),
            _ => new Never(),
        };
        return _derivatives[(term.Key, value)] = next;
    }

    private static Term Read(Character c, byte value)
    {
        uint read = c.Read >= 1u << 24 ? c.Read ^ 0x5A000000 ^ (value * 2654435761u) : c.Read << 8 | value;
        if (c.Prefixes.Contains(~read)) return new Nothing();
        return c.Prefixes.Contains(read) ? c with { Read = read, Key = $"[{c.Class}@{read:x}]" } : new Never();
    }

    private bool Alive(Term term)
    {
        switch (term)
        {
            case Then then: return Alive(then.A) && Alive(then.B);
            case Or or: return or.Options.Any(Alive);
            case Times times: return times.Min == 0 || Alive(times.Body);
            case not (Both or Less): return term is not Never;
        }
        if (_alive.TryGetValue(term.Key, out bool known)) return known;
        HashSet<string> seen = [term.Key];
        Queue<Term> open = new([term]);
        while (open.TryDequeue(out Term? next))
        {
            if (next.IsEmpty || _alive.GetValueOrDefault(next.Key)) return _alive[term.Key] = true;
            foreach (byte value in s_bytes)
                if (Derive(next, value) is var derived and not Never && seen.Add(derived.Key)) open.Enqueue(derived);
        }
        foreach (string dead in seen) _alive[dead] = false;
        return false;
    }
}
