using GemmaServer.Compute;

namespace GemmaServer.Tests.Compute;

/// <summary>
/// Attention over several chunks of keys: against plain loops in doubles, and bit for bit between prefill, single steps and
/// thread counts.
/// </summary>
public unsafe class LongAttentionTests
{
    private const int TokensPerPage = 16;

    [Theory]
    [InlineData(8, 1, 64, 0, KvCacheType.F32, 3e-5)]
    [InlineData(8, 1, 64, 512, KvCacheType.F32, 3e-5)]
    [InlineData(4, 2, 80, 300, KvCacheType.F32, 3e-5)]   // no multiple of what the kernels take
    [InlineData(3, 1, 24, 0, KvCacheType.F16, 5e-3)]
    [InlineData(7, 1, 40, 100, KvCacheType.BF16, 4e-2)]
    [InlineData(6, 6, 64, 257, KvCacheType.F16, 5e-3)]
    [InlineData(8, 1, 128, 0, KvCacheType.Q8_0, 0.15)]
    public void Rows_around_chunk_borders_equal_plain_loops(int heads, int kvHeads, int dim, int window, KvCacheType type, double tolerance)
    {
        Case c = new(heads, kvHeads, dim, window, type, 1100);
        float[][] actual = c.Run([c.Length], threads: 2);
        foreach (int position in new[] { 0, 1, 15, 16, 17, 99, 254, 255, 256, 257, 300, 511, 512, 513, 555, 767, 768, 1023, 1024, 1025, 1099 })
            c.AssertRow(position, actual[position], tolerance);
    }

    [Theory]
    [InlineData(8, 1, 64, 0, KvCacheType.F32)]
    [InlineData(8, 1, 64, 0, KvCacheType.F16)]
    [InlineData(8, 1, 64, 512, KvCacheType.F16)]
    [InlineData(4, 2, 32, 300, KvCacheType.BF16)]
    [InlineData(5, 1, 24, 100, KvCacheType.F16)]
    [InlineData(16, 2, 64, 0, KvCacheType.Q8_0)]
    public void Prefill_single_steps_and_thread_counts_give_the_same_bits(int heads, int kvHeads, int dim, int window, KvCacheType type)
    {
        Case c = new(heads, kvHeads, dim, window, type, 1040);
        float[][] whole = c.Run([c.Length], threads: 1);
        foreach (int threads in new[] { 2, 3, 7 })
        {
            Assert.Equal(whole, c.Run([c.Length], threads));
            Assert.Equal(whole, c.Run([3, 250, 10, 506, 1, 1, 4, 200, 40, .. Enumerable.Repeat(1, 25)], threads));
        }
        Assert.Equal(whole, c.Run([.. Enumerable.Repeat(1, c.Length)], threads: 2));
    }

