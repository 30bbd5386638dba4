using GemmaServer.Compute;
using GemmaServer.Text;

namespace GemmaServer.Engine;

/// <summary>Where a sequence stands.</summary>
internal enum SequenceState
{
    /// <summary>In the queue: new, or preempted.</summary>
    Waiting,

    /// <summary>Has a slot.</summary>
    Running,

    /// <summary>Its reader has the last event; slot and pages go back when no step in flight uses them.</summary>
    Finished,
}

/// <summary>
/// A request inside the engine: its tokens and how far they were computed.
/// <code>
/// |&lt;- Computed -&gt;|&lt;- RowsInFlight -&gt;|&lt;- RowsToCompute -&gt;|&lt;- Drafts -&gt;|
/// 0                                Scheduled         Count + SamplesInFlight
/// </code>
/// </summary>
internal sealed class Sequence
{
    /// <summary>Answers are seldom longer than this; longer ones grow by doubling.</summary>
    public const int FirstOutputRoom = 1024;

    /// <summary>Most guesses a step from a prediction.</summary>
    public const int MostPredicted = 64;

    private readonly int[] _stopTokens;
    private readonly Func<int, bool>? _endsWith;
    private int[] _tokens;

    /// <param name="request">The request, checked.</param>
    /// <param name="maxTokens">Its MaxTokens, bounded by the model's length.</param>
    /// <param name="endsWith">Takes each new token and says whether a stop string is complete.</param>
    /// <param name="generation">Where its events go.</param>
    /// <param name="serveBy">Timestamp at which it leaves the queue unserved; long.MaxValue for never.</param>
    /// <param name="endBy">Timestamp at which it ends wherever it is; long.MaxValue for never.</param>
    /// <param name="hashes">Names of its prefixes, those of the prompt at least; null keeps it out of the prefix cache.</param>
    public Sequence(GenerationRequest request, int maxTokens, Func<int, bool>? endsWith, Generation generation, long serveBy, long endBy, TokenHashes? hashes = null)
    {
        Hashes = hashes;
        CacheBoundary = Math.Clamp(request.CacheBoundary ?? int.MaxValue, 0, request.Prompt.Length - 1);
        Sampling = request.Sampling;
        PromptLogprobs = request.PromptLogprobs;
        MaxTokens = maxTokens;
        Generation = generation;
        Constraint = request.Constraint;
        _endsWith = endsWith;
        _stopTokens = [.. request.StopTokens];
        _tokens = new int[request.Prompt.Length + Math.Min(maxTokens, FirstOutputRoom)];
        request.Prompt.CopyTo(_tokens, 0);
        PromptLength = Count = request.Prompt.Length;
        Place = new QueuePlace(this, request, serveBy, endBy);
    }

    public Generation Generation { get; }

    /// <summary>Names of its prefixes; null when it takes no part in the prefix cache.</summary>
    public TokenHashes? Hashes { get; }

    /// <summary>Whether the names are known to the choices of one request only; such hits do not count as the cache's.</summary>
    public bool HasPrivateHashes { get; init; }

    /// <summary>Where the prompt's next turn is likely to part from it.</summary>
    public int CacheBoundary { get; }

    /// <summary>Positions whose full pages the prefix cache knows; at most <see cref="Computed"/>.</summary>
    public int Shown { get; set; }

    public SamplingParams Sampling { get; }

    /// <summary>As in <see cref="GenerationRequest.PromptLogprobs"/>.</summary>
    public int PromptLogprobs { get; }

    public int MaxTokens { get; }

    public int PromptLength { get; }

    /// <summary>Its side of the queue.</summary>
    public QueuePlace Place { get; }

    public SequenceState State { get; set; }

    /// <summary>−1 without one.</summary>
    public int Slot { get; set; } = -1;

    /// <summary>The slot's table; null without a slot.</summary>
    public BlockTable? Blocks { get; set; }

    /// <summary>Pages in <see cref="Blocks"/>.</summary>
    public int PagesHeld { get; set; }

    /// <summary>Pages that it holds when all known tokens are computed.</summary>
    public int PagesToPrefill { get; set; }

    /// <summary>Most pages that it holds beside those on the way there.</summary>
    public int PagesInPassing { get; set; }

    /// <summary>Known tokens: the prompt and what was committed.</summary>
    public int Count { get; private set; }

    /// <summary>Positions whose keys and values were committed.</summary>
    public int Computed { get; set; }

    /// <summary>Rows, steps and samples that were launched and not collected.</summary>
    public int RowsInFlight { get; private set; }

    /// <inheritdoc cref="RowsInFlight"/>
    public int StepsInFlight { get; private set; }

    /// <inheritdoc cref="RowsInFlight"/>
    public int SamplesInFlight { get; private set; }

    /// <summary>Tokens known when it got its slot: up to here it prefills, from here on it decodes.</summary>
    public int PrefillEnd { get; set; }

    /// <summary>The next position to compute.</summary>
    public int Scheduled => Computed + RowsInFlight;

