using GemmaServer.Engine;

namespace GemmaServer;

/// <summary>The generations of one HTTP request: submitted together, waited for together, cancelled together.</summary>
internal sealed class GenerationSet
{
    private readonly Generation[] _generations;
    private readonly Task<bool>?[] _waits;

    private GenerationSet(Generation[] generations)
    {
        _generations = generations;
        _waits = new Task<bool>?[generations.Length];
    }

    /// <summary>The generations, in the order of the requests.</summary>
    public IReadOnlyList<Generation> All => _generations;

    /// <summary>Hands all requests in, or none.</summary>
    public static ApiError? TrySubmit(InferenceEngine engine, IReadOnlyList<GenerationRequest> requests, out GenerationSet? set)
    {
        SubmitResult result = engine.TrySubmit(requests, out Generation[]? accepted);
        set = accepted is null ? null : new GenerationSet(accepted);
        return result switch
        {
            SubmitResult.Accepted => null,
            SubmitResult.QueueFull => ApiError.QueueFull(engine.RetryAfter()),
            SubmitResult.ClientQueueFull => ApiError.ClientQueueFull(engine.RetryAfter(requests[0].Client ?? "")),
            _ => ApiError.Draining,
        };
    }

    /// <summary>Ends everything that still runs. From any thread.</summary>
    public void Cancel()
    {
        foreach (Generation generation in _generations) generation.Cancel();
    }

    /// <summary>Completes when at least one generation that is not done has an event.</summary>
    /// <param name="isDone">By place: nobody reads this one any more.</param>
    /// <param name="wake">Gives the wait up; the generations go on.</param>
    public ValueTask<bool> WaitAsync(Func<int, bool> isDone, CancellationToken wake) =>
        // One generation is the common case, and its own wait allocates nothing.
        _generations.Length == 1 ? _generations[0].WaitToReadAsync(wake) : WaitAnyAsync(isDone, wake);

    private async ValueTask<bool> WaitAnyAsync(Func<int, bool> isDone, CancellationToken wake)
    {
        List<Task<bool>> open = [];
        for (int i = 0; i < _generations.Length; i++)
        {
            if (isDone(i)) continue;
            if (_waits[i] is not { IsCompleted: false }) _waits[i] = _generations[i].WaitToReadAsync(wake).AsTask();
            open.Add(_waits[i]!);
        }
        return open.Count > 0 && await await Task.WhenAny(open);
    }
}
