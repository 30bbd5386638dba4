using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>A prefix that is being computed is waited for, not computed again beside.</summary>
public sealed class SharedPrefillTests
{
    private const int Block = 8;
    private const int Length = 500;

    private static EngineHarness NewEngine(bool asynchronous, bool prefixCaching, int chunk = 64, TimeProvider? time = null) =>
        new(asynchronous, maxLength: 600, maxSequences: 16, maxBatchTokens: chunk, plan: EngineHarness.SharingPlanOf(3000), prefixCaching: prefixCaching, time: time);

    private static GenerationRequest[] Choices(EngineHarness engine, int n, int tokens, TimeSpan? timeout = null) =>
        [.. Enumerable.Range(0, n).Select(i => engine.Request(EngineHarness.Prompt(Length), tokens, new SamplingParams { Seed = (ulong)i }, timeout: timeout))];

    private static void AssertAnswers(EngineHarness engine, GenerationRequest[] requests, Generation[] generations)
    {
        engine.RunToEnd();
        for (int i = 0; i < requests.Length; i++) EngineHarness.AssertEnded(generations[i], FinishReason.Length, engine.Expected(requests[i]));
    }

    [Theory]
    [InlineData(false, true, 64)]
    [InlineData(false, false, 64)]
    [InlineData(true, true, 64)]
    [InlineData(true, false, 64)]
    [InlineData(false, true, 33)]
    [InlineData(true, false, 600)]
    public void Choices_of_one_request_compute_its_prompt_once(bool asynchronous, bool prefixCaching, int chunk)
    {
        using EngineHarness engine = NewEngine(asynchronous, prefixCaching, chunk);
        const int N = 8, Tokens = 6;
        GenerationRequest[] requests = Choices(engine, N, Tokens);
        AssertAnswers(engine, requests, engine.SubmitAll(requests));
        Assert.InRange(engine.Engine.Metrics.Rows, Length, Length + (N - 1) * Block + N * (Tokens - 1));
        if (!prefixCaching) Assert.Equal(0, engine.Engine.Metrics.PrefixCacheQueries);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Without_a_prefix_cache_only_the_choices_of_one_request_share(bool asynchronous)
    {
        using EngineHarness engine = NewEngine(asynchronous, prefixCaching: false);
        GenerationRequest[] requests = Choices(engine, 4, 1);
        Generation[] first = engine.SubmitAll(requests[..2]);
        Generation[] second = engine.SubmitAll(requests[2..]);
        AssertAnswers(engine, requests, [.. first, .. second]);
        Assert.InRange(engine.Engine.Metrics.Rows, 2 * Length, 2 * (Length + Block));
        Assert.All(first.Concat(second), g => Assert.Equal(0, g.CachedTokens));
        long rows = engine.Engine.Metrics.Rows;
        AssertAnswers(engine, requests[..2], engine.SubmitAll(requests[..2]));
        Assert.InRange(engine.Engine.Metrics.Rows - rows, Length, Length + Block);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Unrelated_requests_with_a_common_beginning_that_arrive_together_compute_it_once(bool asynchronous)
    {
        using EngineHarness engine = NewEngine(asynchronous, prefixCaching: true);
        int[] system = EngineHarness.Prompt(400);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 6).Select(i => engine.Request([.. system, .. EngineHarness.Prompt(20 + i, 100 + i)], 4))];
        AssertAnswers(engine, requests, [.. requests.Select(r => engine.Submit(r))]);
        // Each its own part, three of its tokens, and the last one where that completes a block.
        Assert.InRange(engine.Engine.Metrics.Rows, 400, 400 + requests.Sum(r => r.Prompt.Length - 400 + 3 + ((r.Prompt.Length + 4) % Block == 0 ? 1 : 0)));
    }

