using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

public sealed class PrefixCacheFuzzTests
{
    /// <summary>
    /// Conversations from a few system prompts, side by side, in pools that are short: turns follow on answers or drop them,
    /// some are cancelled, some fail. The fake model reads every token back through the pages.
    /// </summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Random_conversations_that_share_pages_give_the_models_tokens(bool asynchronous)
    {
        long preemptions = 0, hits = 0, aborted = 0, failures = 0;
        for (int seed = 0; seed < 120; seed++)
        {
            Random random = new(seed);
            int chunk = random.Next(1, 40);
            const int MaxLength = 110;
            int least = EngineHarness.SharingPlanOf(0).PagesForSequence(MaxLength, chunk);
            using EngineHarness engine = new(
                asynchronous, maxLength: MaxLength, maxSequences: random.Next(1, 9), maxBatchTokens: chunk,
                drafts: random.Next(3) == 0 ? random.Next(1, 6) : 0, promptLookup: random.Next(0, 8), plan: EngineHarness.SharingPlanOf(least + random.Next(0, seed % 2 == 0 ? least / 2 : 2 * least)));
            if (seed % 5 == 0) engine.Runner.OnCollect = _ => { if (random.Next(60) == 0) throw new InvalidOperationException(); };

            List<int[]> histories = [.. Enumerable.Range(0, 3).Select(i => EngineHarness.Prompt(random.Next(5, 50), seed * 10 + i))];
            List<(GenerationRequest Request, Generation Generation)> all = [];
            for (int n = 30; n > 0; n--)
            {
                int[] history = histories[random.Next(histories.Count)];
                int[] prompt = [.. history, .. EngineHarness.Prompt(random.Next(1, 12), random.Next(4))];
                if (prompt.Length >= MaxLength - 2) continue;
                GenerationRequest request = engine.Request(
                    prompt, random.Next(0, 90), new SamplingParams { Seed = (ulong)random.Next(2) }, salt: random.Next(6) == 0 ? "salt" : null,
                    boundary: random.Next(2) == 0 ? history.Length : null, promptLogprobs: random.Next(10) == 0 ? 1 : -1, priority: random.Next(3), client: random.Next(2) == 0 ? "other" : null);
                Generation generation = engine.Submit(request);
                all.Add((request, generation));
                // The next turn may keep the answer or drop it.
                if (random.Next(2) == 0) histories.Add(random.Next(2) == 0 ? prompt : [.. prompt, .. engine.Expected(request, Math.Min(request.MaxTokens, 10))]);
                engine.Steps(random.Next(0, seed % 2 == 0 ? 4 : 12));
                if (random.Next(8) == 0) all[random.Next(all.Count)].Generation.Cancel();
            }
            engine.RunToEnd();

            foreach ((GenerationRequest request, Generation generation) in all)
            {
                (int[] tokens, FinishReason finish) = EngineHarness.Read(generation);
                Assert.Equal(engine.Expected(request, tokens.Length), tokens);
                Assert.InRange(generation.CachedTokens, 0, request.PromptLogprobs >= 0 ? 0 : request.Prompt.Length - 1);
                if (finish == FinishReason.Length) Assert.Equal(Math.Min(request.MaxTokens, MaxLength - request.Prompt.Length), tokens.Length);
                else Assert.True(finish is FinishReason.Abort or FinishReason.Error);
            }
            preemptions += engine.Engine.Metrics.Preemptions;
            hits += engine.Engine.Metrics.PrefixCacheHits;
            aborted += engine.Engine.Metrics.Finished(FinishReason.Abort);
            failures += engine.Engine.Metrics.Failures;
        }
        // The traffic was what it claims to be.
        Assert.True(preemptions > 50 && hits > 10_000 && aborted > 100 && failures > 10, $"{preemptions} preemptions, {hits} hits, {aborted} aborted, {failures} failures");
    }
}
