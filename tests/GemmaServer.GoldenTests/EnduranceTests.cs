using GemmaServer.Compute;
using GemmaServer.Engine;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>Memory is counted for the whole process, so these run when no other test does.</summary>
[CollectionDefinition(nameof(EnduranceTests), DisableParallelization = true)]
public sealed class AloneInTheProcess;

/// <summary>What a server costs over time.</summary>
[Collection(nameof(EnduranceTests))]
public class EnduranceTests(ITestOutputHelper output)
{
    private const int StepsInWindow = 50;

    public static IEnumerable<object[]> ModelsAndSampling() =>
        from model in ServingHarness.Models() from penalties in new[] { false, true } select new[] { model[0], model[1], penalties };

    [Theory]
    [MemberData(nameof(ModelsAndSampling))]
    public void No_managed_allocation_per_generated_token(string name, string type, bool penalties)
    {
        using ServingHarness serving = new(GoldenModel.Open(name, type).Path, maxLength: 700);
        SamplingParams sampling = penalties
            ? new() { TopK = 64, TopP = 0.95f, Seed = 5, FrequencyPenalty = 0.5f, PresencePenalty = 0.2f, RepetitionPenalty = 1.1f }
            : new() { TopK = 64, TopP = 0.95f, Seed = 5 };
        Generation[] Start() => [.. Enumerable.Range(0, 4).Select(i => serving.Submit(serving.Prompt(20 + i, i), sampling, 600))];

        // Warm-up: block tables grow once to the longest sequence that a slot ever held.
        Start();
        while (serving.Engine.Step())
        {
        }
        Generation[] generations = Start();
        for (int i = 0; i < 20; i++) serving.Engine.Step();

        int read = 0;
        long[] inProcess = new long[11];
        long before = GC.GetAllocatedBytesForCurrentThread();
        inProcess[0] = GC.GetTotalAllocatedBytes(precise: true);
        for (int window = 1; window < inProcess.Length; window++)
        {
            for (int i = 0; i < StepsInWindow; i++)
            {
                serving.Engine.Step();
                foreach (Generation generation in generations)
                    while (generation.TryRead(out _)) read++;
            }
            inProcess[window] = GC.GetTotalAllocatedBytes(precise: true);
        }
        long onThisThread = GC.GetAllocatedBytesForCurrentThread() - before;

        long[] windows = [.. Enumerable.Range(1, 10).Select(w => inProcess[w] - inProcess[w - 1])];
        output.WriteLine($"{read} tokens, {onThisThread} bytes on the engine's thread, in the process by window: {string.Join(' ', windows)}");
        long[] idle = new long[6];
        Assert.True(read >= 2000);
        Assert.Equal(0, onThisThread);
        // The test host's own threads allocate now and then, idle or not. One object a step, the smallest there is, would be
        // 1200 bytes in every window.
        Assert.True(windows.Order().ElementAt(5) < 24 * StepsInWindow, string.Join(' ', windows));
    }

    [Fact]
    public async Task Ten_thousand_requests_leave_nothing_behind()
    {
        object[] smallest = GoldenModel.All().OrderBy(m => SizeOf(GoldenModel.Open((string)m[0], (string)m[1]).Path)).First();
        using ServingHarness serving = new(GoldenModel.Open((string)smallest[0], (string)smallest[1]).Path);
        serving.Engine.Start();
        long after2000 = 0;
        for (int done = 0; done < 10_000; done += 100)
        {
            if (done == 2000) after2000 = GC.GetTotalMemory(forceFullCollection: true);
            await WaveAsync(serving, done);
        }

        long grown = GC.GetTotalMemory(forceFullCollection: true) - after2000;
        EngineMetrics metrics = serving.Engine.Metrics;
        output.WriteLine(
            $"{smallest[0]} {smallest[1]}: {metrics.GeneratedTokens} tokens in {metrics.Steps} steps, {metrics.Finished(FinishReason.Abort)} cancelled, heap grew by {grown} bytes over 8000 requests");
        Assert.Equal(10_000, metrics.Finished(FinishReason.Length) + metrics.Finished(FinishReason.Abort));
        Assert.True(metrics.Finished(FinishReason.Length) >= 8000);
        Assert.True(metrics.Finished(FinishReason.Abort) > 0);
        Assert.Empty(serving.Errors);
        // 32 bytes kept of each request would be more.
        Assert.True(grown < 250_000, $"The heap grew by {grown} bytes.");

        Assert.True(await serving.Engine.DrainAsync(TimeSpan.FromSeconds(10)));
        Assert.Equal(metrics.TotalPages, metrics.FreePages);
        Assert.Equal(0, metrics.Running);
        Assert.Equal(0, metrics.Waiting);
        serving.Engine.Dispose();
        serving.Engine.CheckIntegrity();
    }

    /// <summary>A hundred requests at once: lengths, sampling and logprobs in turns, every ninth leaves early.</summary>
    private static async Task WaveAsync(ServingHarness serving, int first)
    {
        Generation[] wave = new Generation[100];
        for (int i = 0; i < wave.Length; i++)
        {
            SamplingParams sampling = new() { Temperature = i % 2, TopK = 20, Seed = (ulong)(first + i), Logprobs = i % 10 == 3 ? 2 : -1, PresencePenalty = i % 4 == 1 ? 0.5f : 0 };
            wave[i] = serving.Submit(serving.Prompt(1 + i % 7, first + i), sampling, 1 + i % 5);
            if (i % 9 == 8) wave[i].Cancel();
        }
        foreach (Generation generation in wave)
        {
            while (await generation.WaitToReadAsync())
                while (generation.TryRead(out _))
                {
                }
        }
    }

    private static long SizeOf(string path) =>
        File.Exists(path) ? new FileInfo(path).Length : Directory.GetFiles(path, "*.safetensors").Sum(f => new FileInfo(f).Length);
}
