using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>What attention leaves in device memory, and which pages a step sends.</summary>
[Trait("Category", "Gpu")]
public sealed unsafe class GpuAttentionTests
{
    private const int TokensPerPage = 16;

    [OpenClFact]
    public void Turns_are_their_twins_far_out()
    {
        const int Rows = 5, Context = 262_000;
        float[] frequencies = [.. Enumerable.Range(0, 128).Select(i => i < 100 ? (float)Math.Pow(1e4, -i / 128.0) : 0f)];
        using GpuBench bench = new();
        using GpuRope rope = new(bench.Gpu, bench.Step, frequencies);
        rope.Reserve(bench.Step.MaxRows);
        bench.Begin(Rows, Context);
        rope.Fill();
        Assert.Equal(100, rope.Pairs);
        float[] turns = new float[Rows * 200];
        fixed (float* p = turns) bench.Gpu.Download(p, rope.Turns, 0, turns.Length * sizeof(float));
        for (int row = 0; row < Rows; row++)
        {
            for (int i = 0; i < 100; i++)
            {
                (double sin, double cos) = Math.SinCos((float)(Context + row) * frequencies[i]);
                Assert.Equal(cos, turns[row * 200 + i], 2e-7);
                Assert.Equal(sin, turns[row * 200 + 100 + i], 2e-7);
            }
        }
    }

    [OpenClFact]
    public void The_same_frequencies_are_one_rotation()
    {
        using GpuBench bench = new();
        using GpuAttention attention = new(bench.Gpu, bench.Step, new GpuOptions());
        Assert.Equal(0, attention.AddRope([1f, 0.5f]));
        Assert.Equal(1, attention.AddRope([1f, 0.25f]));
        Assert.Equal(0, attention.AddRope([1f, 0.5f]));
    }

    [OpenClTheory]
    [InlineData(KvCacheType.F32, 64)]
    [InlineData(KvCacheType.F16, 64)]
    [InlineData(KvCacheType.BF16, 64)]
    [InlineData(KvCacheType.Q8_0, 64)]
    [InlineData(KvCacheType.F16, 20)]
    [InlineData(KvCacheType.Q8_0, 32)]
    public void Pages_hold_what_the_processors_do(KvCacheType type, int keyDim)
    {
        const int Dim = 64, KvHeads = 2, Rows = 40, Pages = 4;
        AttentionPlan shape = new(2, KvHeads, Dim, 0, 0, 0, KvIndex: 1, OwnsKv: true, ValueIsKey: keyDim < Dim, keyDim);
        long bytes = 2 * KvLayout.BytesPerToken(type, KvHeads, Dim, keyDim), pageBytes = bytes * TokensPerPage + 64;
        KvCachePlan plan = new([new KvGroup([0, 1], 0, TokensPerPage, bytes)], pageBytes, Pages, type);
        float[] rows = GpuBench.Random(Rows * shape.QkvWidth, 1), norm = GpuBench.Random(Dim, 2), frequencies = [.. Enumerable.Range(0, Dim / 2).Select(i => i < keyDim / 2 ? 1f / (1 + i) : 0f)];
        BlockTable table = new(1);
        foreach (int page in (int[])[2, 0, 3]) table.Add(0, page);
        StepBatch batch = new(Rows, 1);
        batch.Add(new SequenceSlice { ContextLength = 5, Blocks = table, PromptLogprobs = -1, NextPromptToken = -1 }, new int[Rows]);

        byte[][] pools = new byte[2][];
        for (int i = 0; i < 2; i++)
        {
            using IComputeDevice device = i == 0 ? new CpuDevice(1, ActivationType.F32) : new GpuDevice(new OpenClContext(0), new GpuOptions());
            device.AddRope(frequencies);
            using DeviceKvCache cache = device.CreateKvCache(plan, _ => shape);
            device.Reserve(Rows, 1, 64);
            using DeviceTensor qkv = device.CreateTensor(Rows, shape.QkvWidth);
            fixed (float* w = norm)
            {
                using DeviceVector weight = device.LoadVector(new TensorSource("norm", TensorType.F32, 1, Dim, (nint)w, Dim * sizeof(float)));
                pools[i] = new byte[pageBytes * Pages];
                if (cache is GpuKvCache c) ((GpuDevice)device).Context.Clear(c.Pages, c.Pages.Bytes);
                else new Span<byte>(((CpuKvCache)cache).Layer(0, 0, 0), pools[i].Length).Clear();
                device.BeginStep(batch);
                qkv.Write(rows);
                device.NormRopeStore(shape, weight, weight, qkv, cache);
                if (cache is CpuKvCache cpu) new ReadOnlySpan<byte>(cpu.Layer(0, 0, 0), pools[i].Length).CopyTo(pools[i]);
                fixed (byte* p = pools[i])
                    if (cache is GpuKvCache gpu) ((GpuDevice)device).Context.Download(p, gpu.Pages, 0, pools[i].Length);
            }
        }

        // What differs was rounded the other way because a norm's sum has another order.
        int size = type switch { KvCacheType.F32 => 4, KvCacheType.Q8_0 => 1, _ => 2 }, differ = 0;
        for (int i = 0; i < pools[0].Length; i += size)
        {
            if (type == KvCacheType.F32)
            {
                Assert.Equal(BitConverter.ToSingle(pools[0], i), BitConverter.ToSingle(pools[1], i), 1e-5f);
                continue;
            }
            int step = size == 1 ? Math.Abs((sbyte)(pools[0][i] - pools[1][i])) : Math.Abs(BitConverter.ToUInt16(pools[0], i) - BitConverter.ToUInt16(pools[1], i));
            Assert.InRange(step, 0, 1);
            differ += step;
        }
        Assert.InRange(differ, 0, pools[0].Length / size / 200);
        Assert.Contains(pools[0], static b => b != 0);
    }

