using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.Tests.Model;

/// <summary>The plan for published shapes against sums worked out by hand: <c>docs/kv-cache.md</c> shows them.</summary>
public sealed class KvCachePlannerTests
{
    private const int Tokens = 8192, Conversations = 32, KiB = 1024;

    /// <summary>Bytes per token of a sliding group and of the global group in f16, and how many sliding groups there are.</summary>
    [Theory]
    [InlineData("E2B", 3 * KiB, 4, 6 * KiB)]
    [InlineData("E4B", 8 * KiB, 5, 16 * KiB)]
    [InlineData("12B", 64 * KiB, 5, 10 * KiB)]
    [InlineData("26B-A4B", 40 * KiB, 5, 12.5 * KiB)]
    [InlineData("31B", 160 * KiB, 5, 50 * KiB)]
    public void Groups_cost_what_the_paper_says(string size, int sliding, int slidingGroups, double global)
    {
        KvCachePlan plan = KvCachePlanner.Plan(CheckpointsPublishedSizesTests.Published(size), KvCacheType.F16, 16);
        Assert.Equal(slidingGroups + 1, plan.Groups.Count);
        Assert.All(plan.Groups.SkipLast(1), g => Assert.Equal(sliding, g.BytesPerToken));
        Assert.Equal(global, plan.Groups[^1].BytesPerToken);
        Assert.All(plan.Groups, g => Assert.True(g.TokensPerPage * g.BytesPerToken <= plan.PageBytes));
        // Whole base blocks leave a little of a page unused, never more than a fifteenth.
        Assert.All(plan.Groups, g => Assert.True(g.TokensPerPage * g.BytesPerToken * 15 >= plan.PageBytes * 14));
    }

    [Fact]
    public void Thirty_two_conversations_on_E2B_take_the_sum_on_paper_within_a_tenth()
    {
        // 3 global layers keep every token, 12 sliding ones the window of 512; one KV head, K and V, two bytes an element.
        long paper = Conversations * (Tokens * 3L * 2 * 512 * 2 + 512 * 12L * 2 * 256 * 2);
        Assert.Equal(1728L * KiB * KiB, paper);

        RunnerPlan plan = RunnerPlan.Make(
            CheckpointsPublishedSizesTests.Published("E2B"), 0,
            new RunnerOptions(KvCacheType.F16, BlockSize: 16, KvCacheMemory: 64L << 30, Tokens, Conversations, MaxBatchTokens: 512), DeviceBudget.Cpu(128L << 30));
        long pool = plan.KvCache.PageBytes * plan.KvCache.PageCount;
        Assert.Equal(18_744, plan.KvCache.PageCount);
        Assert.InRange(pool, paper, paper * 1.1);

        // At rest, with the last token computed, each of them holds this much.
        long atRest = Conversations * plan.KvCache.PagesForSequence(Tokens, 1) * plan.KvCache.PageBytes;
        Assert.InRange(atRest, paper, paper * 1.1);
    }

    [Theory]
    [InlineData(1, 2000, 64)]
    [InlineData(7, 5000, 512)]
    [InlineData(32, 100, 2048)]
    public void Many_sequences_hold_no_more_pages_than_the_plan_says(int count, int tokens, int rows)
    {
        KvCachePlan plan = KvCachePlanner.Plan(CheckpointsPublishedSizesTests.Published("E4B"), KvCacheType.F16, 16);
        Random random = new(3);
        long most = 0;
        for (int round = 0; round < 500; round++)
        {
            long held = 0;
            int left = rows;
            for (int s = 0; s < count; s++)
            {
                int share = s == count - 1 ? left : random.Next(0, left + 1);
                int end = random.Next(Math.Max(1, tokens / 2), tokens + 1), chunk = Math.Min(share, end);
                left -= chunk;
                foreach (KvGroup g in plan.Groups)
                {
                    int first = g.Window == 0 ? 0 : Math.Max(0, end - chunk - (g.Window - 1));
                    held += (end - 1) / g.TokensPerPage - first / g.TokensPerPage + 1;
                }
            }
            most = Math.Max(most, held);
        }
        Assert.True(most <= plan.PagesForSequences(count, tokens, rows), $"{most} pages held");
    }

    [Fact]
    public void A_rotary_factor_that_breaks_q8_blocks_stores_whole_keys()
    {
        ModelConfig config = CheckpointsPublishedSizesTests.Published("12B");
        LayerConfig global = config.Layers.First(l => !l.IsSliding);
        Assert.Equal(128, KvCachePlanner.KeyDim(config, global, KvCacheType.Q8_0));
        // 40 pairs rotate: 80 elements are two blocks and a half.
        ModelConfig odd = config with { GlobalRopeDivisors = [.. Enumerable.Range(0, 256).Select(i => i < 40 ? 1f : float.PositiveInfinity)] };
        Assert.Equal(512, KvCachePlanner.KeyDim(odd, global, KvCacheType.Q8_0));
        Assert.Equal(80, KvCachePlanner.KeyDim(odd, global, KvCacheType.F16));
        Assert.Equal(256, KvCachePlanner.KeyDim(config, config.Layers[0], KvCacheType.F16));
    }
}
