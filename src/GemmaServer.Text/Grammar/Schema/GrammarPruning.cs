using System.Runtime.CompilerServices;
using static GemmaServer.Text.GrammarParts;

namespace GemmaServer.Text;

/// <summary>
/// Takes out what can never be completed: a required member whose schema needs itself without end, say. Differences and intersections
/// that turn out empty are left to the automaton.
/// </summary>
internal static class GrammarPruning
{
    /// <param name="start">Where the grammar begins.</param>
    /// <param name="rules">The rules that may reach themselves; others are looked through.</param>
    /// <returns>The start without dead ends; nothing if it is one.</returns>
    public static GrammarNode Prune(GrammarNode start, List<GrammarRule> rules)
    {
        HashSet<GrammarRule> recursive = [.. rules], live = [];
        // Who waits for whom: a rule is looked at again only when one that it mentions came to life.
        Dictionary<GrammarRule, List<GrammarRule>> mentionedBy = [];
        foreach (GrammarRule rule in rules)
        {
            foreach (GrammarRule other in Mentions(rule.Body!, recursive))
            {
                if (!mentionedBy.TryGetValue(other, out List<GrammarRule>? list)) mentionedBy[other] = list = [];
                list.Add(rule);
            }
        }
        Queue<GrammarRule> open = new(rules);
        while (open.TryDequeue(out GrammarRule? rule))
        {
            if (live.Contains(rule) || !new Liveness(recursive, live).IsLive(rule.Body!)) continue;
            live.Add(rule);
            foreach (GrammarRule other in mentionedBy.GetValueOrDefault(rule) ?? []) open.Enqueue(other);
        }
        if (live.Count == recursive.Count) return new Liveness(recursive, live).IsLive(start) ? start : Nothing;
        Rewriter rewriter = new(recursive, live);
        foreach (GrammarRule rule in rules) rule.Body = live.Contains(rule) ? rewriter.Rewrite(rule.Body!) : Nothing;
        return rewriter.Rewrite(start);
    }

    private static HashSet<GrammarRule> Mentions(GrammarNode root, HashSet<GrammarRule> recursive)
    {
        HashSet<GrammarRule> found = [];
        HashSet<GrammarNode> seen = new(ReferenceEqualityComparer.Instance);
        Stack<GrammarNode> open = new([root]);
        while (open.TryPop(out GrammarNode? node))
        {
            if (!seen.Add(node)) continue;
            if (node is GrammarRule rule && recursive.Contains(rule)) found.Add(rule);
            else foreach (GrammarNode child in Children(node)) open.Push(child);
        }
        return found;
    }

    private static IReadOnlyList<GrammarNode> Children(GrammarNode node) => node switch
    {
        GrammarSequence sequence => sequence.Parts,
        GrammarChoice choice => choice.Options,
        GrammarRepeat repeat => [repeat.Body],
        GrammarRule rule => [rule.Body!],
        _ => [],
    };

    private sealed class Liveness(HashSet<GrammarRule> recursive, HashSet<GrammarRule> live)
    {
        private readonly Dictionary<GrammarNode, bool> _known = new(ReferenceEqualityComparer.Instance);

        public bool IsLive(GrammarNode node)
        {
            if (_known.TryGetValue(node, out bool isLive)) return isLive;
            RuntimeHelpers.EnsureSufficientExecutionStack();
            return _known[node] = node switch
            {
                GrammarSequence sequence => sequence.Parts.All(IsLive),
                GrammarChoice choice => choice.Options.Any(IsLive),
                GrammarRepeat repeat => repeat.Min == 0 || IsLive(repeat.Body),
                GrammarRule rule => recursive.Contains(rule) ? live.Contains(rule) : IsLive(rule.Body!),
                _ => !IsNothing(node),
            };
        }
    }

    private sealed class Rewriter(HashSet<GrammarRule> recursive, HashSet<GrammarRule> live)
    {
        private readonly Dictionary<GrammarNode, GrammarNode> _known = new(ReferenceEqualityComparer.Instance);

        public GrammarNode Rewrite(GrammarNode node)
        {
            if (_known.TryGetValue(node, out GrammarNode? known)) return known;
            RuntimeHelpers.EnsureSufficientExecutionStack();
            return _known[node] = node switch
            {
                GrammarSequence sequence => Seq([.. sequence.Parts.Select(Rewrite)]),
                GrammarChoice choice => Alt([.. choice.Options.Select(Rewrite)]),
                GrammarRepeat repeat => Times(Rewrite(repeat.Body), repeat.Min, repeat.Max),
                GrammarRule rule when recursive.Contains(rule) => live.Contains(rule) ? rule : Nothing,
                GrammarRule rule => Rewrite(rule.Body!) is var body && IsNothing(body) ? Nothing
                    : ReferenceEquals(body, rule.Body) ? rule : new GrammarRule(rule.Name) { Body = body },
                _ => node,
            };
        }
    }
}
