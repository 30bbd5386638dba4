using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.Engine;

// How requests come in, on the caller's thread: checked against the limits, their prompts hashed and indexed.
public sealed partial class InferenceEngine
{
    /// <summary>Guesses a step from a prediction where the engine does not guess as many: an edit keeps whole lines.</summary>
    private const int PredictedDrafts = 16;

    /// <summary>Hands a request to the engine thread, or says at once why not. From any thread.</summary>
    /// <param name="request">Checked and complete; MaxTokens is bounded by the model's length here.</param>
    /// <param name="generation">Its answer; null unless accepted. Every accepted request ends with a reason.</param>
    /// <exception cref="ArgumentException">The prompt is empty or longer than the model: the caller did not check.</exception>
    public SubmitResult TrySubmit(GenerationRequest request, out Generation? generation) =>
        TrySubmit(request, request.Stop is { } stop ? stop.Push : null, out generation);

    /// <summary>Hands several requests of one client in, all or none: the choices of one answer. Equal beginnings among them are computed once.</summary>
    /// <param name="requests">As above, each; all of the first one's client.</param>
    /// <param name="generations">Their answers, in the same order; null unless accepted.</param>
    /// <exception cref="ArgumentException">A prompt is empty or longer than the model, or the clients differ: the caller did not check.</exception>
    public SubmitResult TrySubmit(IReadOnlyList<GenerationRequest> requests, out Generation[]? generations)
    {
        string? privateSalt = requests.Count > 1 && !_options.PrefixCaching ? Guid.NewGuid().ToString() : null;
        Sequence[] sequences = new Sequence[requests.Count];
        for (int i = 0; i < sequences.Length; i++)
        {
            if (requests[i].Client != requests[0].Client) throw new ArgumentException("The requests are of different clients.", nameof(requests));
            sequences[i] = Prepare(requests[i], requests[i].Stop is { } stop ? stop.Push : null, privateSalt);
        }
        return TrySubmit(sequences, out generations);
    }

    internal SubmitResult TrySubmit(GenerationRequest request, Func<int, bool>? endsWith, out Generation? generation)
    {
        SubmitResult result = TrySubmit([Prepare(request, endsWith, privateSalt: null)], out Generation[]? generations);
        generation = generations?[0];
        return result;
    }

    /// <summary>When to try again after a refusal: about when what waits now was admitted, by the rate of the last admissions; 1 to 60 seconds.</summary>
    /// <param name="client">For <see cref="SubmitResult.ClientQueueFull"/> the client; null for the whole queue.</param>
    public TimeSpan RetryAfter(string? client = null)
    {
        double seconds = _limits.Estimate(client, _options.Time.GetTimestamp()) / _options.Time.TimestampFrequency;
        return TimeSpan.FromSeconds(Math.Clamp(seconds, 1, 60));
    }

    private SubmitResult TrySubmit(Sequence[] sequences, out Generation[]? generations)
    {
        generations = null;
        lock (_submitting)
        {
            if (_closed) return SubmitResult.ShuttingDown;
            SubmitResult result = _limits.TryEnter(sequences[0].Place.Client, sequences.Length);
            if (result != SubmitResult.Accepted) return result;
            generations = new Generation[sequences.Length];
            for (int i = 0; i < sequences.Length; i++)
            {
                sequences[i].Place.Arrival = _arrivals++;
                generations[i] = sequences[i].Generation;
                _inbox.Enqueue(sequences[i]);
            }
        }
        Ring();
        return SubmitResult.Accepted;
    }

    private Sequence Prepare(GenerationRequest request, Func<int, bool>? endsWith, string? privateSalt)
    {
        if (request.Prompt.Length == 0 || request.Prompt.Length > MaxModelLength)
            throw new ArgumentException($"A prompt of {request.Prompt.Length} tokens; it must have 1 to {MaxModelLength}.", nameof(request));

        int maxTokens = Math.Clamp(request.MaxTokens, 0, MaxModelLength - request.Prompt.Length);
        int drafts = maxTokens > 1 ? DraftsFor(request) : 0;
        DraftDepth? depth = drafts > 0 ? new DraftDepth(drafts, isLikely: request.Prediction is not null) : null;
        NgramIndex? ngrams = depth is null || _runner.MaxDrafts > 0 || _options.PromptLookupDrafts == 0 ? null : IndexNgrams(request, maxTokens);
        long now = _options.Time.GetTimestamp();
        Generation generation = new(request, maxTokens, now);
        TokenHashes? hashes = Hash(request, maxTokens, privateSalt);
        Sequence sequence = new(request, maxTokens, endsWith, generation, Deadline(request.QueueTimeout, now), Deadline(request.Timeout, now), hashes)
        {
            HasPrivateHashes = privateSalt is not null,
            Depth = depth,
            Ngrams = ngrams,
            Prediction = depth is not null && request.Prediction is { Length: > 0 } predicted ? new PredictedText(predicted, request.Prompt.Length) : null,
        };
        generation.OnCancel(() => Cancel(sequence));
        return sequence;
    }

    /// <summary>Most guesses a step for a request: the engine's, more where the client says what will come, fewer where it wants fewer.</summary>
    private int DraftsFor(GenerationRequest request)
    {
        int most = request.Prediction is { Length: > 0 } ? Math.Max(MaxDrafts, PredictedDrafts) : MaxDrafts;
        return Math.Min(most, request.MaxDrafts ?? most);
    }

    /// <summary>
    /// Names the prompt's prefixes here, on the caller's thread. Without a prefix cache only the choices of one request share
    /// what they compute, by a salt of their own. Null for a request that shares nothing: prompt logprobs come from computed rows.
    /// </summary>
    private TokenHashes? Hash(GenerationRequest request, int maxTokens, string? privateSalt)
    {
        if (request.PromptLogprobs >= 0 || (!_options.PrefixCaching && privateSalt is null)) return null;
        TokenHashes hashes = new(_scheduler.HashUnit, privateSalt ?? request.CacheSalt, request.Prompt.Length + Math.Min(maxTokens, Sequence.FirstOutputRoom));
        hashes.Extend(request.Prompt);
        return hashes;
    }

    /// <summary>Indexes the prompt here, on the caller's thread.</summary>
    private static NgramIndex IndexNgrams(GenerationRequest request, int maxTokens)
    {
        NgramIndex ngrams = new(request.Prompt.Length + Math.Min(maxTokens, Sequence.FirstOutputRoom));
        ngrams.Extend(request.Prompt);
        return ngrams;
    }

    private long Deadline(TimeSpan? within, long now)
    {
        if (within is not { } timeout) return long.MaxValue;
        double deadline = now + timeout.TotalSeconds * _options.Time.TimestampFrequency;
        return deadline >= long.MaxValue ? long.MaxValue : (long)deadline;
    }
}
