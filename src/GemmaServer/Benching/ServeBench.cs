using System.Diagnostics;

namespace GemmaServer;

/// <summary>Sends a bounded number of requests, so many at a time or so many a second.</summary>
/// <param name="client">Whom to.</param>
/// <param name="path"><c>v1/chat/completions</c> or <c>v1/completions</c>.</param>
/// <param name="prompts">What.</param>
internal sealed class ServeBench(StreamClient client, string path, ServePrompts prompts)
{
    private bool _ignoreEos;

    /// <summary>
    /// One request that is not counted: it opens a connection, and shows whether the server takes <c>ignore_eos</c>.
    /// </summary>
    /// <returns>What is wrong; null when the server answers.</returns>
    public async Task<string?> WarmUpAsync(bool ignoreEos, CancellationToken cancellation)
    {
        _ignoreEos = ignoreEos;
        ServeOutcome outcome = await client.SendAsync(path, prompts.Body(-1, ignoreEos), cancellation);
        if (!ignoreEos || outcome.Error is not ("http 400" or "http 422")) return outcome.Error;
        _ignoreEos = false;
        return (await client.SendAsync(path, prompts.Body(-1, ignoreEos: false), cancellation)).Error;
    }

    /// <summary>Whether the measured requests ask for it.</summary>
    public bool IgnoresEos => _ignoreEos;

    /// <summary>Runs all requests.</summary>
    /// <param name="requests">How many.</param>
    /// <param name="concurrency">At most so many at a time; with a rate it is not looked at.</param>
    /// <param name="rate">Requests a second at random moments (a Poisson process), however many are open; null sends by concurrency.</param>
    /// <param name="finished">Told after each request, from any thread.</param>
    /// <param name="cancellation">Starts nothing more and breaks off what runs.</param>
    /// <returns>An outcome for each request that was not broken off, and the seconds from the first request to the end of the last.</returns>
    public async Task<(ServeOutcome[] Outcomes, double Seconds)> RunAsync(
        int requests, int concurrency, double? rate, Action<ServeOutcome> finished, CancellationToken cancellation)
    {
        ServeOutcome?[] outcomes = new ServeOutcome?[requests];
        async Task OneAsync(int index)
        {
            outcomes[index] = await client.SendAsync(path, prompts.Body(index, _ignoreEos), cancellation);
            finished(outcomes[index]!);
        }

        long start = Stopwatch.GetTimestamp();
        try
        {
            if (rate is { } perSecond) await ArriveAsync(requests, perSecond, OneAsync, cancellation);
            else await KeepOpenAsync(requests, concurrency, OneAsync, cancellation);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // What is finished counts.
        }
        return ([.. outcomes.OfType<ServeOutcome>()], Stopwatch.GetElapsedTime(start).TotalSeconds);
    }

    private static Task KeepOpenAsync(int requests, int concurrency, Func<int, Task> one, CancellationToken cancellation)
    {
        int next = -1;
        return Task.WhenAll(Enumerable.Range(0, Math.Min(concurrency, requests)).Select(_ => Task.Run(async () =>
        {
            for (int i; (i = Interlocked.Increment(ref next)) < requests;) await one(i);
        }, cancellation)));
    }

    private static async Task ArriveAsync(int requests, double perSecond, Func<int, Task> one, CancellationToken cancellation)
    {
        RandomBits random = new(1);
        List<Task> running = new(requests);
        long start = Stopwatch.GetTimestamp();
        double due = 0;
        for (int i = 0; i < requests && !cancellation.IsCancellationRequested; i++)
        {
            // From the start and not from the last one, or every late timer would lower the rate.
            TimeSpan wait = TimeSpan.FromSeconds(due) - Stopwatch.GetElapsedTime(start);
            if (wait > TimeSpan.Zero) await Task.Delay(wait, cancellation).ContinueWith(static _ => { }, TaskScheduler.Default);
            int index = i;
            running.Add(Task.Run(() => one(index), cancellation));
            due -= Math.Log(random.Positive()) / perSecond;
        }
        await Task.WhenAll(running);
    }
}
