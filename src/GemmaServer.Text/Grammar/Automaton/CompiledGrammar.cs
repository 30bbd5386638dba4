namespace GemmaServer.Text;

/// <summary>
/// A grammar ready to constrain answers: an automaton over bytes with a stack, and the token masks of the states that answers came
/// through. Made once per schema and shared by any number of answers.
/// </summary>
/// <remarks>
/// What is found out along the way is kept here, under a lock that is hardly ever waited for, within
/// <see cref="GrammarLimits.MaxCacheBytes"/>.
/// </remarks>
public sealed class CompiledGrammar
{
    private const int MaxSlices = 4;     // so many fit into what the vocabulary keeps of them

    private readonly GrammarStore _store;
    private readonly GrammarMachine _machine;
    private readonly MaskBuilder _masks;
    private readonly TokenTrie _vocabulary;
    private readonly Lock _lock = new();

    private CompiledGrammar(GrammarTables tables, bool takesEmptyText, TokenTrie vocabulary, TokenSlice[] slices, GrammarLimits limits)
    {
        _vocabulary = vocabulary;
        AutomatonStates = tables.States.StateCount;
        _store = new GrammarStore(limits.MaxCacheBytes);
        _machine = new GrammarMachine(tables, takesEmptyText, _store, vocabulary.MostCharacters);
        _masks = new MaskBuilder(_machine, _store, vocabulary, slices, limits.MaxMaskWork);
    }

    /// <summary>Makes the automaton.</summary>
    /// <param name="root">The whole answer, with the special tokens that end it.</param>
    /// <param name="vocabulary">What tokens spell.</param>
    /// <param name="limits">How much it may cost; the server's if null.</param>
    /// <param name="cancellation">Gives up.</param>
    /// <exception cref="GrammarException">The grammar matches nothing, passes a limit, or cannot be spelled by the vocabulary.</exception>
    public static CompiledGrammar Compile(GrammarNode root, TokenTrie vocabulary, GrammarLimits? limits = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(root);
        ArgumentNullException.ThrowIfNull(vocabulary);
        CompileBudget budget = new(limits ?? GrammarLimits.Default, cancellation);
        NodeSurvey survey = new(root, budget);
        GrammarGraph graph = new GraphBuilder(survey, budget, isRegular: false).Build(root);
        GrammarTables tables = GrammarTables.Make(graph, budget, out bool takesEmptyText);
        CheckSpelling(tables, vocabulary);
        return new CompiledGrammar(tables, takesEmptyText, vocabulary, Slices(survey, vocabulary), budget.Limits);
    }

    /// <summary>States of the automaton, for diagnosis.</summary>
    public int AutomatonStates { get; }

    /// <summary>About what masks and states found so far take.</summary>
    public long CachedBytes
    {
        get
        {
            lock (_lock) return _store.Bytes;
        }
    }

    internal GrammarState Start => _machine.Start;

    /// <summary>States found so far and not forgotten.</summary>
    internal int FoundStates => _store.Count;

    /// <summary>Where a token leads; <see cref="GrammarState.Dead"/> where it is not allowed.</summary>
    internal GrammarState Push(GrammarState state, int token)
    {
        ReadOnlySpan<byte> bytes = _vocabulary.Bytes(token);
        return bytes.IsEmpty ? PushSpecial(state, token) : Push(state, bytes);
    }

    /// <summary>Where some text leads.</summary>
    internal GrammarState Push(GrammarState state, ReadOnlySpan<byte> bytes)
    {
        int at = 0;
        for (; at < bytes.Length; at++)
        {
            GrammarState? next = _machine.Known(state, bytes[at]);
            if (next is null) break;
            if (next == GrammarState.Dead) return next;
            state = next;
        }
        if (at == bytes.Length) return state;
        lock (_lock)
        {
            _store.Trim();
            for (; at < bytes.Length && state != GrammarState.Dead; at++) state = _machine.Next(state, bytes[at]);
            return state;
        }
    }

    /// <summary>The tokens that may follow a state that is not finished.</summary>
    internal ulong[] Mask(GrammarState state)
    {
        if (state.Like is { Mask: { } known } like)
        {
            like.IsUsed = state.IsUsed = true;
            return known;
        }
        lock (_lock)
        {
            _store.Trim();
            like = _machine.Like(state);
            if (like.Mask is { } made) return made;
            ulong[] mask = _masks.Build(like);
            _store.Hold(like, mask.Length * sizeof(ulong));
            return like.Mask = mask;
        }
    }

    private GrammarState PushSpecial(GrammarState state, int token)
    {
        (int Token, GrammarState Next)[]? specials = state.Specials;
        if (specials is null)
        {
            lock (_lock) specials = _machine.Specials(state);
        }
        foreach ((int id, GrammarState next) in specials)
            if (id == token) return next;
        return GrammarState.Dead;
    }

    /// <summary>Whether some text without special tokens is all of what the grammar describes.</summary>
    internal bool Matches(ReadOnlySpan<byte> text) => Push(Start, text).IsComplete;

    // A byte that is no token by itself could leave an answer where no token leads on.
    private static void CheckSpelling(GrammarTables tables, TokenTrie vocabulary)
    {
        for (int value = 0; value < 256; value++)
        {
            if (tables.Classes.IsUsed[value] && !vocabulary.SpelledBytes[value])
                throw new GrammarException($"The grammar needs the byte 0x{value:X2}, for which the model's vocabulary has no token.");
        }
        foreach (SymbolEdge edge in tables.States.Tokens)
        {
            if ((uint)edge.Symbol >= (uint)vocabulary.VocabularySize || !vocabulary.Bytes(edge.Symbol).IsEmpty)
                throw new GrammarException($"Token {edge.Symbol} is no special token of the model.");
        }
    }

    private static TokenSlice[] Slices(NodeSurvey survey, TokenTrie vocabulary)
    {
        List<CodePointRange[]> classes = [.. survey.LargeClasses];
        classes.Sort(static (a, b) => CodePointSet.Count(b).CompareTo(CodePointSet.Count(a)));
        TokenSlice[] slices = new TokenSlice[Math.Min(classes.Count, MaxSlices)];
        for (int i = 0; i < slices.Length; i++) slices[i] = vocabulary.Slice(classes[i]);
        return slices;
    }
}
