using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.GoldenTests;

/// <summary>An engine under random traffic: its clients, and how every request ended.</summary>
internal sealed class SoakEngine : IDisposable
{
    private const int Clients = 24;

    /// <summary>How long a client is quiet after a refusal: without it one that is refused would ask all that there is to ask.</summary>
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(100);

    /// <summary>Far beyond what a wave takes: somebody waits for ever.</summary>
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(3);

    private readonly string _name;
    private readonly ServingHarness _serving;
    private readonly long[] _ends = new long[Enum.GetValues<FinishReason>().Length];
    private long _asked, _refused, _refusedSets;

    /// <param name="name">Who guesses.</param>
    /// <param name="serving">An engine that is not started yet.</param>
    public SoakEngine(string name, ServingHarness serving)
    {
        (_name, _serving) = (name, serving);
        Engine.Start();
    }

    public EngineMetrics Metrics => Engine.Metrics;

    /// <summary>Each choice of a set counts, refused ones too.</summary>
    public long Asked => _asked;

    private InferenceEngine Engine => _serving.Engine;

    /// <summary>Each client asks, reads to the end, compares, and asks again. Then the engine stands still, and its books are checked.</summary>
    /// <param name="wave">What they ask, in this order.</param>
    /// <param name="last">Asked alone after that.</param>
    public async Task ServeAsync(SoakRequest[] wave, SoakRequest last)
    {
        int next = -1;
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(_ => Task.Run(async () =>
        {
            for (int i = Interlocked.Increment(ref next); i < wave.Length; i = Interlocked.Increment(ref next)) await AskAsync(wave[i]);
        }))).WaitAsync(s_patience);

        // Its steps are seen in the gauges before it ends, so that no older state is taken for stillness below.
        await AskAsync(last).WaitAsync(s_patience);
        Assert.True(SpinWait.SpinUntil(() => Metrics.Running == 0 && Metrics.FreePages == Metrics.TotalPages, TimeSpan.FromSeconds(30)));
        Engine.CheckIntegrity();
        AssertAccounts();
    }

    /// <summary>Ends the engine, checks its books a last time, and that it takes nothing more.</summary>
    public async Task EndAsync(SoakRequest late)
    {
        Assert.True(await Engine.DrainAsync(TimeSpan.FromSeconds(30)));
        Assert.Equal(SubmitResult.ShuttingDown, Engine.TrySubmit(late.ToRequests(), out Generation[]? none));
        Assert.Null(none);
        Engine.Dispose();
        Engine.CheckIntegrity();
        Assert.Equal(Metrics.TotalPages, Metrics.FreePages);
        AssertAccounts();
    }

    /// <summary>The traffic was what it claims to be: all that can happen to a request happened here.</summary>
    public void AssertEventful()
    {
        Assert.True(Metrics.Preemptions > Asked / 100 && Metrics.PrefixCacheHits > 2 * Asked, ToString());
        Assert.True(Metrics.AcceptedDrafts > Asked / 10 && Metrics.Drafts - Metrics.AcceptedDrafts > Asked / 2, ToString());
        FinishReason[] reasons = [FinishReason.Stop, FinishReason.Length, FinishReason.Abort, FinishReason.QueueTimeout, FinishReason.Deadline];
        Assert.True(_refused > 0 && reasons.All(r => _ends[(int)r] > 0), ToString());
    }

    public override string ToString() =>
        $"{_name}: {Asked} requests: {Ends(FinishReason.Length)} full, {Ends(FinishReason.Stop)} stopped, {Ends(FinishReason.Abort)} cancelled, "
        + $"{Ends(FinishReason.QueueTimeout)} timed out in the queue, {Ends(FinishReason.Deadline)} later, {_refused} refused; "
        + $"{Metrics.GeneratedTokens} tokens in {Metrics.Steps} steps, {Metrics.AcceptedDrafts} of {Metrics.Drafts} guesses right, "
        + $"{Metrics.TotalPages} pages, {Metrics.Preemptions} preemptions, {Metrics.PrefixCacheHits} of {Metrics.PrefixCacheQueries} prompt tokens cached";

    public void Dispose() => _serving.Dispose();

    private async Task AskAsync(SoakRequest request)
    {
        GenerationRequest[] requests = request.ToRequests();
        Interlocked.Add(ref _asked, requests.Length);
        SubmitResult result = Engine.TrySubmit(requests, out Generation[]? choices);
        if (result != SubmitResult.Accepted)
        {
            Assert.True(result is SubmitResult.QueueFull or SubmitResult.ClientQueueFull, $"refused with {result}");
            Assert.Null(choices);
            Interlocked.Add(ref _refused, requests.Length);
            Interlocked.Increment(ref _refusedSets);
            await Task.Delay(s_pause);
            return;
        }
        FinishReason[] finished = await Task.WhenAll(choices!.Select((choice, i) => request.ReadAsync(i, choice)));
        foreach (FinishReason finish in finished) Interlocked.Increment(ref _ends[(int)finish]);
    }

    /// <summary>Nobody waits, nothing failed, and each request ended once, as the engine counts it and as the clients saw it.</summary>
    private void AssertAccounts()
    {
        Assert.Empty(_serving.Errors);
        Assert.Equal(0, Metrics.Waiting);
        Assert.Equal(0, Metrics.Failures);
        Assert.All(Enum.GetValues<FinishReason>(), reason => Assert.Equal(Ends(reason), Metrics.Finished(reason)));
        Assert.Equal(_refusedSets, Metrics.Rejected);
        Assert.Equal(Asked, _ends.Sum() + _refused);
    }

    private long Ends(FinishReason reason) => _ends[(int)reason];
}
