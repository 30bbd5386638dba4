using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>Who goes first, who waits, who leaves.</summary>
public sealed class SchedulingTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_queue_is_served_in_the_order_of_arrival(bool asynchronous)
    {
        TestClock clock = new();
        using EngineHarness engine = new(asynchronous, maxSequences: 2, time: clock);
        Generation[] all = [.. Enumerable.Range(0, 10).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(30 - i, i), 1 + i % 5)))];
        while (engine.Step()) clock.Advance(TimeSpan.FromMilliseconds(1));
        long[] admitted = [.. all.Select(g => g.AdmittedAt)];
        Assert.Equal(admitted.Order(), admitted);
        Assert.All(all, g => Assert.True(g.QueuedAt <= g.AdmittedAt && g.AdmittedAt <= g.FirstTokenAt && g.FirstTokenAt <= g.FinishedAt));
        Assert.Equal(2, engine.Runner.MostSequences);
    }

    [Fact]
    public void Running_decodes_go_on_while_a_long_prompt_is_computed()
    {
        using EngineHarness engine = new(maxBatchTokens: 8);
        Generation decoding = engine.Submit(engine.Request(EngineHarness.Prompt(4), 60));
        engine.Steps(2);
        engine.Submit(engine.Request(EngineHarness.Prompt(90), 5));
        int before = decoding.GeneratedTokens;
        engine.Steps(10);
        Assert.Equal(before + 10, decoding.GeneratedTokens);
        Assert.Equal(8, engine.Runner.MostRows);
    }

    [Fact]
    public void The_youngest_is_preempted_and_the_oldest_never()
    {
        TestClock clock = new();
        using EngineHarness engine = new(pages: 45, maxLength: 100, time: clock);
        Generation[] all = [.. Enumerable.Range(0, 4).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(10, i), 85)))];
        while (engine.Step()) clock.Advance(TimeSpan.FromMilliseconds(1));
        Assert.True(engine.Engine.Metrics.Preemptions > 0);
        long[] finished = [.. all.Select(g => g.FinishedAt)];
        Assert.Equal(finished.Order(), finished);
        // One token in each step from the first to the last: it never lost its place.
        Assert.Equal(84 * TimeSpan.TicksPerMillisecond, all[0].FinishedAt - all[0].FirstTokenAt);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_cancelled_running_request_gives_everything_back_in_the_same_step(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous);
        Generation generation = engine.Submit(engine.Request(EngineHarness.Prompt(20), 50));
        engine.Steps(10);
        Assert.True(engine.Engine.Metrics.FreePages < engine.Plan.PageCount);
        generation.Cancel();
        generation.Cancel();
        engine.Step();
        engine.AssertWhole();
        Assert.Equal(FinishReason.Abort, EngineHarness.Read(generation).Finish);
        Assert.Equal(1, engine.Engine.Metrics.Finished(FinishReason.Abort));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_request_cancelled_in_the_middle_of_its_prompt_gives_everything_back(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, maxBatchTokens: 5);
        Generation generation = engine.Submit(engine.Request(EngineHarness.Prompt(80), 50));
        engine.Steps(4);
        generation.Cancel();
        engine.Step();
        engine.AssertWhole();
        EngineHarness.AssertEnded(generation, FinishReason.Abort);
    }

    [Fact]
    public void A_cancelled_waiting_request_leaves_the_queue_at_once()
    {
        using EngineHarness engine = new(maxSequences: 1);
        Generation running = engine.Submit(engine.Request(EngineHarness.Prompt(20), 50));
        Generation waiting = engine.Submit(engine.Request(EngineHarness.Prompt(20), 50));
        engine.Steps(3);
        Assert.Equal(1, engine.Engine.Metrics.Waiting);
        waiting.Cancel();
        engine.Step();
        Assert.Equal(0, engine.Engine.Metrics.Waiting);
        EngineHarness.AssertEnded(waiting, FinishReason.Abort);
        Assert.Equal(0, waiting.AdmittedAt);
        Assert.Equal(FinishReason.None, running.Finish);
    }

    [Fact]
    public void A_request_cancelled_before_the_engine_saw_it_never_runs()
    {
        using EngineHarness engine = new();
        Generation generation = engine.Submit(engine.Request(EngineHarness.Prompt(20), 50));
        generation.Cancel();
        engine.RunToEnd();
        EngineHarness.AssertEnded(generation, FinishReason.Abort);
        Assert.Equal(0, engine.Engine.Metrics.Steps);
    }

    [Fact]
    public void Cancelling_after_the_end_changes_nothing()
    {
        using EngineHarness engine = new();
        Generation generation = engine.Submit(engine.Request(EngineHarness.Prompt(5), 3));
        engine.RunToEnd();
        generation.Cancel();
        engine.RunToEnd();
        Assert.Equal(FinishReason.Length, EngineHarness.Read(generation).Finish);
    }

    [Fact]
    public void A_request_that_waited_too_long_ends_with_queue_timeout()
    {
        TestClock clock = new();
        using EngineHarness engine = new(maxSequences: 1, time: clock);
        Generation running = engine.Submit(engine.Request(EngineHarness.Prompt(5), 60, queueTimeout: TimeSpan.FromSeconds(1)));
        Generation patient = engine.Submit(engine.Request(EngineHarness.Prompt(5), 5));
        Generation hasty = engine.Submit(engine.Request(EngineHarness.Prompt(5), 5, queueTimeout: TimeSpan.FromSeconds(2)));
        Generation slower = engine.Submit(engine.Request(EngineHarness.Prompt(5), 5, queueTimeout: TimeSpan.FromSeconds(3)));
        engine.Steps(2);
        clock.Advance(TimeSpan.FromSeconds(1.5));
        engine.Step();
        Assert.Equal(3, engine.Engine.Metrics.Waiting);
        clock.Advance(TimeSpan.FromSeconds(0.5));
        engine.Step();
        EngineHarness.AssertEnded(hasty, FinishReason.QueueTimeout);
        clock.Advance(TimeSpan.FromSeconds(1));
        engine.Step();
        Assert.Equal(FinishReason.QueueTimeout, EngineHarness.Read(slower).Finish);
        engine.RunToEnd();
        Assert.Equal(FinishReason.Length, EngineHarness.Read(running).Finish);
        Assert.Equal(FinishReason.Length, EngineHarness.Read(patient).Finish);
    }

    [Fact]
    public void A_preempted_request_does_not_time_out_in_the_queue()
    {
        TestClock clock = new();
        using EngineHarness engine = new(pages: 45, maxLength: 100, time: clock);
        Generation[] all = [.. Enumerable.Range(0, 4).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(10, i), 85, queueTimeout: TimeSpan.FromSeconds(1))))];
        engine.Steps(1);
        while (engine.Step()) clock.Advance(TimeSpan.FromSeconds(10));
        Assert.True(engine.Engine.Metrics.Preemptions > 0);
        Generation[] admitted = [.. all.Where(g => g.AdmittedAt != 0)];
        Assert.True(admitted.Length >= 2);
        Assert.All(admitted, g => Assert.Equal(FinishReason.Length, g.Finish));
    }

    [Fact]
    public void A_full_queue_refuses_at_once_and_takes_again_later()
    {
        using EngineHarness engine = new(maxSequences: 1, maxQueue: 2);
        engine.Submit(engine.Request(EngineHarness.Prompt(5), 5));
        engine.Step();
        engine.Submit(engine.Request(EngineHarness.Prompt(5), 5));
        engine.Submit(engine.Request(EngineHarness.Prompt(5), 5));
        Assert.Equal(SubmitResult.QueueFull, engine.Engine.TrySubmit(engine.Request(EngineHarness.Prompt(5), 5), out Generation? none));
        Assert.Null(none);
        Assert.Equal(1, engine.Engine.Metrics.Rejected);
        engine.RunToEnd();
        engine.Submit(engine.Request(EngineHarness.Prompt(5), 5));
        engine.RunToEnd();
        Assert.Equal(4, engine.Engine.Metrics.Finished(FinishReason.Length));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(121)]
    public void A_prompt_that_nobody_checked_is_refused_as_a_mistake_of_the_caller(int length)
    {
        using EngineHarness engine = new(maxLength: 120);
        Assert.Throws<ArgumentException>(() => engine.Engine.TrySubmit(engine.Request(EngineHarness.Prompt(length), 5), out _));
    }
}
