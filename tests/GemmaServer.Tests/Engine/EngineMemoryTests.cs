using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>A token costs the engine no managed memory, and a request leaves none behind.</summary>
[Collection(nameof(EngineMemoryTests))]
[CollectionDefinition(nameof(EngineMemoryTests), DisableParallelization = true)]    // others' memory would be counted too
public sealed class EngineMemoryTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Ten_thousand_short_requests_leave_the_pool_whole_and_memory_flat(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, pages: 200);
        long early = 0;
        for (int i = 0; i < 10_000; i += 10)
        {
            for (int k = 0; k < 10; k++) engine.Submit(engine.Request(EngineHarness.Prompt(1 + k, i), 1 + (i + k) % 5));
            while (engine.Engine.Step())
            {
            }
            if (i == 2_000) early = GC.GetTotalMemory(forceFullCollection: true);
        }
        engine.Engine.CheckIntegrity();
        engine.AssertWhole();
        Assert.Equal(10_000, engine.Engine.Metrics.Finished(FinishReason.Length));
        // A request is about a kilobyte while it lives; 8,000 of them kept would be megabytes.
        Assert.InRange(GC.GetTotalMemory(forceFullCollection: true) - early, long.MinValue, 500_000);
    }

    [Theory]
    [InlineData(false, 0)]
    [InlineData(true, 0)]
    [InlineData(false, 990)]
    [InlineData(true, 990)]
    public void Decode_steps_allocate_nothing(bool asynchronous, int waiting)
    {
        using EngineHarness engine = new(asynchronous, pages: 4000, maxLength: 1000, maxSequences: 4);
        Generation[] Start() => [.. Enumerable.Range(0, 4).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(20 + i, i), 700)))];

        // Warm-up: the slots' block tables grow once to the longest sequence they ever held.
        Start();
        while (engine.Engine.Step())
        {
        }

        Generation[] generations = Start();
        for (int i = 0; i < 5; i++) engine.Engine.Step();       // before others come, or they would have the places
        for (int i = 0; i < waiting; i++)
            engine.Submit(engine.Request(EngineHarness.Prompt(30), 5, priority: i % 3, client: $"client {i % 50}", timeout: TimeSpan.FromHours(1 + i % 7)));
        for (int i = 0; i < 20; i++) engine.Engine.Step();
        int read = 0;
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 500; i++)
        {
            engine.Engine.Step();
            foreach (Generation generation in generations)
                while (generation.TryRead(out _)) read++;
        }
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(read > 1900);
        Assert.Equal(0, allocated);
    }

    [Fact]
    public async Task Waking_a_sleeping_reader_allocates_nothing_on_the_engine_thread()
    {
        using EngineHarness engine = new(pages: 4000, maxLength: 1000);
        long[] allocated = new long[2000];
        string? threadName = null;
        int waits = 0;
        int seen = 0;
        engine.Runner.OnLaunch = step =>
        {
            allocated[step] = GC.GetAllocatedBytesForCurrentThread();
            threadName = Thread.CurrentThread.Name;
            // Lets the reader fall asleep before each token; gives up in time should it not.
            SpinWait spin = default;
            for (int i = 0; i < 20_000 && Volatile.Read(ref waits) == seen; i++) spin.SpinOnce(sleep1Threshold: -1);
            seen = Volatile.Read(ref waits);
        };
        engine.Engine.Start();
        await Task.Run(async () =>      // away from the test framework's own scheduler
        {
            for (int round = 0; round < 2; round++)
            {
                Generation generation = engine.Submit(engine.Request(EngineHarness.Prompt(20), 900));
                while (true)
                {
                    ValueTask<bool> wait = generation.WaitToReadAsync();
                    if (!wait.IsCompleted) Interlocked.Increment(ref waits);
                    if (!await wait) break;
                    while (generation.TryRead(out _))
                    {
                    }
                }
            }
        });

        Assert.Equal("GemmaServer engine", threadName);
        Assert.True(waits > 1000, $"{waits} waits");
        // The thread pool may start a worker now and then on the waking thread's account; a cost per token would be in every window.
        long[] windows = [.. Enumerable.Range(0, 16).Select(w => allocated[950 + 50 * (w + 1)] - allocated[950 + 50 * w])];
        Assert.Equal(0, windows.Min());
        Assert.True(windows.Count(w => w == 0) >= 8, string.Join(' ', windows));
    }
}
