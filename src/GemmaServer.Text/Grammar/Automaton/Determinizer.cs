using System.Runtime.InteropServices;

namespace GemmaServer.Text;

/// <summary>Makes automata of a graph's units: free edges go, and a state has one way on with each byte, call and token.</summary>
/// <remarks>
/// A unit's automaton never takes the empty text: a call that may be empty can also be passed by, so that each call that is made
/// takes at least a byte. A start state is therefore no end, and nothing leads back to it.
/// </remarks>
internal sealed class Determinizer(GrammarGraph graph, bool[] isEmptyCall, CompileBudget budget)
{
    private const int MaxFollowedAsIs = 3_000;   // states of a nondeterministic automaton
    private const long MaxSetElements = 3_000_000;
    private const long MaxEdgesAsIs = 200_000;   // a byte may have to look at all of them

    private readonly int[] _seen = new int[graph.StateCount];
    private readonly Stack<int> _open = new();
    private int _round;

    // The unit at work.
    private int _end;
    private LeftRecursion? _recursion;

    /// <summary>The automaton of a unit.</summary>
    /// <param name="unit">Which.</param>
    /// <param name="recursion">The units that begin with one another, this among them; null where it does not begin with itself.</param>
    public Automaton Build(int unit, LeftRecursion? recursion)
    {
        _end = graph.Units[unit].End;
        _recursion = recursion;
        List<int> start = [];
        BeginSet();
        foreach (int first in recursion?.Units ?? [unit]) AddClosure(graph.Units[first].Start, start);
        return Determinize(start, startsOver: false) ?? AsIs(start);
    }

    /// <summary>The automaton of a graph without calls, which may take the empty text.</summary>
    public Automaton BuildRegular()
    {
        _end = graph.Units[0].End;
        List<int> start = [];
        BeginSet();
        AddClosure(graph.Units[0].Start, start);
        return Determinize(start, startsOver: true) ?? throw CompileBudget.TooMuch();
    }

    private void BeginSet() => _round++;

    /// <summary>Adds the states that free edges lead to and that matter: those with other edges, and the end.</summary>
    private void AddClosure(int state, List<int> set)
    {
        _open.Push(state);
        while (_open.TryPop(out int s))
        {
            if (_seen[s] == _round) continue;
            _seen[s] = _round;
            bool matters = s == _end;
            for (int e = graph.FirstEdge(s); e >= 0; e = graph.Edges[e].Next)
            {
                budget.Spend(1);
                GraphEdge edge = graph.Edges[e];
                if (edge.Kind != EdgeKind.Empty) matters = true;
                if (edge.Kind == EdgeKind.Empty || (edge.Kind == EdgeKind.Call && isEmptyCall[edge.A])) _open.Push(edge.Target);
            }
            if (matters) set.Add(s);
            if (_recursion is not null && _recursion.Continues.TryGetValue(s, out List<int>? more))
                foreach (int next in more) _open.Push(next);
        }
    }

    private Automaton? Determinize(List<int> start, bool startsOver)
    {
        Dictionary<int[], int> ids = new(SetComparer.Instance);
        List<int[]> sets = [];
        AutomatonWriter writer = new();
        long elements = 0;
        int limit = budget.Limits.MaxDeterministicStates;
        start.Sort();
        sets.Add([.. start]);
        if (startsOver) ids.Add(sets[0], 0);
        TransitionSets transitions = new();
        for (int id = 0; id < sets.Count; id++)
        {
            transitions.Clear();
            bool isStart = id == 0 && !startsOver;
            foreach (int state in sets[id]) Collect(state, isStart, transitions);
            budget.Spend(transitions.Finish());
            foreach ((EdgeKind kind, int a, int b, List<int> targets) in transitions.All)
            {
                int target = Target(targets);
                if (target < 0) return null;
                if (kind == EdgeKind.Bytes) writer.AddRange(a, b, target);
                else if (kind == EdgeKind.Call) writer.AddCall(a, target);
                else writer.AddToken(a, target);
            }
            writer.EndState(!isStart && Array.BinarySearch(sets[id], _end) >= 0);
        }
        return writer.ToAutomaton();

        int Target(List<int> targets)
        {
            List<int> set = [];
            BeginSet();
            foreach (int target in targets) AddClosure(target, set);
            set.Sort();
            budget.Spend(set.Count);
            int[] key = [.. set];
            if (ids.TryGetValue(key, out int known)) return known;
            elements += key.Length;
            if (sets.Count >= limit || elements > MaxSetElements) return -1;
            ids.Add(key, sets.Count);
            sets.Add(key);
            return sets.Count - 1;
        }
    }

