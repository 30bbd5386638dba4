using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Model;

namespace GemmaServer.Tests.Engine;

/// <summary>How many run at once in the memory that there is.</summary>
public sealed class AdmissionTests
{
    /// <summary>As docs/kv-cache.md computes it: 32 · 512 + 4 · 590 pages.</summary>
    private const int PagesOfThe32 = 18_744;

    /// <summary>Four sliding groups with pages of 32 and a global one with pages of 16, as E2B's.</summary>
    private static KvCachePlan E2B(int pages) => new(
        [.. Enumerable.Range(0, 4).Select(g => new KvGroup([g], 512, 32, 8)), new KvGroup([4], 0, 16, 16)], 256, pages, KvCacheType.F32);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_32_conversations_of_8192_tokens_run_at_once_in_the_memory_computed_for_them(bool asynchronous)
    {
        Assert.Equal(PagesOfThe32, E2B(0).PagesForSequences(32, 8192, 512));
        using EngineHarness engine = new(
            asynchronous, maxLength: 8192, maxSequences: 64, maxBatchTokens: 512, plan: E2B(PagesOfThe32), prefixCaching: false);
        // The first ones still run when the last one's prompt is computed: a prompt takes 16 steps.
        GenerationRequest[] requests = [.. Enumerable.Range(0, 32).Select(i => engine.Request(EngineHarness.Prompt(8192 - 560 + 17 * i, i), 560 - 17 * i))];
        Generation[] all = [.. requests.Select(r => engine.Submit(r))];
        while (engine.Engine.Step())
        {
        }
        engine.Engine.CheckIntegrity();
        engine.AssertWhole();
        Assert.Equal(32, engine.Runner.MostSequences);
        Assert.Equal(0, engine.Engine.Metrics.Preemptions);
        Assert.All(all, g => Assert.Equal(FinishReason.Length, g.Finish));
        EngineHarness.AssertEnded(all[31], FinishReason.Length, engine.Expected(requests[31]));
    }

    [Fact]
    public void Where_nothing_else_runs_the_longest_sequence_that_fits_is_admitted()
    {
        foreach (int chunk in (int[])[1, 7, 32, 200])
        {
            foreach (int length in (int[])[20, 60, 120])
            {
                int least = EngineHarness.PlanOf(0).PagesForSequence(length, chunk);
                using EngineHarness engine = new(pages: least, maxLength: length, maxBatchTokens: chunk);
                Generation[] all = [.. Enumerable.Range(0, 3).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(length - 2, i), 5)))];
                engine.RunToEnd();
                Assert.All(all, g => Assert.Equal(FinishReason.Length, g.Finish));
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Pages_that_a_newcomer_shares_with_those_who_run_are_not_counted_again(bool asynchronous)
    {
        // 200 tokens hold 25 global pages and two windows; a pool for one and a half, so two only fit when they share.
        KvCachePlan plan = EngineHarness.SharingPlanOf(EngineHarness.SharingPlanOf(0).PagesForSequence(220, 32) + 20);
        Assert.Equal((2, 0), Most(plan, asynchronous, sameBeginning: true));
        Assert.Equal((1, 0), Most(plan, asynchronous, sameBeginning: false));
    }

    private static (int Most, long Preemptions) Most(KvCachePlan plan, bool asynchronous, bool sameBeginning)
    {
        using EngineHarness engine = new(asynchronous, maxLength: 220, maxBatchTokens: 32, plan: plan);
        int[] beginning = EngineHarness.Prompt(192);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 2).Select(i => engine.Request(
            [.. sameBeginning ? beginning : EngineHarness.Prompt(192, 50 + i), .. EngineHarness.Prompt(6, i)], 18))];
        Generation[] all = [.. requests.Select(r => engine.Submit(r))];
        engine.RunToEnd();
        for (int i = 0; i < 2; i++) EngineHarness.AssertEnded(all[i], FinishReason.Length, engine.Expected(requests[i]));
        return (engine.Runner.MostSequences, engine.Engine.Metrics.Preemptions);
    }
}
