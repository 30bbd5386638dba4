namespace GemmaServer.Text;

/// <summary>A call and the state behind it: what a stack frame remembers.</summary>
/// <param name="Spec">Which unit, how often.</param>
/// <param name="Target">Where to go on.</param>
/// <param name="IsTail">Nothing but the end of the caller's own unit follows, so no frame is needed.</param>
internal readonly record struct CallEdge(CallSpec Spec, int Target, bool IsTail);

/// <summary>The automata of all units, numbered through: a grammar ready to be followed. Immutable.</summary>
internal sealed class GrammarTables
{
    private GrammarTables(Automaton states, CallEdge[] calls, int[] starts, int[] ranks, ByteClasses classes)
    {
        States = states;
        Calls = calls;
        UnitStart = starts;
        UnitRank = ranks;
        Classes = classes;
    }

    /// <summary>All states; the symbol of a call's edge is its place in <see cref="Calls"/>.</summary>
    public Automaton States { get; }

    public CallEdge[] Calls { get; }

    /// <summary>By unit; the first is the whole grammar.</summary>
    public int[] UnitStart { get; }

    /// <summary>By unit: those that begin with a call have a lower rank than what they call.</summary>
    public int[] UnitRank { get; }

    /// <summary>Bytes that no state tells apart.</summary>
    public ByteClasses Classes { get; }

    /// <exception cref="GrammarException">It passes a limit or matches nothing.</exception>
    public static GrammarTables Make(GrammarGraph graph, CompileBudget budget, out bool takesEmptyText)
    {
        bool[] isEmptyUnit = Nullability.Units(graph, budget);
        takesEmptyText = isEmptyUnit[0];
        bool[] isEmptyCall = Nullability.Calls(graph, isEmptyUnit);
        LeftRecursion?[] recursion = LeftRecursion.Find(graph, isEmptyCall, budget);
        Determinizer determinizer = new(graph, isEmptyCall, budget);
        Automaton[] units = new Automaton[graph.Units.Count];
        for (int unit = 0; unit < units.Length; unit++) units[unit] = determinizer.Build(unit, recursion[unit]);

        bool[] isProductive = Productive(units, graph, budget);
        if (!isProductive[0])
            throw new GrammarException(isEmptyUnit[0] ? "The grammar matches nothing but the empty text." : "The grammar matches no text at all.");
        for (int unit = 0; unit < units.Length; unit++)
            units[unit] = AutomatonReducer.Reduce(units[unit], call => isProductive[graph.Calls[call].Unit], budget);
        return Join(units, graph, isEmptyUnit, budget);
    }

    /// <summary>Which units match any text.</summary>
    private static bool[] Productive(Automaton[] units, GrammarGraph graph, CompileBudget budget)
    {
        bool[] isProductive = new bool[units.Length];
        bool[][] isReached = new bool[units.Length][];
        List<(int Unit, int State)>?[] waiting = new List<(int, int)>?[units.Length];
        Stack<(int Unit, int State)> open = new();
        for (int unit = 0; unit < units.Length; unit++)
        {
            isReached[unit] = new bool[units[unit].StateCount];
            open.Push((unit, 0));
        }
        while (open.TryPop(out (int Unit, int State) at))
        {
            if (isReached[at.Unit][at.State]) continue;
            isReached[at.Unit][at.State] = true;
            Automaton automaton = units[at.Unit];
            if (automaton.IsEnd[at.State] && !isProductive[at.Unit])
            {
                isProductive[at.Unit] = true;
                foreach ((int, int) next in waiting[at.Unit] ?? []) open.Push(next);
            }
            budget.Spend(automaton.RangesOf(at.State).Length + 1);
            foreach (ByteRange edge in automaton.RangesOf(at.State)) open.Push((at.Unit, edge.Target));
            foreach (SymbolEdge edge in automaton.TokensOf(at.State)) open.Push((at.Unit, edge.Target));
            foreach (SymbolEdge edge in automaton.CallsOf(at.State))
            {
                int callee = graph.Calls[edge.Symbol].Unit;
                if (isProductive[callee]) open.Push((at.Unit, edge.Target));
                else (waiting[callee] ??= []).Add((at.Unit, edge.Target));
            }
        }
        return isProductive;
    }

