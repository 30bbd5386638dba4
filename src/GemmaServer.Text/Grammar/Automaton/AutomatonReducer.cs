using System.Runtime.InteropServices;

namespace GemmaServer.Text;

/// <summary>Makes an automaton smaller: states that lead nowhere go, and states that go on alike become one.</summary>
internal static class AutomatonReducer
{
    private const int Passes = 3;

    /// <param name="automaton">Kept as it is.</param>
    /// <param name="isUsable">Whether a call can come to an end.</param>
    /// <param name="budget">For the work.</param>
    public static Automaton Reduce(Automaton automaton, Func<int, bool> isUsable, CompileBudget budget)
    {
        bool[] isAlive = Alive(automaton, isUsable, budget);
        automaton = Rewrite(automaton, isAlive, isUsable, Identity(automaton.StateCount), budget);
        for (int pass = 0; pass < Passes; pass++)
        {
            int[] same = Merge(automaton, budget, out bool merged);
            if (!merged) break;
            automaton = Rewrite(automaton, null, static _ => true, same, budget);
        }
        return automaton;
    }

    /// <summary>Which states an end can be reached from.</summary>
    private static bool[] Alive(Automaton automaton, Func<int, bool> isUsable, CompileBudget budget)
    {
        List<int>?[] from = new List<int>?[automaton.StateCount];
        Stack<int> open = new();
        for (int state = 0; state < from.Length; state++)
        {
            if (automaton.IsEnd[state]) open.Push(state);
            foreach (ByteRange edge in automaton.RangesOf(state)) (from[edge.Target] ??= []).Add(state);
            foreach (SymbolEdge edge in automaton.TokensOf(state)) (from[edge.Target] ??= []).Add(state);
            foreach (SymbolEdge edge in automaton.CallsOf(state))
                if (isUsable(edge.Symbol)) (from[edge.Target] ??= []).Add(state);
        }
        budget.Spend(automaton.Ranges.Length + from.Length);
        bool[] isAlive = new bool[from.Length];
        while (open.TryPop(out int state))
        {
            if (isAlive[state]) continue;
            isAlive[state] = true;
            foreach (int before in from[state] ?? []) open.Push(before);
        }
        return isAlive;
    }

    /// <summary>For each state the one that stands for it. The start stands for itself alone: nothing may lead back to it.</summary>
    private static int[] Merge(Automaton automaton, CompileBudget budget, out bool merged)
    {
        int[] same = Identity(automaton.StateCount);
        Dictionary<SignatureKey, int> known = [];
        merged = false;
        List<int> signature = [];
        for (int state = automaton.StateCount - 1; state > 0; state--)
        {
            signature.Clear();
            signature.Add(automaton.IsEnd[state] ? 1 : 0);
            // A state that leads to itself does so wherever it lies.
            foreach (ByteRange edge in automaton.RangesOf(state)) Add(edge.First << 8 | edge.Last, edge.Target);
            signature.Add(-2);
            foreach (SymbolEdge edge in automaton.CallsOf(state)) Add(edge.Symbol, edge.Target);
            signature.Add(-3);
            foreach (SymbolEdge edge in automaton.TokensOf(state)) Add(edge.Symbol, edge.Target);
            budget.Spend(signature.Count);
            SignatureKey key = new([.. signature]);
            if (known.TryGetValue(key, out int twin))
            {
                same[state] = twin;
                merged = true;
            }
            else known.Add(key, state);

            void Add(int label, int target)
            {
                signature.Add(label);
                signature.Add(target == state ? -1 : same[target]);
            }
        }
        return same;
    }

    private static Automaton Rewrite(Automaton automaton, bool[]? isAlive, Func<int, bool> isUsable, int[] same, CompileBudget budget)
    {
        int[] ids = new int[automaton.StateCount];
        Array.Fill(ids, -1);
        ids[0] = 0;
        List<int> states = [0];
        AutomatonWriter writer = new();
        for (int i = 0; i < states.Count; i++)
        {
            int state = states[i];
            foreach (ByteRange edge in automaton.RangesOf(state))
                if (Id(edge.Target) is var id and >= 0) writer.AddRange(edge.First, edge.Last, id);
            foreach (SymbolEdge edge in automaton.CallsOf(state))
                if (isUsable(edge.Symbol) && Id(edge.Target) is var id and >= 0) writer.AddCall(edge.Symbol, id);
            foreach (SymbolEdge edge in automaton.TokensOf(state))
                if (Id(edge.Target) is var id and >= 0) writer.AddToken(edge.Symbol, id);
            writer.EndState(automaton.IsEnd[state]);
        }
        budget.Spend(automaton.Ranges.Length + states.Count);
        return writer.ToAutomaton();

        int Id(int target)
        {
            if (isAlive is not null && !isAlive[target]) return -1;
            target = same[target];
            if (ids[target] >= 0) return ids[target];
            states.Add(target);
            return ids[target] = states.Count - 1;
        }
    }

    private static int[] Identity(int count)
    {
        int[] identity = new int[count];
        for (int i = 0; i < count; i++) identity[i] = i;
        return identity;
    }

    private readonly record struct SignatureKey(int[] Parts)
    {
        public bool Equals(SignatureKey other) => Parts.AsSpan().SequenceEqual(other.Parts);

        public override int GetHashCode()
        {
            HashCode hash = new();
            hash.AddBytes(MemoryMarshal.AsBytes(Parts.AsSpan()));
            return hash.ToHashCode();
        }
    }
}
