using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>Requests whose time is over, and queues that are full.</summary>
public sealed class DeadlineTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_running_request_over_its_time_ends_and_gives_everything_back_in_the_same_step(bool asynchronous)
    {
        TestClock clock = new();
        using EngineHarness engine = new(asynchronous, time: clock);
        GenerationRequest request = engine.Request(EngineHarness.Prompt(20), 90, timeout: TimeSpan.FromSeconds(2), queueTimeout: TimeSpan.FromSeconds(1));
        Generation generation = engine.Submit(request);
        engine.Steps(10);
        clock.Advance(TimeSpan.FromSeconds(1.9));
        engine.Steps(5);
        Assert.Equal(FinishReason.None, generation.Finish);
        clock.Advance(TimeSpan.FromSeconds(0.1));
        engine.Step();
        engine.AssertWhole();
        (int[] tokens, FinishReason finish) = EngineHarness.Read(generation);
        Assert.Equal(FinishReason.Deadline, finish);
        Assert.Equal(engine.Expected(request, tokens.Length), tokens);
        Assert.InRange(tokens.Length, 13, 15);
        Assert.Equal(1, engine.Engine.Metrics.Finished(FinishReason.Deadline));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_request_over_its_time_in_the_middle_of_its_prompt_gives_everything_back(bool asynchronous)
    {
        TestClock clock = new();
        using EngineHarness engine = new(asynchronous, maxBatchTokens: 5, time: clock);
        Generation generation = engine.Submit(engine.Request(EngineHarness.Prompt(80), 50, timeout: TimeSpan.FromSeconds(1)));
        engine.Steps(4);
        clock.Advance(TimeSpan.FromSeconds(1));
        engine.Step();
        engine.AssertWhole();
        EngineHarness.AssertEnded(generation, FinishReason.Deadline);
    }

    [Fact]
    public void A_waiting_request_ends_by_whichever_time_is_over_first()
    {
        TestClock clock = new();
        using EngineHarness engine = new(maxSequences: 1, time: clock);
        Generation running = engine.Submit(engine.Request(EngineHarness.Prompt(5), 100));
        Generation queueFirst = engine.Submit(engine.Request(EngineHarness.Prompt(5), 5, timeout: TimeSpan.FromSeconds(3), queueTimeout: TimeSpan.FromSeconds(2)));
        Generation timeFirst = engine.Submit(engine.Request(EngineHarness.Prompt(5), 5, timeout: TimeSpan.FromSeconds(1), queueTimeout: TimeSpan.FromSeconds(2)));
        engine.Steps(2);
        clock.Advance(TimeSpan.FromSeconds(1));
        engine.Step();
        EngineHarness.AssertEnded(timeFirst, FinishReason.Deadline);
        Assert.Equal(FinishReason.None, queueFirst.Finish);
        clock.Advance(TimeSpan.FromSeconds(1));
        engine.Step();
        EngineHarness.AssertEnded(queueFirst, FinishReason.QueueTimeout);
        engine.RunToEnd();
        Assert.Equal(FinishReason.Length, running.Finish);
    }

    [Fact]
    public void A_preempted_request_still_has_its_deadline()
    {
        TestClock clock = new();
        using EngineHarness engine = new(pages: 45, maxLength: 100, time: clock);
        Generation[] all = [.. Enumerable.Range(0, 4).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(10, i), 85, timeout: TimeSpan.FromSeconds(5))))];
        while (engine.Engine.Metrics.Preemptions == 0) engine.Step();
        clock.Advance(TimeSpan.FromSeconds(5));
        Assert.False(engine.Step());
        engine.AssertWhole();
        Assert.All(all, g => Assert.Equal(FinishReason.Deadline, g.Finish));
    }

    [Fact]
    public void A_step_reads_the_clock_once_for_all_deadlines()
    {
        Assert.Equal(20, ReadsInTwentySteps(TimeSpan.FromHours(1)) - ReadsInTwentySteps(null));
    }

    private static int ReadsInTwentySteps(TimeSpan? timeout)
    {
        CountingClock clock = new();
        using EngineHarness engine = new(pages: 1000, time: clock);
        for (int i = 0; i < 8; i++) engine.Submit(engine.Request(EngineHarness.Prompt(5, i), 100, timeout: timeout));
        engine.Steps(5);
        int reads = clock.Reads;
        engine.Steps(20);
        return clock.Reads - reads;
    }

    [Fact]
    public void One_clients_share_of_the_queue_is_bounded_and_others_come_in()
    {
        using EngineHarness engine = new(maxSequences: 1, maxQueue: 10, maxQueuePerClient: 2);
        GenerationRequest Of(string? client) => engine.Request(EngineHarness.Prompt(5), 5, client: client);
        engine.Submit(Of("a"));
        engine.Step();
        engine.Submit(Of("a"));
        Generation second = engine.Submit(Of("a"));
        Assert.Equal(SubmitResult.ClientQueueFull, engine.Engine.TrySubmit(Of("a"), out Generation? none));
        Assert.Null(none);
        Assert.Equal(1, engine.Engine.Metrics.Rejected);
        engine.Submit(Of("b"));
        engine.Submit(Of(null));
        Assert.Equal(SubmitResult.ClientQueueFull, engine.Engine.TrySubmit([Of("b"), Of("b")], out _));
        second.Cancel();
        engine.Step();
        engine.Submit(Of("a"));
        Assert.Equal(SubmitResult.ClientQueueFull, engine.Engine.TrySubmit(Of("a"), out _));
        engine.RunToEnd();
        // The books by client are right after all of it.
        engine.Submit(Of("a"));
        engine.Submit(Of("a"));
        Assert.Equal(SubmitResult.ClientQueueFull, engine.Engine.TrySubmit(Of("a"), out _));
        engine.RunToEnd();
    }

    [Fact]
    public void Several_requests_come_in_together_or_not_at_all()
    {
        using EngineHarness engine = new(maxSequences: 1, maxQueue: 4);
        GenerationRequest[] Some(int count) => [.. Enumerable.Range(0, count).Select(i => engine.Request(EngineHarness.Prompt(5, i), 5))];
        engine.Submit(Some(1)[0]);
        engine.Step();
        engine.SubmitAll(Some(3));
        Assert.Equal(SubmitResult.QueueFull, engine.Engine.TrySubmit(Some(2), out Generation[]? none));
        Assert.Null(none);
        Assert.Equal(3, engine.Engine.Metrics.Waiting);
        engine.SubmitAll(Some(1));
        engine.RunToEnd();
        // Larger than the queue: it comes in where nobody waits, or it never could.
        engine.SubmitAll(Some(6));
        Assert.Equal(SubmitResult.QueueFull, engine.Engine.TrySubmit(Some(1), out _));
        engine.RunToEnd();
        Assert.Equal(11, engine.Engine.Metrics.Finished(FinishReason.Length));
        Assert.Throws<ArgumentException>(() => engine.Engine.TrySubmit([engine.Request([1], 1, client: "a"), engine.Request([1], 1, client: "b")], out _));
    }

    [Fact]
    public void When_to_come_back_follows_the_rate_of_admissions()
    {
        TestClock clock = new();
        using EngineHarness engine = new(maxSequences: 1, time: clock, maxQueuePerClient: 1000);
        Assert.Equal(TimeSpan.FromSeconds(1), engine.Engine.RetryAfter());
        for (int i = 0; i < 130; i++) engine.Submit(engine.Request(EngineHarness.Prompt(5, i), 1, client: i < 100 ? "many" : "few"));
        // One is admitted every half second.
        for (int i = 0; i < 80; i++)
        {
            clock.Advance(TimeSpan.FromSeconds(0.5));
            engine.Step();
        }
        Assert.Equal(50, engine.Engine.Metrics.Waiting);
        Assert.InRange(engine.Engine.RetryAfter().TotalSeconds, 24, 26);
        Assert.Equal(TimeSpan.FromSeconds(1), engine.Engine.RetryAfter("few"));
        Assert.InRange(engine.Engine.RetryAfter("many").TotalSeconds, 24, 26);
        // Nothing moves: it takes that much longer, and never more than a minute.
        clock.Advance(TimeSpan.FromSeconds(20));
        Assert.InRange(engine.Engine.RetryAfter().TotalSeconds, 44, 46);
        clock.Advance(TimeSpan.FromSeconds(200));
        Assert.Equal(TimeSpan.FromSeconds(60), engine.Engine.RetryAfter());
    }

    private sealed class CountingClock : TimeProvider
    {
        public int Reads { get; private set; }

        public override long GetTimestamp()
        {
            Reads++;
            return base.GetTimestamp();
        }
    }
}
