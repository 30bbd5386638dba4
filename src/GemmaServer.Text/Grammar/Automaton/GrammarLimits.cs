namespace GemmaServer.Text;

/// <summary>How much a grammar may cost. What passes a limit ends in a <see cref="GrammarException"/>, so that no request can stall a server.</summary>
public sealed record GrammarLimits
{
    /// <summary>What a server takes.</summary>
    public static GrammarLimits Default { get; } = new();

    /// <summary>Nodes a grammar is put together from.</summary>
    public int MaxNodes { get; init; } = 500_000;

    /// <summary>States of all automata together; a state takes about 60 bytes while compiling.</summary>
    public int MaxStates { get; init; } = 400_000;

    /// <summary>States of one deterministic automaton. A rule that would have more is followed as it is, if that is small.</summary>
    public int MaxDeterministicStates { get; init; } = 30_000;

    /// <summary>Elementary steps of compiling; ten million take some tenths of a second. Makes the end independent of the machine.</summary>
    public long MaxWork { get; init; } = 30_000_000;

    /// <summary>Time for compiling, in case steps are slow.</summary>
    public TimeSpan MaxTime { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>Memory that masks and states found while answering may take before they are forgotten and found again.</summary>
    public long MaxCacheBytes { get; init; } = 64L << 20;

    /// <summary>Steps for one mask. A grammar so ambiguous that it needs more allows fewer tokens than it could, never none.</summary>
    public int MaxMaskWork { get; init; } = 400_000;
}
