using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

public sealed class EngineFuzzTests
{
    /// <summary>Random pools, budgets, prompts, limits, cancellations and failures; the books are checked after every step, every answer against the oracle.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Random_traffic_gives_the_models_tokens_and_leaves_everything_whole(bool asynchronous)
    {
        long preemptions = 0, failures = 0, aborted = 0, drafts = 0, accepted = 0, late = 0;
        for (int seed = 0; seed < 150; seed++)
        {
            Random random = new(seed);
            int chunk = random.Next(1, 40);
            int maxLength = random.Next(40, 110);
            int least = EngineHarness.PlanOf(0).PagesForSequence(maxLength, chunk);
            TestClock clock = new();
            using EngineHarness engine = new(
                asynchronous, least + random.Next(0, least / 2), maxLength, random.Next(1, 11), chunk,
                drafts: random.Next(3) == 0 ? random.Next(1, 6) : 0, promptLookup: random.Next(0, 8), time: clock, prefixCaching: random.Next(2) == 0);
            if (seed % 5 == 0) engine.Runner.OnCollect = _ => { if (random.Next(60) == 0) throw new InvalidOperationException(); };

            List<(GenerationRequest Request, Generation Generation)> all = [];
            for (int n = random.Next(5, 25); n > 0; n--)
            {
                GenerationRequest[] requests = RandomRequests(engine, random, maxLength);
                Generation[] generations = engine.SubmitAll(requests);
                for (int i = 0; i < requests.Length; i++) all.Add((requests[i], generations[i]));
                engine.Steps(random.Next(0, 4));
                clock.Advance(TimeSpan.FromSeconds(1));
                if (random.Next(8) == 0) all[random.Next(all.Count)].Generation.Cancel();
            }
            engine.RunToEnd();

            foreach ((GenerationRequest request, Generation generation) in all) Check(engine, request, generation);
            preemptions += engine.Engine.Metrics.Preemptions;
            failures += engine.Engine.Metrics.Failures;
            drafts += engine.Engine.Metrics.Drafts;
            accepted += engine.Engine.Metrics.AcceptedDrafts;
            aborted += engine.Engine.Metrics.Finished(FinishReason.Abort);
            late += engine.Engine.Metrics.Finished(FinishReason.Deadline) + engine.Engine.Metrics.Finished(FinishReason.QueueTimeout);
        }
        // The traffic was what it claims to be.
        Assert.True(accepted > 500 && drafts - accepted > 500, $"{drafts} drafts, {accepted} of them right");
        Assert.True(preemptions > 100 && failures > 10 && aborted > 100 && late > 100,
            $"{preemptions} preemptions, {failures} failures, {aborted} aborted, {late} late");
    }

    /// <summary>One to four choices of one prompt, of some client, priority and patience.</summary>
    private static GenerationRequest[] RandomRequests(EngineHarness engine, Random random, int maxLength)
    {
        int[] prompt = EngineHarness.Prompt(random.Next(1, random.Next(2) == 0 ? 10 : maxLength + 1), random.Next());
        string? client = random.Next(4) is var c && c > 0 ? $"client {c}" : null;
        int priority = random.Next(3) - 1;
        TimeSpan? timeout = random.Next(4) == 0 ? TimeSpan.FromSeconds(random.Next(1, 12)) : null;
        TimeSpan? queueTimeout = random.Next(6) == 0 ? TimeSpan.FromSeconds(random.Next(1, 6)) : null;
        return [.. Enumerable.Range(0, random.Next(3) == 0 ? random.Next(2, 5) : 1).Select(_ => RandomRequest(engine, random, prompt, client, priority, timeout, queueTimeout))];
    }

    private static GenerationRequest RandomRequest(
        EngineHarness engine, Random random, int[] prompt, string? client, int priority, TimeSpan? timeout, TimeSpan? queueTimeout)
    {
        SamplingParams sampling = new() { Seed = (ulong)random.Next(), PresencePenalty = random.Next(2), TopK = random.Next(2) * random.Next(1, 9), Logprobs = random.Next(3) - 1 };
        int[] stops = random.Next(3) == 0 ? [.. Enumerable.Range(0, 20).Select(_ => random.Next(FakeModel.Vocabulary))] : [];
        return engine.Request(
            prompt, random.Next(0, 100), sampling, stops, random.Next(-3, 3) is var n && n < 0 ? -1 : n,
            queueTimeout, priority: priority, client: client, timeout: timeout,
            constraint: random.Next(4) == 0 ? new ThirdsConstraint(FakeModel.Vocabulary) : null);
    }

    private static void Check(EngineHarness engine, GenerationRequest request, Generation generation)
    {
        (int[] tokens, FinishReason finish) = EngineHarness.Read(generation);
        int limit = Math.Min(request.MaxTokens, engine.Engine.MaxModelLength - request.Prompt.Length);
        int[] expected = engine.Expected(request, tokens.Length);
        Assert.Equal(expected, tokens);
        bool stops = tokens.Length > 0 && request.StopTokens.Contains(tokens[^1]);
        Assert.DoesNotContain(tokens.SkipLast(1), t => request.StopTokens.Contains(t));
        switch (finish)
        {
            case FinishReason.Stop:
                Assert.True(stops);
                break;
            case FinishReason.Length:
                Assert.Equal(limit, tokens.Length);
                Assert.False(stops);
                break;
            default:
                Assert.True(finish is FinishReason.Abort or FinishReason.Error or FinishReason.Deadline or FinishReason.QueueTimeout);
                return;
        }
        if (request.PromptLogprobs < 0) Assert.Null(generation.PromptLogprobs);
        else
            Assert.Equal(FakeModel.PromptLogprobs(engine.Plan, request.Prompt, request.Sampling, request.PromptLogprobs), generation.PromptLogprobs!);
    }
}
