using System.Runtime.InteropServices;
using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>The choice of experts, the sort by expert and the weighted sum against plain loops.</summary>
[Trait("Category", "Gpu")]
public sealed class GpuRoutingTests
{
    private const int Untouched = -77;

    [OpenClTheory]
    [InlineData(1, 8, 3)]
    [InlineData(3, 8, 8)]
    [InlineData(5, 128, 8)]
    [InlineData(2, 300, 1)]
    [InlineData(70, 128, 8)]
    public void The_best_experts_share_a_row(int rows, int experts, int used)
    {
        using GpuBench bench = new(rows + 1);
        using GpuRouting routing = Routing(bench, rows + 1, experts, used);
        float[] scores = GpuBench.Random((rows + 1) * experts, 1, 4), scale = [.. GpuBench.Random(experts, 2).Select(s => 1.5f + s)];
        using GpuTensor gScores = bench.Tensor(rows + 1, experts, scores);
        using GpuVector gScale = new(bench.Gpu, scale);

        bench.Begin(rows);
        routing.Choose(gScores, gScale);

        int[] chosen = Ints(bench, routing.Chosen, (rows + 1) * used);
        float[] shares = Floats(bench, routing.Shares, (rows + 1) * used);
        for (int r = 0; r < rows; r++)
        {
            (int[] best, float[] expected) = Choice(scores.AsSpan(r * experts, experts), scale, used);
            Assert.Equal(best, chosen[(r * used)..((r + 1) * used)]);
            for (int k = 0; k < used; k++) Assert.Equal(expected[k], shares[r * used + k], 1e-6f);
        }
        Assert.All(chosen[(rows * used)..], c => Assert.Equal(Untouched, c));
    }

    [OpenClFact]
    public void Of_equal_scores_the_lower_experts_win()
    {
        const int Experts = 8, Used = 3;
        using GpuBench bench = new();
        using GpuRouting routing = Routing(bench, 3, Experts, Used);
        float[] scores =
        [
            1, 1, 1, 1, 1, 1, 1, 1,
            0, 2, 5, 2, 2, 0, 2, 5,
            -1, -1, 3, -1, 3, 3, -1, 3,
        ];
        using GpuTensor gScores = bench.Tensor(3, Experts, scores);
        using GpuVector scale = new(bench.Gpu, [1, 1, 1, 1, 1, 1, 1, 1]);

        bench.Begin(3);
        routing.Choose(gScores, scale);

        Assert.Equal([0, 1, 2, 1, 2, 7, 2, 4, 5], Ints(bench, routing.Chosen, 9));
    }

    [OpenClFact]
    public void Scores_that_are_no_numbers_still_name_experts()
    {
        const int Experts = 8, Used = 3;
        using GpuBench bench = new();
        using GpuRouting routing = Routing(bench, 2, Experts, Used);
        using GpuTensor scores = bench.Tensor(2, Experts, [.. Enumerable.Repeat(float.NaN, Experts), 1, float.NaN, 2, float.PositiveInfinity, 0, 0, 0, 0]);
        using GpuVector scale = new(bench.Gpu, [1, 1, 1, 1, 1, 1, 1, 1]);

        bench.Begin(2);
        routing.Choose(scores, scale);

        Assert.All(Ints(bench, routing.Chosen, 2 * Used), c => Assert.InRange(c, 0, Experts - 1));
    }

    /// <summary>How rows choose: at random; all the same expert first; only the last ones, so that most have no rows.</summary>
    public enum Crowd { Random, OneForAll, OnlyTheLast }

    [OpenClTheory]
    [InlineData(1, 8, 3, 4, Crowd.Random)]
    [InlineData(70, 8, 3, 16, Crowd.Random)]
    [InlineData(70, 8, 3, 16, Crowd.OneForAll)]
    [InlineData(70, 8, 3, 16, Crowd.OnlyTheLast)]
    [InlineData(33, 128, 8, 8, Crowd.Random)]
    [InlineData(300, 128, 8, 64, Crowd.OneForAll)]
    public void Places_are_sorted_by_expert_then_row(int rows, int experts, int used, int tileRows, Crowd crowd)
    {
        using GpuBench bench = new(rows);
        using GpuRouting routing = Routing(bench, rows, experts, used, tileRows);
        int[] chosen = Choices(rows, experts, used, crowd);
        Send(bench, routing.Chosen, chosen);

        bench.Begin(rows);
        int tiles = routing.GroupByExpert(tileRows);

        int[] sorted = [.. Enumerable.Range(0, rows * used).OrderBy(i => chosen[i])];
        Assert.Equal(sorted, Ints(bench, routing.Places, rows * used));
        List<int> expected = [];
        for (int e = 0, start = 0; e < experts; e++)
        {
            int count = chosen.Count(c => c == e);
            for (int t = 0; t < count; t += tileRows) expected.AddRange([e, start + t, Math.Min(tileRows, count - t), 0]);
            start += count;
        }
        Assert.True(expected.Count <= 4 * tiles, $"{expected.Count / 4} runs, room for {tiles}");
        expected.AddRange(Enumerable.Repeat(0, 4 * tiles - expected.Count));
        Assert.Equal(expected, Ints(bench, routing.Tiles, 4 * tiles));
    }

