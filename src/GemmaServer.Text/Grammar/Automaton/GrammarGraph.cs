using System.Runtime.InteropServices;

namespace GemmaServer.Text;

internal enum EdgeKind : byte
{
    /// <summary>Free.</summary>
    Empty,

    /// <summary>One byte of a range: A to B.</summary>
    Bytes,

    /// <summary>All of a unit, by call A.</summary>
    Call,

    /// <summary>Special token A.</summary>
    Token,
}

/// <summary>An edge of a <see cref="GrammarGraph"/>.</summary>
internal readonly record struct GraphEdge(EdgeKind Kind, int A, int B, int Target, int Next);

/// <summary>How a unit is called: so many times in a row.</summary>
/// <param name="Unit">Which.</param>
/// <param name="Min">At least so often.</param>
/// <param name="Max">At most so often; <see cref="int.MaxValue"/> for any number.</param>
internal readonly record struct CallSpec(int Unit, int Min, int Max)
{
    public bool IsCounted => Max != 1;
}

/// <summary>
/// The nondeterministic automata of a grammar's units, in one graph. A unit is a part that is called instead of copied: what
/// reaches itself, what is used in several places, what is counted.
/// </summary>
internal sealed class GrammarGraph(CompileBudget budget)
{
    private readonly List<int> _first = [];
    private readonly List<GraphEdge> _edges = [];
    private readonly Dictionary<CallSpec, int> _callIds = [];

    public int StateCount => _first.Count;

    /// <summary>Start and end of each unit; the first is the whole grammar.</summary>
    public List<(int Start, int End)> Units { get; } = [];

    public List<CallSpec> Calls { get; } = [];

    public ReadOnlySpan<GraphEdge> Edges => CollectionsMarshal.AsSpan(_edges);

    /// <summary>The first edge of a state, which leads on to the others; -1 where there is none.</summary>
    public int FirstEdge(int state) => _first[state];

    public int AddState()
    {
        if (_first.Count >= budget.Limits.MaxStates) throw CompileBudget.TooMuch();
        budget.Spend(1);
        _first.Add(-1);
        return _first.Count - 1;
    }

    public void AddEdge(int from, EdgeKind kind, int a, int b, int to)
    {
        budget.Spend(1);
        if (_edges.Count >= 4 * budget.Limits.MaxStates) throw CompileBudget.TooMuch();
        _edges.Add(new(kind, a, b, to, _first[from]));
        _first[from] = _edges.Count - 1;
    }

    public void AddCall(int from, CallSpec call, int to)
    {
        if (!_callIds.TryGetValue(call, out int id))
        {
            id = Calls.Count;
            Calls.Add(call);
            _callIds.Add(call, id);
        }
        AddEdge(from, EdgeKind.Call, id, 0, to);
    }
}
