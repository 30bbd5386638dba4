using System.Text;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>Writes random texts of a grammar by walking down its nodes; deep down it takes the shortest way out.</summary>
internal sealed class GrammarWalker(Random random)
{
    private const int Endless = 1_000_000;

    private readonly Dictionary<GrammarNode, int> _heights = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<GrammarNode, GrammarOracle> _oracles = new(ReferenceEqualityComparer.Instance);

    /// <summary>Symbols as the oracle reads them; null where an intersection was not hit by chance.</summary>
    public List<int>? Walk(GrammarNode grammar, int budget = 40)
    {
        List<int> output = [];
        return Append(grammar, output, ref budget) ? output : null;
    }

    public static string TextOf(List<int> symbols, Func<int, string> token)
    {
        StringBuilder text = new();
        foreach (int symbol in symbols) text.Append(symbol < 0 ? token(-1 - symbol) : new Rune(symbol).ToString());
        return text.ToString();
    }

    private bool Append(GrammarNode node, List<int> output, ref int budget)
    {
        switch (node)
        {
            case GrammarLiteral literal:
                output.AddRange(GrammarOracle.Symbols(literal.Text));
                return true;
            case GrammarToken token:
                output.Add(GrammarOracle.Token(token.Id));
                return true;
            case GrammarChars chars:
                output.Add(Pick(chars));
                return true;
            case GrammarSequence sequence:
                foreach (GrammarNode part in sequence.Parts)
                    if (!Append(part, output, ref budget)) return false;
                return true;
            case GrammarChoice choice:
                GrammarNode[] options = [.. choice.Options.Where(o => Height(o) < Endless)];
                if (options.Length == 0) return false;
                budget--;
                return Append(budget > 0 ? options[random.Next(options.Length)] : options.MinBy(Height)!, output, ref budget);
            case GrammarRepeat repeat:
                int room = (repeat.Max ?? Endless) - repeat.Min, extra = 0;
                if (Height(repeat.Body) >= Endless) room = 0;
                while (extra < room && budget > 0 && random.Next(4) != 0) (extra, budget) = (extra + 1, budget - 1);
                for (int i = 0; i < repeat.Min + extra; i++)
                    if (!Append(repeat.Body, output, ref budget)) return false;
                return true;
            case GrammarBoth both:
                return AppendBoth(both, output);
            default:
                // Deep nesting is bounded by what readers take, which a grammar cannot count.
                budget--;
                return Append(((GrammarRule)node).Body!, output, ref budget);
        }
    }

    private bool AppendBoth(GrammarBoth both, List<int> output)
    {
        for (int attempt = 0; attempt < 60; attempt++)
        {
            (GrammarNode from, GrammarNode with) = both.IsNegated || attempt % 2 == 0 ? (both.A, both.B) : (both.B, both.A);
            List<int> text = [];
            int budget = random.Next(1, 40);
            if (!Append(from, text, ref budget)) continue;
            if (!_oracles.TryGetValue(with, out GrammarOracle? oracle)) _oracles[with] = oracle = new(with);
            if (oracle.Matches(text) == both.IsNegated) continue;
            output.AddRange(text);
            return true;
        }
        return false;
    }

    /// <summary>A character of the ranges, near their ends more often, and rather a readable one.</summary>
    private int Pick(GrammarChars chars)
    {
        for (int attempt = 0; ; attempt++)
        {
            CodePointRange range = chars.Ranges[random.Next(chars.Ranges.Count)];
            int c = random.Next(4) switch
            {
                0 => range.First,
                1 => range.Last,
                2 when range.First < 0x7F => random.Next(range.First, Math.Min(range.Last, 0x7E) + 1),
                _ => random.Next(range.First, range.Last + 1),
            };
            if (Rune.IsValid(c)) return c;
            if (attempt > 1000) throw new InvalidOperationException("only surrogates");
        }
    }

    private int Height(GrammarNode node)
    {
        if (_heights.TryGetValue(node, out int known)) return known;
        _heights[node] = Endless;   // a rule on the way to itself is no way out
        int height = node switch
        {
            GrammarSequence sequence => sequence.Parts.Select(Height).DefaultIfEmpty(0).Max(),
            GrammarChoice choice => choice.Options.Select(Height).DefaultIfEmpty(Endless).Min(),
            GrammarRepeat repeat => repeat.Min == 0 ? 0 : Height(repeat.Body),
            GrammarRule rule => 1 + Height(rule.Body!),
            GrammarChars { Ranges.Count: 0 } => Endless,
            _ => 0,
        };
        // Found on the way to itself, a height may be too large; it is not kept then.
        if (height >= Endless) _heights.Remove(node);
        else _heights[node] = height;
        return Math.Min(height, Endless);
    }
}