    private void Collect(int state, bool isStart, TransitionSets transitions)
    {
        for (int e = graph.FirstEdge(state); e >= 0; e = graph.Edges[e].Next)
        {
            GraphEdge edge = graph.Edges[e];
            if (edge.Kind == EdgeKind.Empty) continue;
            // A unit that begins with itself is read from the leaf up: see LeftRecursion.
            if (isStart && edge.Kind == EdgeKind.Call && _recursion is not null && _recursion.Contains(graph.Calls[edge.A].Unit)) continue;
            transitions.Add(edge);
        }
    }

    /// <summary>The same without sets of states, for what has too many of them.</summary>
    private Automaton AsIs(List<int> start)
    {
        Dictionary<int, int> ids = [];
        List<int> states = [-1];
        AutomatonWriter writer = new();
        long edges = 0;
        for (int id = 0; id < states.Count; id++)
        {
            if (id == 0) foreach (int state in start) WriteEdges(state, isStart: true);
            else WriteEdges(states[id], isStart: false);
            writer.EndState(id != 0 && states[id] == _end);
        }
        return writer.ToAutomaton();

        void WriteEdges(int state, bool isStart)
        {
            for (int e = graph.FirstEdge(state); e >= 0; e = graph.Edges[e].Next)
            {
                GraphEdge edge = graph.Edges[e];
                if (edge.Kind == EdgeKind.Empty) continue;
                if (isStart && edge.Kind == EdgeKind.Call && _recursion is not null && _recursion.Contains(graph.Calls[edge.A].Unit)) continue;
                List<int> targets = [];
                BeginSet();
                AddClosure(edge.Target, targets);
                edges += targets.Count;
                budget.Spend(targets.Count);
                if (edges > MaxEdgesAsIs) throw CompileBudget.TooMuch();
                foreach (int target in targets)
                {
                    if (!ids.TryGetValue(target, out int to))
                    {
                        to = states.Count;
                        if (to > MaxFollowedAsIs) throw CompileBudget.TooMuch();
                        ids.Add(target, to);
                        states.Add(target);
                    }
                    if (edge.Kind == EdgeKind.Bytes) writer.AddRange(edge.A, edge.B, to);
                    else if (edge.Kind == EdgeKind.Call) writer.AddCall(edge.A, to);
                    else writer.AddToken(edge.A, to);
                }
            }
        }
    }

    private sealed class SetComparer : IEqualityComparer<int[]>
    {
        public static SetComparer Instance { get; } = new();

        public bool Equals(int[]? x, int[]? y) => x.AsSpan().SequenceEqual(y);

        public int GetHashCode(int[] set)
        {
            HashCode hash = new();
            hash.AddBytes(MemoryMarshal.AsBytes(set.AsSpan()));
            return hash.ToHashCode();
        }
    }
}

/// <summary>The edges of a set of states, with ranges of bytes cut so that they are equal or apart.</summary>
internal sealed class TransitionSets
{
    private readonly List<GraphEdge> _bytes = [];
    private readonly SortedDictionary<(EdgeKind, int), List<int>> _symbols = [];
    private readonly List<(EdgeKind, int, int, List<int>)> _all = [];

    public IReadOnlyList<(EdgeKind Kind, int A, int B, List<int> Targets)> All => _all;

    public void Clear()
    {
        _bytes.Clear();
        _symbols.Clear();
        _all.Clear();
    }

    public void Add(GraphEdge edge)
    {
        if (edge.Kind == EdgeKind.Bytes)
        {
            _bytes.Add(edge);
            return;
        }
        if (!_symbols.TryGetValue((edge.Kind, edge.A), out List<int>? targets)) _symbols.Add((edge.Kind, edge.A), targets = []);
        targets.Add(edge.Target);
    }

    /// <summary>Cuts the ranges; what it cost.</summary>
    public long Finish()
    {
        long work = 256;
        Span<bool> isCut = stackalloc bool[257];
        isCut.Clear();
        foreach (GraphEdge edge in _bytes) isCut[edge.A] = isCut[edge.B + 1] = true;
        List<int>?[] pieces = new List<int>?[256];   // by the first byte
        foreach (GraphEdge edge in _bytes)
        {
            for (int b = edge.A; b <= edge.B; b++)
            {
                if (!isCut[b]) continue;
                (pieces[b] ??= []).Add(edge.Target);
                work++;
            }
            work += (edge.B - edge.A) >> 3;
        }
        for (int first = 0; first < 256; first++)
        {
            if (pieces[first] is not { } targets) continue;
            int last = first;
            while (!isCut[last + 1]) last++;
            _all.Add((EdgeKind.Bytes, first, last, targets));
        }
        foreach (((EdgeKind kind, int symbol), List<int> targets) in _symbols) _all.Add((kind, symbol, 0, targets));
        return work;
    }
}