    [OpenClTheory]
    [InlineData(1, 2816, 8)]
    [InlineData(7, 300, 3)]
    public void A_rows_outputs_are_added_in_order(int rows, int columns, int used)
    {
        using GpuBench bench = new(rows + 1);
        using GpuRouting routing = Routing(bench, rows + 1, 8, used);
        float[] outputs = GpuBench.Random(rows * used * columns, 1), shares = GpuBench.Random(rows * used, 2), before = GpuBench.Random((rows + 1) * columns, 3);
        using GpuTensor gOutputs = bench.Tensor(rows * used, columns, outputs), y = bench.Tensor(rows + 1, columns, before);
        Send(bench, routing.Shares, shares);

        bench.Begin(rows);
        routing.Sum(gOutputs.Buffer, y);

        float[] actual = GpuBench.Rows(y, rows + 1);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
            {
                float sum = 0;
                for (int k = 0; k < used; k++) sum += shares[r * used + k] * outputs[(r * used + k) * columns + c];
                Assert.Equal(sum, actual[r * columns + c], 1e-6f);
            }
        Assert.Equal(before[(rows * columns)..], actual[(rows * columns)..]);
    }

    /// <summary>Ascending experts of a row, with no two alike.</summary>
    private static int[] Choices(int rows, int experts, int used, Crowd crowd)
    {
        Random random = new(5);
        int[] all = [.. Enumerable.Range(0, experts)], chosen = new int[rows * used];
        for (int r = 0; r < rows; r++)
        {
            random.Shuffle(all);
            int[] row = crowd switch
            {
                Crowd.OneForAll => [3, .. all.Where(e => e != 3).Take(used - 1)],
                Crowd.OnlyTheLast => [.. Enumerable.Range(experts - used, used)],
                _ => all[..used],
            };
            Array.Sort(row);
            row.CopyTo(chosen, r * used);
        }
        return chosen;
    }

    private static (int[] Experts, float[] Shares) Choice(ReadOnlySpan<float> scores, float[] scale, int used)
    {
        float[] row = scores.ToArray();
        int[] best = [.. Enumerable.Range(0, row.Length).OrderByDescending(e => row[e]).Take(used).Order()];
        double sum = best.Sum(e => Math.Exp(row[e]));
        return (best, [.. best.Select(e => (float)(Math.Exp(row[e]) / sum * scale[e]))]);
    }

    private static GpuRouting Routing(GpuBench bench, int rows, int experts, int used, int smallestTile = 4)
    {
        GpuRouting routing = new(bench.Gpu, bench.Step);
        routing.Reserve(rows, experts, used, smallestTile);
        Send(bench, routing.Chosen, [.. Enumerable.Repeat(Untouched, rows * used)]);
        return routing;
    }

    private static unsafe void Send<T>(GpuBench bench, GpuBuffer buffer, T[] values) where T : unmanaged
    {
        fixed (T* p = values) bench.Gpu.Upload(buffer, 0, p, values.Length * sizeof(T));
    }

    private static int[] Ints(GpuBench bench, GpuBuffer buffer, int count) => [.. MemoryMarshal.Cast<byte, int>(Bytes(bench, buffer, count))];

    private static float[] Floats(GpuBench bench, GpuBuffer buffer, int count) => [.. MemoryMarshal.Cast<byte, float>(Bytes(bench, buffer, count))];

    private static unsafe byte[] Bytes(GpuBench bench, GpuBuffer buffer, int count)
    {
        byte[] bytes = new byte[4 * count];
        fixed (byte* p = bytes) bench.Gpu.Download(p, buffer, 0, bytes.Length);
        return bytes;
    }
}