    [OpenClFact]
    public void A_pool_larger_than_any_buffer_names_the_option()
    {
        using GpuBench bench = new();
        AttentionPlan shape = new(1, 1, 32, 0, 0, 0, 0, OwnsKv: true, ValueIsKey: false, 32);
        long bytes = KvLayout.BytesPerToken(KvCacheType.F16, 1, 32, 32);
        KvCachePlan plan = new([new KvGroup([0], 0, TokensPerPage, bytes)], 1 << 30, int.MaxValue, KvCacheType.F16);
        GpuException e = Assert.Throws<GpuException>(() => new GpuKvCache(bench.Gpu, plan, _ => shape));
        Assert.Contains("--kv-cache-memory", e.Message);
    }

    /// <summary>Which pages a step sends: what its rows see and write, and none that was given back.</summary>
    [OpenClTheory]
    [InlineData(0, 100, 1, 7, 0, 7)]      // global: all
    [InlineData(40, 100, 1, 7, 3, 7)]     // sees from position 61 on
    [InlineData(33, 96, 10, 7, 4, 7)]     // from 64 on
    [InlineData(40, 10, 20, 2, 0, 2)]
    [InlineData(1, 96, 1, 6, 6, 6)]       // a drafter's row at a page's beginning: nothing
    [InlineData(40, 96, 1, 6, 3, 6)]      // … what is there
    [InlineData(40, 90, 1, 9, 3, 6)]      // pages for later rows are not sent
    [InlineData(40, 90, 1, 0, 3, 3)]      // a table without pages
    public void A_step_sends_the_pages_that_its_rows_reach(int window, int context, int rows, int pages, int first, int end)
    {
        using OpenClContext gpu = new(0);
        using GpuStep step = new(gpu);
        step.UseCache(new KvCachePlan([new KvGroup([0], 0, 64, 1), new KvGroup([1], window, TokensPerPage, 1)], 1024, 64, KvCacheType.F32));
        step.Reserve(64, 4);
        BlockTable before = new(2), table = new(2);
        before.Add(0, 50);
        before.Add(1, 51);
        for (int p = 0; p < pages; p++) table.Add(1, 10 + p);
        for (int p = 0; p < first && p < pages; p++) table.Release(1, p);
        StepBatch batch = new(64, 4);
        batch.Add(new SequenceSlice { Blocks = before }, new int[2]);
        batch.Add(new SequenceSlice { Slot = 1, ContextLength = context, Blocks = table }, new int[rows]);
        step.Begin(batch);

        int[] starts = new int[8], tables = new int[64];
        fixed (int* p = starts) gpu.Download(p, step.TableStarts, 0, sizeof(int) * starts.Length);
        fixed (int* p = tables) gpu.Download(p, step.Tables, 0, sizeof(int) * tables.Length);
        Assert.Equal(50, tables[starts[0]]);
        Assert.Equal(51, tables[starts[4]]);
        for (int p = first; p < end; p++) Assert.Equal(10 + p, tables[starts[5] + p]);
        // Group 0 has one page of the first sequence and none of the second, group 1 one of the first: then come these.
        Assert.Equal(2 - first, starts[5]);
    }
}
