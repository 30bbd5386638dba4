namespace GemmaServer.Text;

/// <summary>
/// Follows a grammar byte by byte. A set of places is worked out once and kept, so that the machine becomes a table of the
/// states an answer really comes through.
/// </summary>
/// <remarks>Everything but <see cref="GrammarState.Row"/> look-ups happens under the grammar's lock.</remarks>
internal sealed class GrammarMachine
{
    /// <summary>Ways to return in one frame; beyond, some are left out: fewer texts are possible then, but each is a right one.</summary>
    private const int MaxReturns = 256;

    private const int StateBytes = 160, PlaceBytes = 16, FrameBytes = 72, ReturnBytes = 16;

    private readonly GrammarTables _tables;
    private readonly byte[] _classOf;
    private readonly long _maxBytes;
    private readonly Dictionary<int, GrammarState> _states = [];
    private readonly Dictionary<int, Frame> _frames = [];
    private readonly List<Return>?[] _entered;   // by unit: who calls it from here
    private readonly PriorityQueue<int, int> _entering = new();
    private readonly List<Place> _places = [];   // after the byte, units that ended not yet left
    private readonly HashSet<Place> _known = [];
    private readonly List<Place> _kept = [];
    private readonly List<Return> _returns = [];
    private int _frameCount;
    private bool _isComplete;

    public GrammarMachine(GrammarTables tables, bool takesEmptyText, long maxBytes)
    {
        _tables = tables;
        _classOf = tables.Classes.Of;
        _maxBytes = maxBytes;
        _entered = new List<Return>?[tables.UnitStart.Length];
        Return end = new(-1, 0, null);
        Enter(0, end);
        Start = Settle(takesEmptyText);
    }

    /// <summary>Before any text.</summary>
    public GrammarState Start { get; }

    /// <summary>About what states and masks take.</summary>
    public long Bytes { get; private set; }

    /// <summary>Elementary steps so far.</summary>
    public long Work { get; private set; }

    public int StateCount { get; private set; }

    /// <summary>Counts memory that a state came to hold.</summary>
    public void Keep(long bytes) => Bytes += bytes;

    /// <summary>Forgets everything found out if it has grown too large. States in use stay and find out anew.</summary>
    public void Trim()
    {
        if (Bytes <= _maxBytes) return;
        foreach (GrammarState first in _states.Values)
            for (GrammarState? state = first; state is not null; state = state.NextWithHash) state.Forget();
        Start.Forget();
        _states.Clear();
        _frames.Clear();
        Bytes = 0;
        StateCount = 0;
    }

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
        Bytes += 16 * all.Count;
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
            Bytes += 24 + 8 * row.Length;
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

    private Frame Merged(int start, int end)
    {
        _returns.Clear();
        for (int i = start; i < end; i++) _returns.AddRange(_places[i].Frame.Returns);
        return FrameOf(_returns);
    }

    private Frame FrameOf(List<Return> returns)
    {
        Span<Return> span = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(returns);
        if (span.Length > 1) span = Unique(span);
        Work += span.Length;
        int hash = Frame.Hashed(span);
        _frames.TryGetValue(hash, out Frame? first);
        for (Frame? frame = first; frame is not null; frame = frame.NextWithHash)
            if (frame.Returns.AsSpan().SequenceEqual(span)) return frame;
        Frame made = new(_frameCount++, hash, span.ToArray()) { NextWithHash = first };
        _frames[hash] = made;
        Bytes += FrameBytes + ReturnBytes * span.Length;
        return made;
    }

    private static Span<Return> Unique(Span<Return> returns)
    {
        returns.Sort(static (a, b) =>
            a.Call != b.Call ? a.Call.CompareTo(b.Call)
            : a.Count != b.Count ? a.Count.CompareTo(b.Count)
            : (a.Caller?.Id ?? -1).CompareTo(b.Caller?.Id ?? -1));
        int count = 1;
        for (int i = 1; i < returns.Length; i++)
            if (returns[i] != returns[count - 1]) returns[count++] = returns[i];
        return returns[..Math.Min(count, MaxReturns)];
    }

    private GrammarState StateOf()
    {
        _kept.Sort(static (a, b) => a.State.CompareTo(b.State));
        Span<Place> places = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_kept);
        Work += places.Length;
        HashCode hashing = new();
        hashing.Add(_isComplete);
        foreach (Place place in places)
        {
            hashing.Add(place.State);
            hashing.Add(place.Frame.Id);
        }
        int hash = hashing.ToHashCode();
        _states.TryGetValue(hash, out GrammarState? first);
        GrammarState? state = first;
        while (state is not null && !(state.IsComplete == _isComplete && state.Places.AsSpan().SequenceEqual(places))) state = state.NextWithHash;
        if (state is null)
        {
            state = new GrammarState(hash, places.ToArray(), _isComplete) { NextWithHash = first };
            _states[hash] = state;
            Bytes += StateBytes + PlaceBytes * places.Length;
            StateCount++;
        }
        _kept.Clear();
        return state;
    }
}
