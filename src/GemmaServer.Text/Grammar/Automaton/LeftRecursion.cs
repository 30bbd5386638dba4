namespace GemmaServer.Text;

/// <summary>
/// Units that begin with one another, as <c>sum ::= sum "+" term | term</c> does. Calling them would never come to a first byte,
/// so their automata are read from the leaf up: begin with what begins any of them without a call, and where one ends, go on
/// behind the calls of it that stand at the beginning of another.
/// </summary>
internal sealed class LeftRecursion
{
    private readonly HashSet<int> _members;

    private LeftRecursion(List<int> units)
    {
        Units = units;
        _members = [.. units];
    }

    public IReadOnlyList<int> Units { get; }

    /// <summary>End of a unit → where it goes on behind calls of it at the beginning of another.</summary>
    public Dictionary<int, List<int>> Continues { get; } = [];

    public bool Contains(int unit) => _members.Contains(unit);

    /// <summary>By unit; null where it does not begin with itself.</summary>
    public static LeftRecursion?[] Find(GrammarGraph graph, bool[] isEmptyCall, CompileBudget budget)
    {
        List<(int Call, int Target)>[] first = new List<(int, int)>[graph.Units.Count];
        int[] seen = new int[graph.StateCount];
        Stack<int> open = new();
        for (int unit = 0; unit < first.Length; unit++) first[unit] = FirstCalls(unit);

        LeftRecursion?[] groups = new LeftRecursion?[first.Length];
        foreach (List<int> component in Components(first, graph, budget))
        {
            bool isRecursive = component.Count > 1 || first[component[0]].Exists(call => graph.Calls[call.Call].Unit == component[0]);
            if (!isRecursive) continue;
            LeftRecursion group = new(component);
            foreach (int unit in component)
            {
                groups[unit] = group;
                foreach ((int call, int target) in first[unit]) group.Add(graph, call, target);
            }
        }
        return groups;

        List<(int, int)> FirstCalls(int unit)
        {
            List<(int, int)> calls = [];
            open.Push(graph.Units[unit].Start);
            while (open.TryPop(out int state))
            {
                if (seen[state] == unit + 1) continue;
                seen[state] = unit + 1;
                for (int e = graph.FirstEdge(state); e >= 0; e = graph.Edges[e].Next)
                {
                    budget.Spend(1);
                    GraphEdge edge = graph.Edges[e];
                    if (edge.Kind == EdgeKind.Call) calls.Add((edge.A, edge.Target));
                    if (edge.Kind == EdgeKind.Empty || (edge.Kind == EdgeKind.Call && isEmptyCall[edge.A])) open.Push(edge.Target);
                }
            }
            return calls;
        }
    }

    private void Add(GrammarGraph graph, int call, int target)
    {
        CallSpec spec = graph.Calls[call];
        if (!Contains(spec.Unit)) return;
        if (spec.IsCounted) throw new GrammarException("A rule begins with a long counted repetition of itself, which is not supported.");
        int end = graph.Units[spec.Unit].End;
        if (!Continues.TryGetValue(end, out List<int>? targets)) Continues.Add(end, targets = []);
        targets.Add(target);
    }

    /// <summary>Strongly connected components (Tarjan), without recursion.</summary>
    private static List<List<int>> Components(List<(int Call, int Target)>[] first, GrammarGraph graph, CompileBudget budget)
    {
        List<List<int>> components = [];
        int[] index = new int[first.Length], low = new int[first.Length];
        bool[] isOnStack = new bool[first.Length];
        Stack<int> stack = new();
        Stack<(int Unit, int Next)> path = new();
        int counter = 0;
        for (int root = 0; root < first.Length; root++)
        {
            if (index[root] == 0) Open(root);
            while (path.TryPop(out (int Unit, int Next) top))
            {
                budget.Spend(1);
                if (top.Next < first[top.Unit].Count)
                {
                    path.Push((top.Unit, top.Next + 1));
                    int callee = graph.Calls[first[top.Unit][top.Next].Call].Unit;
                    if (index[callee] == 0) Open(callee);
                    else if (isOnStack[callee]) low[top.Unit] = Math.Min(low[top.Unit], index[callee]);
                    continue;
                }
                if (low[top.Unit] == index[top.Unit]) components.Add(Close(top.Unit));
                if (path.TryPeek(out (int Unit, int Next) parent)) low[parent.Unit] = Math.Min(low[parent.Unit], low[top.Unit]);
            }
        }
        return components;

        void Open(int unit)
        {
            index[unit] = low[unit] = ++counter;
            isOnStack[unit] = true;
            stack.Push(unit);
            path.Push((unit, 0));
        }

        List<int> Close(int root)
        {
            List<int> component = [];
            int unit;
            do
            {
                unit = stack.Pop();
                isOnStack[unit] = false;
                component.Add(unit);
            }
            while (unit != root);
            return component;
        }
    }
}
