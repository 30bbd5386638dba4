using GemmaServer.Compute;

namespace GemmaServer.Engine;

/// <summary>
/// One request's answer while it is made: events for one reader, and the moments that matter. Everything but
/// <see cref="Cancel"/> belongs to that reader; what the engine fills in is complete once an event tells so.
/// </summary>
public sealed class Generation
{
    // 24 bytes an event; a reader more than a thousand tokens behind makes the queue grow.
    private const int MaxFirstRing = 1024;

    private readonly TokenEventQueue _events;
    private readonly List<TokenLogprob[]>? _promptLogprobs;
    private Action? _cancel;

    internal Generation(GenerationRequest request, int maxTokens, long queuedAt)
    {
        Id = request.Id;
        PromptTokens = request.Prompt.Length;
        QueuedAt = queuedAt;
        _events = new TokenEventQueue(Math.Min(maxTokens + 1, MaxFirstRing));
        if (request.PromptLogprobs >= 0) _promptLogprobs = new List<TokenLogprob[]>(request.Prompt.Length - 1);
    }

    /// <summary>The request's id.</summary>
    public string Id { get; }

    /// <summary>Tokens in the prompt.</summary>
    public int PromptTokens { get; }

    /// <summary>Those of them that came from the prefix cache when it was first admitted. Known before the first event.</summary>
    public int CachedTokens { get; internal set; }

    /// <summary>Tokens of the answer that were guessed from the request's prediction. Complete with the last event, as the next one.</summary>
    public int AcceptedPredictions { get; private set; }

    /// <summary>Guesses from the prediction that were computed and were wrong.</summary>
    public int RejectedPredictions { get; private set; }

    /// <summary>Tokens handed out so far.</summary>
    public int GeneratedTokens { get; private set; }

    /// <summary>Why it ended; None while it goes on.</summary>
    public FinishReason Finish { get; private set; }

    /// <summary>When it was submitted: a timestamp of <see cref="EngineOptions.Time"/>, as the three below.</summary>
    public long QueuedAt { get; }

    /// <summary>When it first left the queue for a place in the batch; 0 when it never did.</summary>
    public long AdmittedAt { get; private set; }

    /// <summary>When its first token was committed; 0 when there was none.</summary>
    public long FirstTokenAt { get; private set; }

    /// <summary>When it ended; 0 while it goes on.</summary>
    public long FinishedAt { get; private set; }

    /// <summary>
    /// For each prompt token but the first: that token with its logprob, then the n best at its place. Complete before the
    /// first token's event; null when not asked for.
    /// </summary>
    public IReadOnlyList<TokenLogprob[]>? PromptLogprobs => _promptLogprobs;

    /// <summary>Takes the next event if there is one.</summary>
    public bool TryRead(out TokenEvent tokenEvent) => _events.TryRead(out tokenEvent);

    /// <summary>Completes with true when there is an event to read, with false when the last one was read.</summary>
    /// <exception cref="OperationCanceledException">The token was cancelled before; the request itself goes on.</exception>
    public ValueTask<bool> WaitToReadAsync(CancellationToken cancellation = default) => _events.WaitToReadAsync(cancellation);

    /// <summary>Ends the request with <see cref="FinishReason.Abort"/> at the next step. From any thread, at any time, more than once.</summary>
    public void Cancel() => Interlocked.Exchange(ref _cancel, null)?.Invoke();

    /// <summary>Whether somebody asked for the end.</summary>
    internal bool IsCancelled => Volatile.Read(ref _cancel) is null;

    internal int PromptLogprobsKnown => _promptLogprobs?.Count ?? 0;

    internal void OnCancel(Action cancel) => _cancel = cancel;

    internal void AddPromptLogprobs(TokenLogprob[] token) => _promptLogprobs!.Add(token);

    internal void Admitted(long at)
    {
        if (AdmittedAt == 0) AdmittedAt = at;
    }

    internal void AddPredicted(int guesses, int accepted)
    {
        AcceptedPredictions += accepted;
        RejectedPredictions += guesses - accepted;
    }

    internal void Publish(in TokenEvent token, long at)
    {
        if (FirstTokenAt == 0) FirstTokenAt = at;
        GeneratedTokens++;
        _events.Write(token);
    }

    /// <summary>Publishes the last event, which may carry a token.</summary>
    internal void Complete(in TokenEvent last, long at)
    {
        Finish = last.Finish;
        FinishedAt = at;
        if (last.Token >= 0)
        {
            if (FirstTokenAt == 0) FirstTokenAt = at;
            GeneratedTokens++;
        }
        Volatile.Write(ref _cancel, null);      // lets go of the engine's side
        _events.Write(last);
    }
}