    public bool IsPrefilling => Scheduled < PrefillEnd;

    /// <summary>Whether one more token than those known and those in flight is wanted.</summary>
    public bool WantsToken => Count - PromptLength + SamplesInFlight < MaxTokens;

    /// <summary>
    /// Rows between <see cref="Scheduled"/> and the end. The one behind a sample in flight only when its own sample is wanted, and
    /// not where that one depends on which token the first was.
    /// </summary>
    public int RowsToCompute => Count - Scheduled + (WantsToken && Constraint is null ? SamplesInFlight : 0);

    /// <summary>Which tokens may come next; null where any.</summary>
    public TokenConstraint? Constraint { get; }

    /// <summary>How many tokens to guess a step; null where nobody guesses.</summary>
    public DraftDepth? Depth { get; init; }

    /// <summary>Guesses from its own tokens; null where the runner guesses, or nobody.</summary>
    public NgramIndex? Ngrams { get; init; }

    /// <summary>Guesses from the answer that the client expects, before all others; null without one.</summary>
    public PredictedText? Prediction { get; init; }

    /// <summary>Whether <see cref="Drafts"/> come from the <see cref="Prediction"/>.</summary>
    public bool AreDraftsPredicted { get; private set; }

    /// <summary>Guesses that stand behind the known tokens, to be verified.</summary>
    public int Drafts { get; private set; }

    /// <summary>Guesses that are worth having after the next token: never more than tokens that may still come.</summary>
    public int DraftsWanted => Depth is { Next: > 0 } depth ? Math.Clamp(MaxTokens - (Count - PromptLength) - 1, 0, depth.Next) : 0;

    /// <summary>Whether rows from <paramref name="start"/> on give prompt logprobs that are not known from before a preemption.</summary>
    public bool WantsPromptLogprobs(int start) =>
        PromptLogprobs >= 0 && start < PromptLength - 1 && Generation.PromptLogprobsKnown < PromptLength - 1;

    public ReadOnlySpan<int> Tokens => _tokens.AsSpan(0, Count);

    /// <summary><see cref="Tokens"/> with the guesses behind them.</summary>
    public ReadOnlySpan<int> TokensAndDrafts => _tokens.AsSpan(0, Count + Drafts);

    public ReadOnlySpan<int> Prompt => _tokens.AsSpan(0, PromptLength);

    public ReadOnlySpan<int> Output => _tokens.AsSpan(PromptLength, Count - PromptLength);

    public void Launched(in SequenceSlice slice, int rows)
    {
        StepsInFlight++;
        RowsInFlight += rows;
        if (slice.Sample) SamplesInFlight++;
    }

    public void Landed(in SequenceSlice slice)
    {
        StepsInFlight--;
        RowsInFlight -= slice.QueryLength;
        if (slice.Sample) SamplesInFlight--;
    }

    /// <summary>Puts guesses behind the known tokens.</summary>
    public void SetDrafts(ReadOnlySpan<int> drafts)
    {
        Reserve(Count + drafts.Length);
        drafts.CopyTo(_tokens.AsSpan(Count));
        Drafts = drafts.Length;
        AreDraftsPredicted = false;
    }

    /// <summary>Settles at most <paramref name="most"/> guesses: from the prediction, else from its own tokens, else those that the runner gave.</summary>
    public void Guess(int most)
    {
        if (Prediction is not null)
        {
            // What the runner guessed stays where it is unless the prediction has something to put there.
            Span<int> predicted = stackalloc int[Math.Min(most, MostPredicted)];
            int count = Prediction.Guess(Tokens, predicted);
            if (count > 0)
            {
                SetDrafts(predicted[..count]);
                AreDraftsPredicted = true;
                return;
            }
        }
        AreDraftsPredicted = false;
        if (Ngrams is null)
        {
            KeepDrafts(most);
            return;
        }
        Ngrams.Extend(Tokens);
        Reserve(Count + most);
        Drafts = Ngrams.Guess(Tokens, _tokens.AsSpan(Count, most));
    }

    /// <summary>Forgets all guesses but the first <paramref name="count"/>.</summary>
    public void KeepDrafts(int count) => Drafts = Math.Min(Drafts, count);

    /// <summary>Makes a token real and says whether the answer ends with it.</summary>
    public FinishReason Append(int token)
    {
        Reserve(Count + 1);
        _tokens[Count++] = token;
        Place.Account?.ChargeOutput();
        if (Constraint?.TryPush(token) == false) throw new InvalidOperationException($"The runner chose token {token}, which was not allowed.");

        if (_stopTokens.AsSpan().Contains(token)) return FinishReason.Stop;
        if (_endsWith is not null && _endsWith(token)) return FinishReason.Stop;
        return Count - PromptLength >= MaxTokens ? FinishReason.Length : FinishReason.None;
    }

    /// <summary>Room for so many tokens, guesses included.</summary>
    private void Reserve(int count)
    {
        if (count > _tokens.Length) Array.Resize(ref _tokens, Math.Max(count, _tokens.Length * 2));
    }
}
