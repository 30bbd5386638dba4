using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>The engine on its own thread: start, sleep, drain, stop.</summary>
public sealed class LifecycleTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private static async Task<(int[] Tokens, FinishReason Finish)> ReadAsync(Generation generation)
    {
        List<int> tokens = [];
        while (await generation.WaitToReadAsync().AsTask().WaitAsync(Patience))
            while (generation.TryRead(out TokenEvent e))
                if (e.Token >= 0) tokens.Add(e.Token);
        return ([.. tokens], generation.Finish);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Many_callers_at_once_all_get_their_tokens(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, pages: 120);
        engine.Engine.Start();
        await Task.WhenAll(Enumerable.Range(0, 8).Select(caller => Task.Run(async () =>
        {
            for (int i = 0; i < 25; i++)
            {
                GenerationRequest request = engine.Request(EngineHarness.Prompt(1 + (caller * 13 + i * 7) % 60, caller * 100 + i), 1 + i);
                Generation generation = engine.Submit(request);
                if (i % 6 == 5) generation.Cancel();
                (int[] tokens, FinishReason finish) = await ReadAsync(generation);
                Assert.Equal(engine.Expected(request, tokens.Length), tokens);
                if (i % 6 != 5) Assert.Equal(FinishReason.Length, finish);
            }
        })));
        Assert.True(await engine.Engine.DrainAsync(Patience));
        engine.Engine.Dispose();
        engine.Engine.CheckIntegrity();
        engine.AssertWhole();
    }

    [Fact]
    public async Task A_slow_reader_slows_only_itself()
    {
        using EngineHarness engine = new();
        engine.Engine.Start();
        Generation slow = engine.Submit(engine.Request(EngineHarness.Prompt(5), 100));
        GenerationRequest request = engine.Request(EngineHarness.Prompt(6), 100);
        Assert.Equal(engine.Expected(request), (await ReadAsync(engine.Submit(request))).Tokens);
        Assert.Equal(100, (await ReadAsync(slow)).Tokens.Length);
    }

    [Fact]
    public async Task An_idle_engine_sleeps_and_wakes()
    {
        using EngineHarness engine = new();
        engine.Engine.Start();
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal(FinishReason.Length, (await ReadAsync(engine.Submit(engine.Request(EngineHarness.Prompt(5), 3)))).Finish);
            long steps = engine.Engine.Metrics.Steps;
            await Task.Delay(5);
            Assert.Equal(steps, engine.Engine.Metrics.Steps);
        }
    }

    [Fact]
    public async Task Draining_refuses_the_new_and_finishes_the_running_and_the_waiting()
    {
        using EngineHarness engine = new(maxSequences: 2);
        using ManualResetEventSlim go = new();
        engine.Runner.OnLaunch = _ => go.Wait();
        engine.Engine.Start();
        Generation[] all = [.. Enumerable.Range(0, 6).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(5, i), 10)))];
        Task<bool> drained = engine.Engine.DrainAsync(Patience);
        Assert.Equal(SubmitResult.ShuttingDown, engine.Engine.TrySubmit(engine.Request(EngineHarness.Prompt(5), 5), out _));
        Assert.False(drained.IsCompleted);
        go.Set();
        Assert.True(await drained);
        foreach (Generation generation in all)
        {
            (int[] tokens, FinishReason finish) = await ReadAsync(generation);
            Assert.Equal(10, tokens.Length);
            Assert.Equal(FinishReason.Length, finish);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Draining_aborts_what_is_left_when_the_time_is_over(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, maxSequences: 2, maxLength: 1000, pages: 2000);
        engine.Runner.OnLaunch = _ => Thread.Sleep(5);
        engine.Engine.Start();
        Generation[] all = [.. Enumerable.Range(0, 6).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(5, i), 900)))];
        Assert.False(await engine.Engine.DrainAsync(TimeSpan.FromMilliseconds(50)).WaitAsync(Patience));
        foreach (Generation generation in all) Assert.Equal(FinishReason.Abort, (await ReadAsync(generation)).Finish);
        engine.Engine.Dispose();
        engine.Engine.CheckIntegrity();
        engine.AssertWhole();
    }

    [Fact]
    public async Task Draining_an_idle_engine_is_done_at_once()
    {
        using EngineHarness engine = new();
        engine.Engine.Start();
        Assert.True(await engine.Engine.DrainAsync(Patience).WaitAsync(Patience));
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public async Task Disposing_ends_every_open_request_with_abort(bool asynchronous, bool started)
    {
        EngineHarness engine = new(asynchronous, maxSequences: 2, maxLength: 1000, pages: 2000);
        engine.Runner.OnLaunch = _ => Thread.Sleep(1);
        Generation[] all = [.. Enumerable.Range(0, 6).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(5, i), 900)))];
        if (started) engine.Engine.Start();
        else engine.Steps(3);
        engine.Dispose();
        engine.Dispose();
        foreach (Generation generation in all) Assert.Equal(FinishReason.Abort, (await ReadAsync(generation)).Finish);
        Assert.Equal(SubmitResult.ShuttingDown, engine.Engine.TrySubmit(engine.Request(EngineHarness.Prompt(5), 5), out _));
        all[0].Cancel();
        engine.Engine.CheckIntegrity();
        engine.AssertWhole();
    }
}
