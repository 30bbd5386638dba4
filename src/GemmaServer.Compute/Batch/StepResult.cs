namespace GemmaServer.Compute;

/// <summary>A step that was started. Collect in the order of launching.</summary>
/// <param name="Number">Counts up from 1; 0 is "none".</param>
public readonly record struct StepTicket(long Number);

/// <summary>A token with its natural-log probability before temperature, penalties and masks.</summary>
public readonly record struct TokenLogprob(int Token, float Logprob);

/// <summary>What a step produced. Owned by the runner and valid until the next <c>Collect</c>.</summary>
public sealed class StepResult
{
    private readonly int[] _starts;
    private int[] _tokens;
    private TokenLogprob[]?[] _tops;
    private float[] _logprobs;
    private int _count;
    private readonly List<TokenLogprob[]>?[] _prompt;
    private readonly int[] _drafts;         // [sequences, maxDrafts]
    private readonly int[] _draftCounts;
    private readonly int _maxDrafts;

    /// <summary>Room for so many sequences, and so many guesses for each.</summary>
    public StepResult(int maxSequences, int maxDrafts = 0)
    {
        _maxDrafts = maxDrafts;
        _drafts = new int[maxSequences * maxDrafts];
        _draftCounts = new int[maxSequences];
        _starts = new int[maxSequences + 1];
        _tokens = new int[maxSequences];
        _logprobs = new float[maxSequences];
        _tops = new TokenLogprob[]?[maxSequences];
        _prompt = new List<TokenLogprob[]>?[maxSequences];
    }

    /// <summary>Sequences of the step's batch, in its order.</summary>
    public int SequenceCount { get; private set; }

    /// <summary>Tokens sampled for a sequence: none for an unfinished prompt, one for plain decode, more with drafts.</summary>
    public ReadOnlySpan<int> Tokens(int sequence) => _tokens.AsSpan(_starts[sequence], _starts[sequence + 1] - _starts[sequence]);

    /// <summary>Logprob of the i-th sampled token; NaN where not asked for.</summary>
    public float Logprob(int sequence, int i) => _logprobs[_starts[sequence] + i];

    /// <summary>The best tokens beside the i-th sampled one, best first; null where not asked for.</summary>
    public TokenLogprob[]? TopLogprobs(int sequence, int i) => _tops[_starts[sequence] + i];

    /// <summary>
    /// For a slice with PromptLogprobs: one array per row, first the prompt token that follows the row, then the n best;
    /// a row with no following prompt token gives none. Null where not asked for.
    /// </summary>
    public IReadOnlyList<TokenLogprob[]>? PromptLogprobs(int sequence) => _prompt[sequence];

    /// <summary>Guesses of what follows a sequence's last token, at most its slice's DraftsWanted.</summary>
    public ReadOnlySpan<int> Drafts(int sequence) => _drafts.AsSpan(sequence * _maxDrafts, _draftCounts[sequence]);

    /// <summary>Starts filling.</summary>
    public void Begin()
    {
        SequenceCount = 0;
        _count = 0;
        _starts[0] = 0;
        Array.Clear(_draftCounts);
    }

    /// <summary>Adds a guess to a sequence that is filled.</summary>
    public void AddDraft(int sequence, int token) => _drafts[sequence * _maxDrafts + _draftCounts[sequence]++] = token;

    /// <summary>Adds a token to the sequence being filled.</summary>
    public void AddToken(int token, float logprob, TokenLogprob[]? top)
    {
        if (_count == _tokens.Length)
        {
            Array.Resize(ref _tokens, _count * 2);
            Array.Resize(ref _logprobs, _count * 2);
            Array.Resize(ref _tops, _count * 2);
        }
        _tokens[_count] = token;
        _logprobs[_count] = logprob;
        _tops[_count++] = top;
    }

    /// <summary>Closes the sequence being filled.</summary>
    public void EndSequence(List<TokenLogprob[]>? promptLogprobs = null)
    {
        _prompt[SequenceCount] = promptLogprobs;
        _starts[++SequenceCount] = _count;
    }
}
