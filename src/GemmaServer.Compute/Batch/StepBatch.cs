namespace GemmaServer.Compute;

/// <summary>One sequence's share of a step: a run of consecutive rows in <see cref="StepBatch.Tokens"/>.</summary>
public struct SequenceSlice
{
    /// <summary>Place of the sequence on the device, 0 … MaxSequences − 1; opened with <c>OpenSlot</c>.</summary>
    public int Slot;

    /// <summary>First row in <see cref="StepBatch.Tokens"/>.</summary>
    public int QueryStart;

    /// <summary>Rows of this sequence in the step: 1 for decode, a chunk for prefill.</summary>
    public int QueryLength;

    /// <summary>Positions already in the KV cache, so the position of the slice's first row.</summary>
    public int ContextLength;

    /// <summary>Whether the token after the last row is sampled (false: the prompt goes on in a later step).</summary>
    public bool Sample;

    /// <summary>
    /// The last so many rows hold guesses of what is sampled after the row before. Each of them and the row before the first
    /// gets a sample, in order, until a guess was wrong: the right ones and the first that differs are the step's tokens.
    /// Only with <see cref="Sample"/>.
    /// </summary>
    public int Drafts;

    /// <summary>Most guesses that the runner may give for the rows after this step's last token; 0 for none. Only with <see cref="Sample"/>.</summary>
    public int DraftsWanted;

    /// <summary>−1: none; n ≥ 0: for each row, the logprob of the token that follows it in the prompt and the n best.</summary>
    public int PromptLogprobs;

    /// <summary>The token that follows the slice's last row in the prompt, −1 when none does; read only with <see cref="PromptLogprobs"/>.</summary>
    public int NextPromptToken;

    /// <summary>Where the slice's keys and values live.</summary>
    public BlockTable Blocks;
}

/// <summary>A ragged batch: prefill chunks and decode tokens that share one forward pass. Filled by the scheduler, reused each step.</summary>
public sealed class StepBatch
{
    /// <summary>Stands for "the token this slot sampled last", which may still be on the device.</summary>
    public const int LastSampled = -1;

    private readonly int[] _tokens;
    private readonly SequenceSlice[] _slices;
    private readonly ulong[]?[] _allowed;
    private bool _anyAllowed;

    /// <summary>Room for so many rows and sequences.</summary>
    public StepBatch(int maxTokens, int maxSequences)
    {
        _tokens = new int[maxTokens];
        _slices = new SequenceSlice[maxSequences];
        _allowed = new ulong[]?[maxTokens];
    }

    /// <summary>Rows in this step.</summary>
    public int TokenCount { get; private set; }

    /// <summary>Sequences in this step.</summary>
    public int SequenceCount { get; private set; }

    /// <summary>Token ids, one per row; <see cref="LastSampled"/> where the device knows better.</summary>
    public ReadOnlySpan<int> Tokens => _tokens.AsSpan(0, TokenCount);

    /// <summary>The sequences, in row order.</summary>
    public ReadOnlySpan<SequenceSlice> Slices => _slices.AsSpan(0, SequenceCount);

    /// <summary>What may be sampled from a row: one bit for each token id, set where it may; null where any token may.</summary>
    public ulong[]? Allowed(int row) => _allowed[row];

    /// <summary>Says what may be sampled from a row that was added; the array is not changed as long as the step lasts.</summary>
    public void Allow(int row, ulong[]? tokens)
    {
        _allowed[row] = tokens;
        _anyAllowed |= tokens is not null;
    }

    /// <summary>Rows that still fit.</summary>
    public int FreeTokens => _tokens.Length - TokenCount;

    /// <summary>Sequences that still fit.</summary>
    public int FreeSequences => _slices.Length - SequenceCount;

    /// <summary>Forgets everything.</summary>
    public void Clear()
    {
        if (_anyAllowed) Array.Clear(_allowed, 0, TokenCount);
        _anyAllowed = false;
        TokenCount = 0;
        SequenceCount = 0;
    }

    /// <summary>Appends a slice; <paramref name="slice"/>'s QueryStart and QueryLength are set here.</summary>
    public void Add(SequenceSlice slice, ReadOnlySpan<int> tokens)
    {
        slice.QueryStart = TokenCount;
        slice.QueryLength = tokens.Length;
        tokens.CopyTo(_tokens.AsSpan(TokenCount));
        TokenCount += tokens.Length;
        _slices[SequenceCount++] = slice;
    }
}
