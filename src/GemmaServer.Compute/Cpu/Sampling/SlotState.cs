namespace GemmaServer.Compute;

/// <summary>What the sampler keeps of one sequence: its parameters, its last token, and counts where penalties need them.</summary>
internal sealed class SlotState
{
    private readonly Dictionary<int, int> _counts = [];

    public SamplingParams Sampling { get; private set; } = new();

    public int Generated { get; private set; }

    public int LastToken { get; private set; }

    /// <summary>Tokens seen, with how often they occur in the output (0: only in the prompt).</summary>
    public Dictionary<int, int> Counts => _counts;

    public void Open(SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        Sampling = sampling;
        Generated = 0;
        _counts.Clear();
        if (sampling.HasPenalties)
            foreach (int token in prompt) _counts.TryAdd(token, 0);
        foreach (int token in output) Commit(token);
    }

    public void Commit(int token)
    {
        LastToken = token;
        Generated++;
        if (!Sampling.HasPenalties) return;
        _counts.TryGetValue(token, out int count);
        _counts[token] = count + 1;
    }
}