    private static GrammarTables Join(Automaton[] units, GrammarGraph graph, bool[] isEmptyUnit, CompileBudget budget)
    {
        int[] starts = new int[units.Length];
        for (int unit = 1; unit < units.Length; unit++) starts[unit] = starts[unit - 1] + units[unit - 1].StateCount;
        AutomatonWriter writer = new();
        List<CallEdge> calls = [];
        for (int unit = 0; unit < units.Length; unit++)
        {
            Automaton automaton = units[unit];
            int offset = starts[unit];
            for (int state = 0; state < automaton.StateCount; state++)
            {
                foreach (ByteRange edge in automaton.RangesOf(state)) writer.AddRange(edge.First, edge.Last, edge.Target + offset);
                foreach (SymbolEdge edge in automaton.TokensOf(state)) writer.AddToken(edge.Symbol, edge.Target + offset);
                foreach (SymbolEdge edge in automaton.CallsOf(state))
                {
                    CallSpec spec = graph.Calls[edge.Symbol];
                    if (isEmptyUnit[spec.Unit]) spec = spec with { Min = spec.IsCounted ? 0 : 1 };   // rounds may be empty, and are passed by then
                    writer.AddCall(calls.Count, edge.Target + offset);
                    calls.Add(new(spec, edge.Target + offset, !spec.IsCounted && IsPlainEnd(automaton, edge.Target)));
                }
                writer.EndState(automaton.IsEnd[state]);
            }
        }
        Automaton states = writer.ToAutomaton();
        budget.Spend(states.StateCount);
        return new GrammarTables(states, [.. calls], starts, Ranks(units, graph), new ByteClasses(states));
    }

    private static bool IsPlainEnd(Automaton automaton, int state) =>
        automaton.IsEnd[state] && automaton.RangesOf(state).IsEmpty && automaton.CallsOf(state).IsEmpty && automaton.TokensOf(state).IsEmpty;

    private static int[] Ranks(Automaton[] units, GrammarGraph graph)
    {
        int[] callers = new int[units.Length], ranks = new int[units.Length];
        foreach (Automaton unit in units)
            foreach (SymbolEdge edge in unit.CallsOf(0)) callers[graph.Calls[edge.Symbol].Unit]++;
        Queue<int> ready = new();
        for (int unit = 0; unit < units.Length; unit++)
            if (callers[unit] == 0) ready.Enqueue(unit);
        int rank = 0;
        while (ready.TryDequeue(out int unit))
        {
            ranks[unit] = rank++;
            foreach (SymbolEdge edge in units[unit].CallsOf(0))
                if (--callers[graph.Calls[edge.Symbol].Unit] == 0) ready.Enqueue(graph.Calls[edge.Symbol].Unit);
        }
        if (rank < units.Length) throw new InvalidOperationException("A left-recursive unit was left over.");
        return ranks;
    }
}

/// <summary>Bytes that no state of a grammar tells apart share a class, which keeps rows of transitions short.</summary>
internal sealed class ByteClasses
{
    public ByteClasses(Automaton states)
    {
        bool[] isCut = new bool[257];
        foreach (ByteRange edge in states.Ranges)
        {
            isCut[edge.First] = isCut[edge.Last + 1] = true;
            for (int value = edge.First; value <= edge.Last; value++) IsUsed[value] = true;
        }
        int current = 0;
        for (int value = 0; value < 256; value++)
        {
            if (value > 0 && isCut[value]) current++;
            Of[value] = (byte)current;
        }
        Count = current + 1;
        for (int value = 255; value >= 0; value--) Last[value] = value < 255 && Of[value + 1] == Of[value] ? Last[value + 1] : (byte)value;
    }

    /// <summary>By byte.</summary>
    public byte[] Of { get; } = new byte[256];

    /// <summary>By byte, the last one of its class; a class has no gaps.</summary>
    public byte[] Last { get; } = new byte[256];

    /// <summary>Bytes that some text of the grammar has.</summary>
    public bool[] IsUsed { get; } = new bool[256];

    public int Count { get; }
}
