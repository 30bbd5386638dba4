using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>What a client expects the answer to be saves steps where it is right, and changes nothing else.</summary>
public sealed class PredictionTests
{
    [Theory]
    [InlineData(false, 0, 0)]
    [InlineData(true, 0, 0)]
    [InlineData(false, 4, 0)]
    [InlineData(true, 0, 8)]
    public void A_right_prediction_saves_steps_and_a_wrong_one_changes_nothing(bool asynchronous, int drafts, int promptLookup)
    {
        using EngineHarness engine = new(asynchronous, maxLength: 200, drafts: drafts, promptLookup: promptLookup, maxBatchTokens: 64);
        engine.Runner.DraftAccuracy = 0;
        GenerationRequest plain = engine.Request(EngineHarness.Prompt(12), 100, new SamplingParams { Seed = 3, PresencePenalty = 1 });
        int[] expected = engine.Expected(plain);
        int[] edited = [.. expected[..30], FakeModel.Vocabulary - 1, .. expected[37..]];

        (Generation right, long steps) = Run(expected);
        Assert.Equal(100 - steps, right.AcceptedPredictions);      // each step gives one token of its own
        Assert.True(right.AcceptedPredictions > 80 && steps < 20, $"{steps} steps, {right.AcceptedPredictions} right");
        Assert.Equal(0, right.RejectedPredictions);

        (Generation partly, steps) = Run(edited);
        Assert.True(partly.AcceptedPredictions > 60 && steps < 40, $"{steps} steps, {partly.AcceptedPredictions} right");
        Assert.InRange(partly.RejectedPredictions, 1, 60);

        (Generation wrong, _) = Run([.. expected[..10], .. EngineHarness.Prompt(50, seed: 99)]);
        Assert.True(wrong.AcceptedPredictions <= 20 && wrong.RejectedPredictions > 0, $"{wrong.AcceptedPredictions} right, {wrong.RejectedPredictions} wrong");

        (Generation without, _) = Run(null);
        Assert.Equal((0, 0), (without.AcceptedPredictions, without.RejectedPredictions));

        (Generation, long) Run(int[]? prediction)
        {
            long before = engine.Engine.Metrics.Steps;
            Generation generation = engine.Submit(engine.Request(plain.Prompt, 100, plain.Sampling, prediction: prediction));
            engine.RunToEnd();
            EngineHarness.AssertEnded(generation, FinishReason.Length, expected);
            return (generation, engine.Engine.Metrics.Steps - before);
        }
    }

    [Fact]
    public void A_request_may_ask_for_fewer_guesses_or_none()
    {
        using EngineHarness engine = new(drafts: 4);
        engine.Runner.DraftAccuracy = 100;
        Generation none = engine.Submit(engine.Request(EngineHarness.Prompt(10), 40, maxDrafts: 0));
        engine.RunToEnd();
        Assert.Equal((0, 40), (engine.Engine.Metrics.Drafts, none.GeneratedTokens));
        Generation one = engine.Submit(engine.Request(EngineHarness.Prompt(10), 40, maxDrafts: 1));
        engine.RunToEnd();
        Assert.True(engine.Engine.Metrics.Drafts == engine.Engine.Metrics.DraftSteps && engine.Engine.Metrics.Drafts > 10);
        Assert.Equal(40, one.GeneratedTokens);
    }

    [Fact]
    public void Predictions_of_a_crowd_keep_to_their_answers_through_preemption()
    {
        using EngineHarness engine = new(pages: 60, maxLength: 120, promptLookup: 0);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 6).Select(i => engine.Request(EngineHarness.Prompt(9 + i, i), 80, new SamplingParams { Seed = (ulong)i }))];
        int[][] expected = [.. requests.Select(r => engine.Expected(r))];
        Generation[] running = [.. requests.Select((r, i) => engine.Submit(engine.Request(r.Prompt, 80, r.Sampling, prediction: [.. expected[i][..(i * 15)], 1, 2, .. expected[i][(i * 15)..]])))];
        engine.RunToEnd();
        for (int i = 0; i < running.Length; i++) EngineHarness.AssertEnded(running[i], FinishReason.Length, expected[i]);
        Assert.True(engine.Engine.Metrics.Preemptions > 0);
        Assert.All(running, static g => Assert.True(g.AcceptedPredictions > 20));
    }
}
