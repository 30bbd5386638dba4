using System.Runtime.InteropServices;

namespace GemmaServer.Text;

/// <summary>
/// Follows a grammar byte by byte. A set of places is worked out once and kept, so that the machine becomes a table of the
/// states an answer really comes through.
/// </summary>
/// <remarks>Everything but <see cref="GrammarState.Row"/> look-ups happens under the grammar's lock.</remarks>
internal sealed partial class GrammarMachine
{
    private readonly GrammarTables _tables;
    private readonly byte[] _classOf;
    private readonly GrammarStore _store;
    private readonly int _mostRounds;
    private readonly List<Return>?[] _entered;   // by unit: who calls it from here
    private readonly PriorityQueue<int, int> _entering = new();
    private readonly List<Place> _places = [];   // after the byte, units that ended not yet left
    private readonly HashSet<Place> _known = [];
    private readonly List<Place> _kept = [];
    private readonly List<Return> _returns = [];
    private bool _isComplete;

    /// <param name="tables">The automata.</param>
    /// <param name="takesEmptyText">There may be no text at all.</param>
    /// <param name="store">For what is found out.</param>
    /// <param name="mostRounds">Of a repetition that one token can complete.</param>
    public GrammarMachine(GrammarTables tables, bool takesEmptyText, GrammarStore store, int mostRounds)
    {
        _tables = tables;
        _classOf = tables.Classes.Of;
        _store = store;
        _mostRounds = mostRounds;
        _entered = new List<Return>?[tables.UnitStart.Length];
        Return end = new(-1, 0, null);
        Enter(0, end);
        Start = Settle(takesEmptyText);
    }

    /// <summary>Before any text.</summary>
    public GrammarState Start { get; }

    /// <summary>Bytes that it does not tell apart.</summary>
    public ByteClasses Classes => _tables.Classes;

    /// <summary>Elementary steps so far.</summary>
    public long Work { get; private set; }

    /// <summary>Where a byte leads, if that was found out before.</summary>
    public GrammarState? Known(GrammarState state, byte value) => state.Row?[_classOf[value]];

    /// <summary>Where a byte leads.</summary>
    public GrammarState Next(GrammarState state, byte value) => Known(state, value) ?? Find(state, value);

    /// <summary>Where special tokens lead, by id.</summary>
    public (int Token, GrammarState Next)[] Specials(GrammarState state)
    {
        if (state.Specials is { } known) return known;
        SortedSet<int> tokens = [];
        foreach (Place place in state.Places)
            foreach (SymbolEdge edge in _tables.States.TokensOf(place.State)) tokens.Add(edge.Symbol);
        List<(int, GrammarState)> all = [];
        foreach (int token in tokens)
        {
            foreach (Place place in state.Places)
                foreach (SymbolEdge edge in _tables.States.TokensOf(place.State))
                    if (edge.Symbol == token) Reach(new(edge.Target, place.Frame));
            all.Add((token, Settle(isComplete: false)));
        }
        _store.Hold(state, 48 + 16 * all.Count);
        return state.Specials = [.. all];
    }

    private GrammarState Find(GrammarState state, byte value)
    {
        // All bytes around this one that lead the same way are answered together.
        int first = 0, last = 255;
        foreach (Place place in state.Places)
        {
            foreach (ByteRange edge in _tables.States.RangesOf(place.State))
            {
                Work++;
                if (edge.Last < value) first = Math.Max(first, edge.Last + 1);
                else if (edge.First > value) last = Math.Min(last, edge.First - 1);
                else
                {
                    first = Math.Max(first, edge.First);
                    last = Math.Min(last, edge.Last);
                    Reach(new(edge.Target, place.Frame));
                }
            }
        }
        GrammarState next = _places.Count == 0 ? GrammarState.Dead : Settle(isComplete: false);
        GrammarState?[]? row = state.Row;
        if (row is null)
        {
            row = new GrammarState?[_tables.Classes.Count];
            _store.Hold(state, 24 + 8 * row.Length);
            state.Row = row;
        }
        for (int b = first; b <= last; b++) row[_classOf[b]] = next;
        return next;
    }

    private void Reach(Place place)
    {
        Work++;
        if (_places.Count < 16)
        {
            if (_places.Contains(place)) return;
        }
        else
        {
            if (_places.Count == 16) foreach (Place known in _places) _known.Add(known);
            if (!_known.Add(place)) return;
        }
        _places.Add(place);
    }

    /// <summary>The state of the places reached: leaves units that have ended, enters units that are called.</summary>
    private GrammarState Settle(bool isComplete)
    {
        _isComplete = isComplete;
        for (int i = 0; i < _places.Count; i++)
            if (_tables.States.IsEnd[_places[i].State]) Leave(_places[i].Frame);
        _places.Sort(static (a, b) => a.State != b.State ? a.State.CompareTo(b.State) : a.Frame.Id.CompareTo(b.Frame.Id));
        for (int i = 0; i < _places.Count;)
        {
            int state = _places[i].State, end = i + 1;
            while (end < _places.Count && _places[end].State == state) end++;
            Arrive(state, end == i + 1 ? _places[i].Frame : Merged(i, end));
            i = end;
        }
        while (_entering.TryDequeue(out int unit, out _))
        {
            List<Return> returns = _entered[unit]!;
            Frame frame = FrameOf(returns);
            returns.Clear();
            Arrive(_tables.UnitStart[unit], frame);
        }
        _places.Clear();
        _known.Clear();
        return StateOf();
    }

    private void Leave(Frame frame)
    {
        foreach (Return way in frame.Returns)
        {
            Work++;
            if (way.Caller is null)
            {
                _isComplete = true;
                continue;
            }
            CallEdge call = _tables.Calls[way.Call];
            if (call.Spec.IsCounted)
            {
                bool isBounded = call.Spec.Max != int.MaxValue;
                // Without an upper bound, only the rounds that are still owed matter.
                int count = isBounded ? way.Count + 1 : Math.Min(way.Count + 1, call.Spec.Min);
                if (!isBounded || count < call.Spec.Max) Enter(call.Spec.Unit, way with { Count = count });
                if (count < call.Spec.Min) continue;
            }
            Reach(new(call.Target, way.Caller));
        }
    }

    private void Arrive(int state, Frame frame)
    {
        Automaton states = _tables.States;
        if (!states.RangesOf(state).IsEmpty || !states.TokensOf(state).IsEmpty) _kept.Add(new(state, frame));
        foreach (SymbolEdge edge in states.CallsOf(state))
        {
            CallEdge call = _tables.Calls[edge.Symbol];
            if (!call.IsTail) Enter(call.Spec.Unit, new(edge.Symbol, 0, frame));
            // What would only hand on the end: its own returns are the callee's.
            else foreach (Return way in frame.Returns) Enter(call.Spec.Unit, way);
        }
    }

    private void Enter(int unit, Return way)
    {
        Work++;
        List<Return> returns = _entered[unit] ??= [];
        if (returns.Count == 0) _entering.Enqueue(unit, _tables.UnitRank[unit]);
        returns.Add(way);
    }

    private GrammarState StateOf()
    {
        _kept.Sort(static (a, b) => a.State.CompareTo(b.State));
        Work += _kept.Count;
        GrammarState state = _store.StateOf(CollectionsMarshal.AsSpan(_kept), _isComplete);
        _kept.Clear();
        return state;
    }
}
