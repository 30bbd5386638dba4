using System.Globalization;
using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Tests;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>Random traffic for long: the real engine on its own thread, clients on theirs, too few pages for all.</summary>
/// <remarks>
/// GEMMASERVER_SOAK is the number of requests, GEMMASERVER_SOAK_SEED repeats a run's requests. When they meet in the engine, and
/// when a cancellation does, is up to the clock.
/// </remarks>
public class SoakTests(ITestOutputHelper output)
{
    private const int Clients = 24;
    private const int Wave = 200;       // requests between two idle moments

    [Fact]
    public async Task Random_traffic_gets_the_answers_of_one_request_at_a_time_and_leaves_every_page_in_its_place()
    {
        int requests = Setting("GEMMASERVER_SOAK", 2000);
        int seed = Setting("GEMMASERVER_SOAK_SEED", Environment.TickCount & int.MaxValue);
        output.WriteLine($"GEMMASERVER_SOAK={requests} GEMMASERVER_SOAK_SEED={seed}");
        Console.WriteLine($"Soak: GEMMASERVER_SOAK={requests} GEMMASERVER_SOAK_SEED={seed}");

        string path = GoldenModel.Open("tiny-e", "Q4_0").Path;
        using SoakTraffic traffic = new(path, seed);
        using ServingHarness serving = new(path, sparePages: 40, maxLength: SoakTraffic.MaxLength);
        InferenceEngine engine = serving.Engine;
        engine.Start();
        for (int done = 0; done < requests; done += Wave)
        {
            SoakRequest[] wave = [.. Enumerable.Range(0, Math.Min(Wave, requests - done)).Select(_ => traffic.Next())];
            await ServeAsync(engine, wave);
            // The engine checks its books whenever it goes idle and reports what is wrong.
            Assert.True(SpinWait.SpinUntil(() => engine.Metrics.Running == 0 && engine.Metrics.FreePages == engine.Metrics.TotalPages, TimeSpan.FromSeconds(30)));
            Assert.Equal(0, engine.Metrics.Waiting);
            Assert.Empty(serving.Errors);
        }

        Assert.True(await engine.DrainAsync(TimeSpan.FromSeconds(30)));
        engine.Dispose();
        engine.CheckIntegrity();
        EngineMetrics metrics = engine.Metrics;
        Assert.Equal(metrics.TotalPages, metrics.FreePages);
        Assert.Empty(serving.Errors);
        long[] ends = [.. new[] { FinishReason.Stop, FinishReason.Length, FinishReason.Abort, FinishReason.QueueTimeout }.Select(metrics.Finished)];
        Assert.Equal(requests, ends.Sum());
        string told = $"{requests} requests ({traffic.Distinct} different): {ends[0]} stopped, {ends[1]} full, {ends[2]} cancelled, {ends[3]} timed out; "
            + $"{metrics.GeneratedTokens} tokens in {metrics.Steps} steps, {metrics.TotalPages} pages, {metrics.Preemptions} preemptions, "
            + $"{metrics.PrefixCacheHits} of {metrics.PrefixCacheQueries} prompt tokens cached";
        output.WriteLine(told);
        Console.WriteLine($"Soak: {told}");
        // The traffic was what it claims to be.
        Assert.True(metrics.Preemptions > requests / 50 && metrics.PrefixCacheHits > 4 * requests && ends.All(e => e > 0), told);
    }

    /// <summary>Each client asks, reads to the end, compares, and asks again.</summary>
    private static async Task ServeAsync(InferenceEngine engine, SoakRequest[] wave)
    {
        int next = -1;
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(_ => Task.Run(async () =>
        {
            for (int i = Interlocked.Increment(ref next); i < wave.Length; i = Interlocked.Increment(ref next))
            {
                Assert.Equal(SubmitResult.Accepted, engine.TrySubmit(wave[i].ToRequest(), out Generation? generation));
                Task cancelled = wave[i].CancelAfterMs is int ms ? CancelAsync(generation!, ms) : Task.CompletedTask;
                SoakAnswer answer = new(generation!);
                while (await generation!.WaitToReadAsync())
                    while (generation.TryRead(out TokenEvent e)) answer.Events.Add(e);
                wave[i].Check(answer);
                await cancelled;
            }
        })));
    }

    private static async Task CancelAsync(Generation generation, int ms)
    {
        await Task.Delay(ms).ConfigureAwait(false);
        generation.Cancel();
    }

    private static int Setting(string name, int absent) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? int.Parse(value, CultureInfo.InvariantCulture) : absent;
}
