namespace GemmaServer.Text;

/// <summary>Intersections and differences of regular nodes, by running both automata side by side.</summary>
internal static class Products
{
    public static Automaton Make(GrammarBoth node, NodeSurvey survey, CompileBudget budget)
    {
        Automaton a = Regular(node.A, survey, budget), b = Regular(node.B, survey, budget);
        const int dead = -1;   // the second has failed: only in a difference
        Dictionary<(int A, int B), int> ids = new() { [(0, 0)] = 0 };
        List<(int A, int B)> pairs = [(0, 0)];
        AutomatonWriter writer = new();
        for (int i = 0; i < pairs.Count; i++)
        {
            (int stateA, int stateB) = pairs[i];
            ReadOnlySpan<ByteRange> others = stateB == dead ? default : b.RangesOf(stateB);
            foreach (ByteRange range in a.RangesOf(stateA))
            {
                int next = range.First;
                foreach (ByteRange other in others)
                {
                    budget.Spend(1);
                    if (other.Last < next || other.First > range.Last) continue;
                    if (node.IsNegated && other.First > next) writer.AddRange(next, other.First - 1, Id(range.Target, dead));
                    int first = Math.Max(next, other.First), last = Math.Min(range.Last, other.Last);
                    writer.AddRange(first, last, Id(range.Target, other.Target));
                    next = last + 1;
                }
                if (node.IsNegated && next <= range.Last) writer.AddRange(next, range.Last, Id(range.Target, dead));
            }
            bool isEndOfB = stateB != dead && b.IsEnd[stateB];
            writer.EndState(a.IsEnd[stateA] && isEndOfB != node.IsNegated);
        }
        return AutomatonReducer.Reduce(writer.ToAutomaton(), static _ => true, budget);

        int Id(int stateA, int stateB)
        {
            budget.Spend(1);
            if (ids.TryGetValue((stateA, stateB), out int id)) return id;
            if (pairs.Count >= budget.Limits.MaxDeterministicStates) throw CompileBudget.TooMuch();
            id = pairs.Count;
            ids.Add((stateA, stateB), id);
            pairs.Add((stateA, stateB));
            return id;
        }
    }

    private static Automaton Regular(GrammarNode node, NodeSurvey survey, CompileBudget budget)
    {
        GrammarGraph graph = new GraphBuilder(survey, budget, isRegular: true).Build(node);
        Automaton automaton = new Determinizer(graph, [], budget).BuildRegular();
        return AutomatonReducer.Reduce(automaton, static _ => true, budget);
    }
}
