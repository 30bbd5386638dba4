namespace GemmaServer.Text;

/// <summary>Which units take the empty text.</summary>
internal static class Nullability
{
    /// <summary>By unit.</summary>
    public static bool[] Units(GrammarGraph graph, CompileBudget budget)
    {
        bool[] isEmpty = new bool[graph.Units.Count];
        bool[] isReached = new bool[graph.StateCount];
        List<int>?[] waiting = new List<int>?[graph.Units.Count];   // by unit: where to go on once it turns out to be one
        Dictionary<int, int> ends = [];
        Stack<int> open = new();
        for (int unit = 0; unit < graph.Units.Count; unit++)
        {
            open.Push(graph.Units[unit].Start);
            ends.Add(graph.Units[unit].End, unit);
        }
        while (open.TryPop(out int state))
        {
            if (isReached[state]) continue;
            isReached[state] = true;
            if (ends.TryGetValue(state, out int ended))
            {
                isEmpty[ended] = true;
                foreach (int next in waiting[ended] ?? []) open.Push(next);
            }
            for (int e = graph.FirstEdge(state); e >= 0; e = graph.Edges[e].Next)
            {
                budget.Spend(1);
                GraphEdge edge = graph.Edges[e];
                if (edge.Kind == EdgeKind.Empty) open.Push(edge.Target);
                if (edge.Kind != EdgeKind.Call) continue;
                CallSpec call = graph.Calls[edge.A];
                if (call.Min == 0 || isEmpty[call.Unit]) open.Push(edge.Target);
                else (waiting[call.Unit] ??= []).Add(edge.Target);
            }
        }
        return isEmpty;
    }

    /// <summary>By call.</summary>
    public static bool[] Calls(GrammarGraph graph, bool[] isEmptyUnit)
    {
        bool[] isEmpty = new bool[graph.Calls.Count];
        for (int i = 0; i < isEmpty.Length; i++) isEmpty[i] = graph.Calls[i].Min == 0 || isEmptyUnit[graph.Calls[i].Unit];
        return isEmpty;
    }
}
