using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>A runner that fails takes its step's sequences with it, and nothing else.</summary>
public sealed class FailureTests
{
    private static void Throw() => throw new InvalidOperationException("the device fell over");

    [Theory]
    [InlineData(false, true)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    public void A_failed_step_ends_its_sequences_with_error_and_the_next_requests_are_served(bool asynchronous, bool atLaunch)
    {
        using EngineHarness engine = new(asynchronous, maxSequences: 3);
        Action<long> fail = step => { if (step == 6) Throw(); };
        if (atLaunch) engine.Runner.OnLaunch = fail;
        else engine.Runner.OnCollect = fail;
        Generation[] lost = [.. Enumerable.Range(0, 3).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(6, i), 30)))];
        GenerationRequest[] later = [.. Enumerable.Range(0, 4).Select(i => engine.Request(EngineHarness.Prompt(7, i), 30))];
        Generation[] served = [.. later.Select(r => engine.Submit(r))];
        engine.RunToEnd();
        Assert.All(lost, g => Assert.Equal(FinishReason.Error, EngineHarness.Read(g).Finish));
        Assert.All(served.Zip(later), x => Assert.Equal(engine.Expected(x.Second), EngineHarness.Read(x.First).Tokens));
        Assert.Equal("the device fell over", Assert.Single(engine.Errors).Message);
        Assert.Equal(1, engine.Engine.Metrics.Failures);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_runner_that_always_fails_ends_every_request(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous);
        engine.Runner.OnCollect = _ => Throw();
        Generation[] all = [.. Enumerable.Range(0, 20).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(10, i), 10)))];
        engine.RunToEnd();
        Assert.All(all, g => EngineHarness.AssertEnded(g, FinishReason.Error));
        Assert.Equal(20, engine.Engine.Metrics.Finished(FinishReason.Error));
    }

    [Fact]
    public void A_slot_that_does_not_open_costs_its_own_request_only()
    {
        using EngineHarness engine = new();
        int opened = 0;
        engine.Runner.OnOpen = _ => { if (++opened == 2) Throw(); };
        GenerationRequest[] requests = [.. Enumerable.Range(0, 3).Select(i => engine.Request(EngineHarness.Prompt(6, i), 10))];
        Generation[] all = [.. requests.Select(r => engine.Submit(r))];
        engine.RunToEnd();
        Assert.Equal(engine.Expected(requests[0]), EngineHarness.Read(all[0]).Tokens);
        EngineHarness.AssertEnded(all[1], FinishReason.Error);
        Assert.Equal(engine.Expected(requests[2]), EngineHarness.Read(all[2]).Tokens);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_stop_matcher_that_throws_costs_its_own_request_only(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous);
        GenerationRequest good = engine.Request(EngineHarness.Prompt(6), 10);
        Generation bad = engine.Submit(engine.Request(EngineHarness.Prompt(5), 10), _ => throw new InvalidOperationException());
        Generation beside = engine.Submit(good);
        engine.RunToEnd();
        Assert.Equal(FinishReason.Error, EngineHarness.Read(bad).Finish);
        Assert.Equal(engine.Expected(good), EngineHarness.Read(beside).Tokens);
    }

    [Fact]
    public void An_error_callback_that_throws_is_ignored()
    {
        using EngineHarness engine = new(onError: _ => Throw());
        engine.Runner.OnLaunch = step => { if (step == 1) Throw(); };
        Generation lost = engine.Submit(engine.Request(EngineHarness.Prompt(5), 5));
        engine.RunToEnd();
        Assert.Equal(FinishReason.Error, lost.Finish);
    }
}