    [Fact]
    public void A_context_whose_partial_results_need_several_rounds_gives_the_same_bits()
    {
        // 64 chunks of eight queries are more than two threads have slots for.
        Case c = new(8, 1, 64, 0, KvCacheType.F16, 64 * 256);
        int before = c.Length - 5;
        float[][] alone = c.Run([before, 5], threads: 1, attendFrom: before);
        c.AssertRow(c.Length - 1, alone[^1], 5e-3);
        foreach (int threads in new[] { 2, 3 })
        {
            Assert.Equal(alone, c.Run([before, 5], threads, attendFrom: before));
            Assert.Equal(alone, c.Run([before, 1, 1, 1, 1, 1], threads, attendFrom: before));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(512)]
    public void Every_round_takes_the_next_chunks_and_adds_them_up_in_order(int window)
    {
        AttentionPlan plan = new(8, 2, 64, window, 0, 0, 0, OwnsKv: true, ValueIsKey: false, KeyDim: 64);
        StepBatch batch = new(64, 3);
        batch.Add(new SequenceSlice { ContextLength = 5000, Blocks = new BlockTable(1) }, new int[1]);
        batch.Add(new SequenceSlice { ContextLength = 0, Blocks = new BlockTable(1) }, new int[40]);
        batch.Add(new SequenceSlice { ContextLength = 3000, Blocks = new BlockTable(1) }, new int[2]);
        CpuStep step = new();
        step.Reserve(64, 3, 1, 0);
        step.Begin(batch, new int[3]);
        AttentionSchedule schedule = new();
        schedule.Reserve(64);
        schedule.Begin(plan, step, threads: 4);

        int[] next = new int[64];
        for (int b = 0; b < schedule.Blocks.Length; b++) next[b] = schedule.Blocks[b].FirstChunk;
        int rounds = 0;
        // Room for the largest block, and no more.
        long room = 2 * AttentionPartial.Floats(64, AttentionTiles.Stride(64));
        while (schedule.NextRound(plan, room))
        {
            rounds++;
            foreach (AttentionUnit unit in schedule.Units)
            {
                Assert.Equal(next[unit.Block], unit.FirstChunk);
                next[unit.Block] = unit.EndChunk;
                Assert.True(unit.Slot < room);
                int merges = 0;
                foreach (AttentionUnit merge in schedule.Merges)
                    if (merge.Block == unit.Block && merge.FirstChunk <= unit.FirstChunk && unit.EndChunk <= merge.EndChunk) merges++;
                Assert.Equal(unit.Slot >= 0 ? 1 : 0, merges);
            }
        }
        for (int b = 0; b < schedule.Blocks.Length; b++) Assert.Equal(schedule.Blocks[b].EndChunk, next[b]);
        Assert.Equal(43, schedule.Blocks.ToArray().Sum(b => b.RowCount));
        if (window == 0) Assert.True(rounds > 1);
    }

    [Fact]
    public void Attention_allocates_nothing()
    {
        Case c = new(8, 1, 64, 0, KvCacheType.F16, 900);
        Assert.Equal(0, c.BytesAllocated(threads: 2));
    }

    /// <summary>Random rows (q | k | v) of one layer.</summary>
    private sealed class Case(int heads, int kvHeads, int dim, int window, KvCacheType type, int length)
    {
        private readonly AttentionPlan _shape = new(heads, kvHeads, dim, window, 0, 0, 0, OwnsKv: true, ValueIsKey: false, KeyDim: dim);
        private readonly float[][] _rows = Random(length, (heads + 2 * kvHeads) * dim);

        public int Length => length;

        /// <summary>Outputs of the rows from <paramref name="attendFrom"/> on; those before are stored only.</summary>
        public float[][] Run(int[] chunks, int threads, int attendFrom = 0)
        {
            Assert.Equal(length, chunks.Sum());
            List<float[]> result = [];
            Each(chunks, threads, (device, chunk, done, qkv, cache, output) =>
            {
                if (done < attendFrom) return;
                device.Attend(_shape, qkv, cache, output);
                for (int i = 0; i < chunk; i++) result.Add(output.RowSpan(i).ToArray());
            });
            return [.. result];
        }

        public long BytesAllocated(int threads)
        {
            long bytes = 0;
            Each([length - 1, 1], threads, (device, _, _, qkv, cache, output) =>
            {
                for (int i = 0; i < 100; i++)
                {
                    long before = GC.GetAllocatedBytesForCurrentThread();
                    device.Attend(_shape, qkv, cache, output);
                    if (i >= 50) bytes += GC.GetAllocatedBytesForCurrentThread() - before;
                }
            });
            return bytes;
        }

        public void AssertRow(int position, float[] actual, double tolerance)
        {
            int first = window == 0 ? 0 : Math.Max(0, position - window + 1);
            for (int head = 0; head < heads; head++)
            {
                int kvHead = head / (heads / kvHeads);
                double[] q = Normed(position, head);
                double[] scores = [.. Enumerable.Range(first, position - first + 1).Select(j => Dot(Normed(j, heads + kvHead), q))];
                double max = scores.Max(), sum = scores.Sum(s => Math.Exp(s - max));
                double[] expected = new double[dim];
                for (int j = 0; j < scores.Length; j++)
                {
                    double[] v = Normed(first + j, heads + kvHeads + kvHead);
                    for (int i = 0; i < dim; i++) expected[i] += Math.Exp(scores[j] - max) / sum * v[i];
                }
                for (int i = 0; i < dim; i++)
                    Assert.True(Math.Abs(expected[i] - actual[head * dim + i]) <= tolerance, $"position {position}, head {head}, element {i}: {expected[i]} or {actual[head * dim + i]}");
            }
        }

        private void Each(int[] chunks, int threads, Action<CpuDevice, int, int, CpuTensor, DeviceKvCache, CpuTensor> step)
        {
            int pages = (length + TokensPerPage - 1) / TokensPerPage;
            long bytes = KvLayout.BytesPerToken(type, kvHeads, dim, dim);
            KvCachePlan plan = new([new KvGroup([0], window, TokensPerPage, bytes)], (bytes * TokensPerPage + 63) / 64 * 64, pages, type);
            using CpuDevice device = new(threads, ActivationType.F32);
            device.AddRope(new float[dim / 2]); // no rotation: it has its own test
            using DeviceKvCache cache = device.CreateKvCache(plan, _ => _shape);
            device.Reserve(length, 1, 16);
            float[] ones = [.. Enumerable.Repeat(1f, dim)];
            fixed (float* w = ones)
            {
                using DeviceVector norm = device.LoadVector(new TensorSource("ones", TensorType.F32, 1, dim, (nint)w, dim * sizeof(float)));
                using CpuTensor qkv = (CpuTensor)device.CreateTensor(length, _shape.QkvWidth), output = (CpuTensor)device.CreateTensor(length, _shape.QueryWidth);
                BlockTable table = new(1);
                // Scattered: 29 divides no number of pages here.
                for (int i = 0; i < pages; i++) table.Add(0, (int)((i * 29L + 5) % pages));
                StepBatch batch = new(length, 1);
                int done = 0;
                foreach (int chunk in chunks)
                {
                    batch.Clear();
                    batch.Add(new SequenceSlice { ContextLength = done, Blocks = table, PromptLogprobs = -1 }, new int[chunk]);
                    device.BeginStep(batch);
                    for (int i = 0; i < chunk; i++) _rows[done + i].CopyTo(qkv.RowSpan(i));
                    device.NormRopeStore(_shape, norm, norm, qkv, cache);
                    step(device, chunk, done, qkv, cache, output);
                    done += chunk;
                }
            }
        }

        private double[] Normed(int position, int head)
        {
            ReadOnlySpan<float> x = _rows[position].AsSpan(head * dim, dim);
            double square = 0;
            foreach (float v in x) square += (double)v * v;
            double inverse = 1 / Math.Sqrt(square / dim + 1e-6);
            double[] y = new double[dim];
            for (int i = 0; i < dim; i++) y[i] = x[i] * inverse;
            return y;
        }

        private static double Dot(double[] x, double[] y)
        {
            double sum = 0;
            for (int i = 0; i < x.Length; i++) sum += x[i] * y[i];
            return sum;
        }

        private static float[][] Random(int rows, int columns)
        {
            Random random = new(7);
            return [.. Enumerable.Range(0, rows).Select(_ => Enumerable.Range(0, columns).Select(_ => (float)(random.NextDouble() * 2 - 1)).ToArray())];
        }
    }
}
