using System.Runtime.CompilerServices;
using System.Text;

namespace GemmaServer.Text;

/// <summary>Whether one short text, a name or a value of the schema itself, matches a regular grammar. Nothing is compiled for it.</summary>
internal sealed class GrammarText
{
    private const int MaxSteps = 50_000;

    private readonly int[] _text;
    private readonly Dictionary<(Reference, int), int[]> _known = [];
    private int _steps;

    private GrammarText(string text) => _text = [.. text.EnumerateRunes().Select(r => r.Value)];

    /// <exception cref="GrammarException">It takes too long to tell.</exception>
    public static bool IsMatch(GrammarNode node, string text)
    {
        GrammarText matcher = new(text);
        return matcher.Ends(node, 0).Contains(matcher._text.Length);
    }

    /// <summary>Where a match that starts there may end.</summary>
    private int[] Ends(GrammarNode node, int start)
    {
        if (_known.TryGetValue((new(node), start), out int[]? ends)) return ends;
        RuntimeHelpers.EnsureSufficientExecutionStack();
        if (++_steps > MaxSteps) throw new GrammarException("A pattern takes too long to match with a value of the schema.");
        ends = node switch
        {
            GrammarLiteral literal => AfterLiteral(literal.Text, start),
            GrammarChars chars => start < _text.Length && chars.Ranges.Any(r => _text[start] >= r.First && _text[start] <= r.Last) ? [start + 1] : [],
            GrammarSequence sequence => sequence.Parts.Aggregate(new[] { start }, After),
            GrammarChoice choice => [.. choice.Options.SelectMany(o => Ends(o, start)).Distinct()],
            GrammarRepeat repeat => AfterRepeat(repeat, start),
            GrammarBoth { IsNegated: false } both => [.. Ends(both.A, start).Intersect(Ends(both.B, start))],
            GrammarBoth both => [.. Ends(both.A, start).Except(Ends(both.B, start))],
            GrammarRule rule => Ends(rule.Body!, start),
            _ => [],
        };
        return _known[(new(node), start)] = ends;
    }

    private int[] After(int[] starts, GrammarNode node) => [.. starts.SelectMany(s => Ends(node, s)).Distinct()];

    private int[] AfterLiteral(string literal, int start)
    {
        foreach (Rune rune in literal.EnumerateRunes())
            if (start == _text.Length || _text[start++] != rune.Value) return [];
        return [start];
    }

    private int[] AfterRepeat(GrammarRepeat repeat, int start)
    {
        HashSet<int> ends = repeat.Min == 0 ? [start] : [];
        int[] current = [start];
        for (int i = 1; current.Length > 0 && (repeat.Max is null || i <= repeat.Max); i++)
        {
            if (++_steps > MaxSteps) throw new GrammarException("A pattern takes too long to match with a value of the schema.");
            int[] next = After(current, repeat.Body);
            if (i >= repeat.Min)
            {
                int before = ends.Count;
                ends.UnionWith(next);
                // Nothing new can come any more, in an endless loop over the empty text either.
                if (ends.Count == before && next.All(current.Contains)) break;
            }
            current = next;
        }
        return [.. ends];
    }

    private readonly record struct Reference(GrammarNode Node)
    {
        public bool Equals(Reference other) => ReferenceEquals(Node, other.Node);

        public override int GetHashCode() => RuntimeHelpers.GetHashCode(Node);
    }
}