    [Theory]
    [InlineData(false, true)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    public void When_the_leader_is_cancelled_in_the_middle_another_goes_on_from_there(bool asynchronous, bool prefixCaching)
    {
        using EngineHarness engine = NewEngine(asynchronous, prefixCaching, chunk: 100);
        GenerationRequest[] requests = Choices(engine, 8, 5);
        Generation[] generations = engine.SubmitAll(requests);
        engine.Steps(3);
        generations[0].Cancel();
        AssertAnswers(engine, requests[1..], generations[1..]);
        Assert.Equal(FinishReason.Abort, generations[0].Finish);
        // At most the leader's step in flight is computed again.
        Assert.InRange(engine.Engine.Metrics.Rows, Length, Length + 200 + 7 * Block + 8 * 5);
    }

    /// <summary>Each in turn leads and goes while all others follow.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Leaders_that_are_cancelled_one_after_the_other_leave_nobody_waiting(bool asynchronous)
    {
        using EngineHarness engine = NewEngine(asynchronous, prefixCaching: true, chunk: 600);
        engine.Submit(engine.Request(EngineHarness.Prompt(3, 99), 90));
        GenerationRequest[] requests = Choices(engine, 15, 5);
        Generation[] generations = engine.SubmitAll(requests);
        for (int i = 0; i < 14; i++)
        {
            generations[i].Cancel();
            engine.Step();
        }
        AssertAnswers(engine, requests[14..], generations[14..]);
    }

    [Theory]
    [InlineData(false, true)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    public void When_the_leader_fails_the_others_get_their_answers(bool asynchronous, bool prefixCaching)
    {
        using EngineHarness engine = NewEngine(asynchronous, prefixCaching, chunk: 100);
        engine.Runner.OnCollect = step =>
        {
            if (step == 5) throw new InvalidOperationException("as planned");     // the one in which the last rows of the prompt are
        };
        GenerationRequest[] requests = Choices(engine, 8, 5);
        Generation[] generations = engine.SubmitAll(requests);
        engine.RunToEnd();
        Assert.Equal(FinishReason.Error, generations[0].Finish);
        Assert.True(generations.Count(g => g.Finish == FinishReason.Length) >= 6);
        for (int i = 1; i < 8; i++)
            if (generations[i].Finish == FinishReason.Length) EngineHarness.AssertEnded(generations[i], FinishReason.Length, engine.Expected(requests[i]));
    }

    [Fact]
    public void Followers_can_be_cancelled_and_have_deadlines()
    {
        TestClock clock = new();
        using EngineHarness engine = NewEngine(false, true, chunk: 600, time: clock);
        GenerationRequest[] requests = Choices(engine, 3, 5, TimeSpan.FromSeconds(1));
        GenerationRequest leader = engine.Request(EngineHarness.Prompt(Length), 5);
        Generation[] generations = engine.SubmitAll([leader, .. requests]);
        // A launch in progress: the leader computes, the others follow. Their ends come before they are woken.
        engine.Runner.OnLaunch = step =>
        {
            if (step != 1) return;
            Assert.Equal(3, engine.Engine.Metrics.Waiting);
            generations[1].Cancel();
            clock.Advance(TimeSpan.FromSeconds(1));
        };
        engine.RunToEnd();
        EngineHarness.AssertEnded(generations[0], FinishReason.Length, engine.Expected(leader));
        Assert.Equal([FinishReason.Abort, FinishReason.Deadline, FinishReason.Deadline], generations[1..].Select(g => g.Finish));
    }

    [Fact]
    public void Others_pass_those_who_wait_for_a_prefix()
    {
        TestClock clock = new();
        using EngineHarness engine = NewEngine(false, true, chunk: 600, time: clock);
        Generation[] choices = engine.SubmitAll(Choices(engine, 3, 5));
        Generation other = engine.Submit(engine.Request(EngineHarness.Prompt(20, 7), 5));
        engine.Step();
        clock.Advance(TimeSpan.FromSeconds(1));
        engine.RunToEnd();
        Assert.Equal(choices[0].AdmittedAt, other.AdmittedAt);
        Assert.All(choices[1..], c => Assert.True(c.AdmittedAt > other.AdmittedAt));
    }

    [Theory]
    [InlineData(0, 8)]
    [InlineData(1, 9)]
    [InlineData(2, 9)]
    public void Nobody_waits_for_a_leader_of_worse_priority(int priority, int admittedIn)
    {
        // Seven steps of 64 rows; in the eighth the leader leaves 12 to others.
        TestClock clock = new();
        using EngineHarness engine = NewEngine(false, true, chunk: 64, time: clock);
        engine.Submit(engine.Request(EngineHarness.Prompt(Length), 5, priority: 1));
        engine.Step();
        Generation other = engine.Submit(engine.Request(EngineHarness.Prompt(Length), 5, priority: priority));
        for (int step = 2; step <= 10; step++)
        {
            clock.Advance(TimeSpan.FromSeconds(1));
            engine.Step();
        }
        Assert.Equal(admittedIn, other.AdmittedAt / TimeSpan.TicksPerSecond);
        engine.RunToEnd();
    }
}
