using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.Tests.Model;

/// <summary>The memory plan on a GPU: everything lies on it, and nothing is allocated that does not fit.</summary>
public sealed class DeviceBudgetTests
{
    private const long GiB = 1L << 30;

    [Theory]
    [InlineData(80, 79, 0.9, 72)]       // its share of the whole
    [InlineData(80, 79, 0.45, 36)]
    [InlineData(80, 30, 0.9, 30)]       // others have the rest
    [InlineData(80, 40, 0.45, 36)]      // two processes side by side
    public void A_process_takes_its_share_of_what_is_free(int total, int free, double utilization, int expected)
    {
        long available = DeviceBudget.Gpu(total * GiB, free * GiB, utilization, sharesHostMemory: false).AvailableBytes;
        Assert.InRange(available, expected * GiB - 1024, expected * GiB + 1024);
    }

    [Fact]
    public void The_pool_takes_what_weights_and_buffers_leave()
    {
        RunnerPlan plan = Plan(DeviceBudget.Gpu(80 * GiB, 80 * GiB, 0.9, false), weights: 62 * GiB);
        long pool = plan.KvCache.PageBytes * plan.KvCache.PageCount, left = plan.Budget.AvailableBytes - plan.WeightBytes - plan.ActivationBytes;
        Assert.InRange(pool, left - plan.KvCache.PageBytes, left);
        Assert.Contains(plan.Lines(), static l => l.Contains("all on the device", StringComparison.Ordinal));
        Assert.Contains(plan.Lines(), static l => l.Contains("90 % of 80.00 GiB (--gpu-memory-utilization)", StringComparison.Ordinal));

        // The same machine as a processor keeps half for others.
        RunnerPlan shared = Plan(DeviceBudget.Gpu(80 * GiB, 80 * GiB, 0.9, true), weights: 62 * GiB);
        Assert.InRange(shared.KvCache.PageCount, plan.KvCache.PageCount / 2 - 1, plan.KvCache.PageCount / 2 + 1);
    }

    [Fact]
    public void The_model_length_fits_itself_to_the_pool()
    {
        RunnerPlan wide = Plan(DeviceBudget.Gpu(80 * GiB, 80 * GiB, 0.9, false), weights: 62 * GiB);
        RunnerPlan narrow = Plan(DeviceBudget.Gpu(80 * GiB, 80 * GiB, 0.9, false), weights: 69 * GiB);
        Assert.True(narrow.MaxModelLength < wide.MaxModelLength, $"{narrow.MaxModelLength}, {wide.MaxModelLength}");
        Assert.True(narrow.KvCache.PagesForSequence(narrow.MaxModelLength, 512) <= narrow.KvCache.PageCount);
    }

    [Theory]
    [InlineData(2, 80, 2)]      // what the user says
    [InlineData(64, 80, 10)]    // never more than is left
    [InlineData(64, 3, 3)]      // nor than one buffer
    public void The_pool_is_bounded_by_the_flag_the_device_and_its_largest_buffer(int flag, int buffer, int most)
    {
        DeviceBudget budget = DeviceBudget.Gpu(80 * GiB, 80 * GiB, 0.9, false) with { LargestBuffer = buffer * GiB };
        RunnerPlan plan = Plan(budget, weights: 62 * GiB, pool: flag * GiB);
        Assert.InRange(plan.KvCache.PageBytes * plan.KvCache.PageCount, (most - 1) * GiB, most * GiB);
    }

    [Theory]
    [InlineData(72)]
    [InlineData(100)]
    public void What_does_not_fit_is_refused_with_numbers_and_flags(int weights)
    {
        string message = Assert.Throws<MemoryPlanException>(() => Plan(DeviceBudget.Gpu(80 * GiB, 80 * GiB, 0.9, false), weights * GiB)).Message;
        foreach (string part in (string[])[$"{weights}.00 GiB", "72.00 GiB", "90 % of 80.00 GiB", "--gpu-memory-utilization", "--max-num-batched-tokens", "--device cpu"])
            Assert.Contains(part, message);
        // The processor maps weights: there they need not fit.
        Assert.True(Plan(DeviceBudget.Cpu(80 * GiB), 60 * GiB).MaxModelLength > 0);
    }

    [Fact]
    public void A_length_that_does_not_fit_names_the_flag_that_helps()
    {
        DeviceBudget budget = DeviceBudget.Gpu(80 * GiB, 80 * GiB, 0.9, false);
        string message = Assert.Throws<MemoryPlanException>(() => Plan(budget, 70 * GiB, length: 131072)).Message;
        Assert.Contains("--gpu-memory-utilization", message);
        message = Assert.Throws<MemoryPlanException>(() => Plan(budget, 60 * GiB, pool: 1 * GiB, length: 131072)).Message;
        Assert.Contains("--kv-cache-memory", message);
    }

    private static RunnerPlan Plan(DeviceBudget budget, long weights, long? pool = null, int? length = null) => RunnerPlan.Make(
        CheckpointsPublishedSizesTests.Published("31B"), weights, new RunnerOptions(KvCacheType.F16, 16, pool, length, MaxSequences: 16, MaxBatchTokens: 512), budget);
}
