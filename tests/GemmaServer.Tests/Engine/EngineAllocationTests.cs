using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>A token costs the engine no managed memory.</summary>
public sealed class EngineAllocationTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Decode_steps_allocate_nothing(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, pages: 4000, maxLength: 1000);
        Generation[] Start() => [.. Enumerable.Range(0, 4).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(20 + i, i), 700)))];

        // Warm-up: the slots' block tables grow once to the longest sequence they ever held.
        Start();
        while (engine.Engine.Step())
        {
        }

        Generation[] generations = Start();
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
        engine.Runner.OnLaunch = step =>
        {
            allocated[step] = GC.GetAllocatedBytesForCurrentThread();
            threadName = Thread.CurrentThread.Name;
            Thread.SpinWait(2000);      // gives the reader time to fall asleep between tokens
        };
        engine.Engine.Start();
        int waits = 0;
        for (int round = 0; round < 2; round++)
        {
            Generation generation = engine.Submit(engine.Request(EngineHarness.Prompt(20), 900));
            while (true)
            {
                ValueTask<bool> wait = generation.WaitToReadAsync();
                if (!wait.IsCompleted) waits++;
                if (!await wait) break;
                while (generation.TryRead(out _))
                {
                }
            }
        }

        Assert.Equal("GemmaServer engine", threadName);
        Assert.True(waits > 300, $"{waits} waits");
        // The thread pool may start a worker now and then on the waking thread's account; a cost per token would be in every window.
        long[] windows = [.. Enumerable.Range(0, 16).Select(w => allocated[950 + 50 * (w + 1)] - allocated[950 + 50 * w])];
        Assert.Equal(0, windows.Min());
        Assert.True(windows.Count(w => w == 0) >= 8, string.Join(' ', windows));
    }
}
