using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>Seeded grammars over a handful of characters.</summary>
internal static class RandomGrammars
{
    public static string[] Characters { get; } = ["a", "b", "c", "d", "é", "日", "😀", "\"", " "];

    public static GrammarNode Regular(Random random, int depth, bool withProducts = true)
    {
        int kind = random.Next(depth <= 0 ? 3 : withProducts ? 10 : 8);
        switch (kind)
        {
            case 0: return GrammarNode.Literal(string.Concat(Enumerable.Range(0, random.Next(0, 4)).Select(_ => Characters[random.Next(Characters.Length)])));
            case 1 or 2: return Class(random);
            case 3 or 4: return GrammarNode.Sequence([.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => Regular(random, depth - 1, withProducts))]);
            case 5 or 6: return GrammarNode.Choice([.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => Regular(random, depth - 1, withProducts))]);
            case 7:
                int min = random.Next(3) == 0 ? random.Next(6) : 0;
                int? max = random.Next(3) == 0 ? null : min + random.Next(withProducts && random.Next(3) == 0 ? 120 : 4);
                return GrammarNode.Repeat(Regular(random, depth - 1, withProducts), min, max);
            // Small operands: the reference keeps their terms whole.
            case 8: return GrammarNode.Both(Regular(random, 2, false), Regular(random, 2, false));
            default: return GrammarNode.Except(Regular(random, 2, false), Regular(random, 2, false));
        }
    }

    /// <summary>Rules that use one another in any place, also at their beginning.</summary>
    public static GrammarNode Recursive(Random random)
    {
        GrammarRule[] rules = [.. Enumerable.Range(0, random.Next(1, 5)).Select(static i => new GrammarRule($"r{i}"))];
        foreach (GrammarRule rule in rules)
        {
            List<GrammarNode> options = [];
            for (int i = random.Next(1, 4); i > 0; i--)
            {
                List<GrammarNode> parts = [];
                for (int n = random.Next(0, 4); n > 0; n--)
                {
                    GrammarNode part = random.Next(3) == 0 ? rules[random.Next(rules.Length)] : Regular(random, 1, false);
                    parts.Add(random.Next(6) == 0 ? GrammarNode.Repeat(part, random.Next(2), random.Next(2) == 0 ? null : 3) : part);
                }
                options.Add(GrammarNode.Sequence([.. parts]));
            }
            rule.Body = GrammarNode.Choice([.. options]);
        }
        return rules[0];
    }

    private static GrammarNode Class(Random random) => random.Next(8) switch
    {
        0 => GrammarNode.AnyChar,
        1 => GrammarNode.Chars(new CodePointRange('a', 'c')),
        2 => GrammarNode.Chars(new CodePointRange(0, '!'), new CodePointRange('#', 0x10FFFF)),
        3 => GrammarNode.Chars(new CodePointRange('é', 'é'), new CodePointRange('日', '日'), new CodePointRange(0x1F600, 0x1F600)),
        4 => GrammarNode.Chars(new CodePointRange('a', 0x7FF)),
        5 when random.Next(4) == 0 => GrammarNode.Chars(),
        _ => GrammarNode.Chars(new CodePointRange('a', 'a'), new CodePointRange(' ', ' ')),
    };
}
