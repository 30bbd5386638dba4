using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>
/// Attention on tensor cores against double precision, over queries that its rounding leaves as they are, so that only its weights
/// are rounded: a key too many or too few, or another head's, is far outside of what that may cost.
/// </summary>
[Trait("Category", "Gpu")]
public sealed unsafe class CudaAttentionTests
{
    private const int TokensPerPage = 16, H100 = 232448, A100 = 166912, Ada = 101376;

    /// <summary>
    /// Positions that are in the cache, and rows: blocks that are not whole, begin within tiles, and rows too few for a block. The second
    /// begins one key before a tile ends, which all its rows but the first see whole.
    /// </summary>
    private static readonly (int Context, int Rows)[] s_batch = [(0, 37), (62, 9), (5, 3), (129, 20)];

    [CudaTheory]
    [InlineData(KvCacheType.F16, 4, 2, 256, 256, 0, false, H100)]    // sliding layers of 12B, 26B, 31B …
    [InlineData(KvCacheType.F16, 4, 2, 256, 256, 84, false, H100)]   // … with a window of which the last row of 149 misses one key of a tile
    [InlineData(KvCacheType.F16, 4, 2, 256, 256, 40, false, A100)]
    [InlineData(KvCacheType.F16, 16, 1, 512, 128, 0, false, H100)]   // their global layers: values are keys
    [InlineData(KvCacheType.BF16, 8, 2, 512, 512, 0, false, A100)]   // E4B's
    [InlineData(KvCacheType.BF16, 8, 1, 512, 128, 50, false, Ada)]
    [InlineData(KvCacheType.F16, 2, 1, 512, 512, 0, true, Ada)]
    [InlineData(KvCacheType.BF16, 4, 1, 256, 64, 100, true, H100)]
    [InlineData(KvCacheType.F16, 6, 2, 80, 80, 33, false, H100)]     // no powers of two: 63 of 64 queries
    [InlineData(KvCacheType.BF16, 40, 1, 32, 0, 17, false, H100)]    // one row to a block; keys that do not rotate
    [InlineData(KvCacheType.F16, 2, 2, 128, 128, 1, true, H100)]     // sees nothing
    public void Rows_see_their_keys_and_no_others(KvCacheType type, int heads, int kvHeads, int dim, int keyDim, int window, bool pastOnly, int sharedBytes)
    {
        using Bench bench = new(new AttentionPlan(heads, kvHeads, dim, window, 0, 0, 0, OwnsKv: true, ValueIsKey: keyDim < dim, keyDim, pastOnly), type);
        float[] q = bench.Queries(s_batch, 7), y = bench.Attend(ActivationType.BF16, s_batch, q, sharedBytes);
        bench.AssertNear(q, y, s_batch, type == KvCacheType.F16 ? 5e-4 : 4e-3);
        if (window == 1) Assert.All(y, static v => Assert.Equal(0, v));
    }

    /// <summary>What is exact stays so, and what may round does: otherwise the tests above would test another kernel.</summary>
    [CudaFact]
    public void Only_bf16_activations_round()
    {
        AttentionPlan plan = new(4, 2, 64, 0, 0, 0, 0, OwnsKv: true, ValueIsKey: false, 64);
        using Bench bench = new(plan, KvCacheType.F16);
        float[] q = GpuBench.Random(s_batch.Sum(static s => s.Rows) * plan.QkvWidth, 3);
        float[] rounded = bench.Attend(ActivationType.BF16, s_batch, q), exact = bench.Attend(ActivationType.F32, s_batch, q);
        Assert.NotEqual(exact, rounded);
        bench.AssertNear(q, exact, s_batch, 2e-6);
        Assert.Equal(exact, bench.Attend(ActivationType.Int8, s_batch, q));
        bench.AssertNear(q, bench.Attend(ActivationType.BF16, s_batch, q, batchInvariant: true), s_batch, 2e-6);

        // Pages whose rows are not copied as they are, and cards without these tensor cores.
        GpuInfo info = new(GpuApi.Cuda, 0, "", "", 0, 0, H100, 1, 1024, 90);
        GpuOptions options = new(ActivationType.BF16);
        Assert.NotNull(AttentionTile.For(info, options, plan, bench.Cache, 0));
        Assert.Null(AttentionTile.For(info with { Architecture = 75 }, options, plan, bench.Cache, 0));
        Assert.Null(AttentionTile.For(info with { Api = GpuApi.OpenCl }, options, plan, bench.Cache, 0));
        Assert.Null(AttentionTile.For(info, options, plan, bench.Cache with { Type = KvCacheType.F32 }, 0));
        Assert.Null(AttentionTile.For(info, options, plan, bench.Cache with { Type = KvCacheType.Q8_0 }, 0));
        Assert.Null(AttentionTile.For(info, options, plan, bench.Cache, 8));
        Assert.Null(AttentionTile.For(info, options, plan with { KeyDim = 12 }, bench.Cache, 0));
        Assert.Null(AttentionTile.For(info with { LocalBytes = 49152 }, options, plan with { HeadDim = 512, KeyDim = 512 }, bench.Cache, 0));
    }

    [CudaTheory]
    [InlineData(0)]
    [InlineData(40)]
    public void A_row_does_not_depend_on_how_its_prompt_is_cut(int window)
    {
        AttentionPlan plan = new(4, 1, 64, window, 0, 0, 0, OwnsKv: true, ValueIsKey: true, 16);
        using Bench bench = new(plan, KvCacheType.F16);
        float[] q = GpuBench.Random(150 * plan.QkvWidth, 3), whole = bench.Attend(ActivationType.BF16, [(0, 150)], q);
        int first = 0;
        foreach (int rows in (int[])[9, 63, 31, 47])
        {
            float[] part = bench.Attend(ActivationType.BF16, [(first, rows)], q[(first * plan.QkvWidth)..((first + rows) * plan.QkvWidth)]);
            Assert.Equal(whole[(first * plan.QueryWidth)..((first + rows) * plan.QueryWidth)], part);
            first += rows;
        }
    }

    /// <summary>One layer whose pages are filled here: each sequence has its own, in no order, and what no row sees is no number.</summary>
    private sealed class Bench : IDisposable
    {
        private const int Sequences = 4, Positions = 160, MaxRows = 160;

        private readonly AttentionPlan _plan;
        private readonly int _rowElements, _valueAt;
        private readonly float[][] _stored;
        private readonly int[] _pages;
        private readonly KvCacheType _type;

        public Bench(AttentionPlan plan, KvCacheType type)
        {
            (_plan, _type) = (plan, type);
            bool isCompact = plan.IsCompact;
            (_rowElements, _valueAt) = isCompact ? (plan.HeadDim + plan.KeyDim, plan.KeyDim) : (2 * plan.HeadDim, plan.HeadDim);
            // A score's spread is some units, whatever the head's size.
            _stored = [.. Enumerable.Range(0, Sequences * plan.KvHeadCount * Positions).Select(i => Rounded(GpuBench.Random(_rowElements, 100 + i, 8 / MathF.Sqrt(plan.HeadDim))))];
            _pages = [.. Enumerable.Range(0, Sequences * Positions / TokensPerPage)];
            new Random(5).Shuffle(_pages);
            long bytes = KvLayout.BytesPerToken(type, plan.KvHeadCount, plan.HeadDim, plan.KeyDim);
            Cache = new KvCachePlan([new KvGroup([0], plan.Window, TokensPerPage, bytes)], bytes * TokensPerPage + 32, _pages.Length, type);
        }

        public KvCachePlan Cache { get; }

        /// <summary>Queries of few bits, whose rows are as wide as the model's.</summary>
        public float[] Queries((int Context, int Rows)[] batch, int seed) =>
            [.. GpuBench.Random(batch.Sum(static s => s.Rows) * _plan.QkvWidth, seed).Select(static v => MathF.Round(v * 16) / 16)];

        public float[] Attend(ActivationType activations, (int Context, int Rows)[] batch, float[] q, int sharedBytes = H100, bool batchInvariant = false)
        {
            int rows = batch.Sum(static s => s.Rows);
            using GpuBench bench = new(MaxRows, Sequences, CudaDriver.Open());
            bench.Step.UseCache(Cache);
            GpuOptions options = new(activations, batchInvariant);
            using GpuAttention attention = new(bench.Gpu, bench.Step, options, sharedBytes);
            using GpuKvCache cache = attention.CreateCache(Cache, _ => _plan);
            attention.Reserve(MaxRows, Sequences, []);
            ushort[] pool = Pool(batch);
            fixed (ushort* p = pool) bench.Gpu.Upload(cache.Pages, 0, p, pool.Length * sizeof(ushort));
            StepBatch step = new(MaxRows, Sequences);
            for (int s = 0; s < batch.Length; s++)
            {
                BlockTable table = new(1);
                for (int p = 0; p < Positions / TokensPerPage; p++) table.Add(0, Page(s, p));
                step.Add(new SequenceSlice { Slot = s, ContextLength = batch[s].Context, Blocks = table, PromptLogprobs = -1, NextPromptToken = -1 }, new int[batch[s].Rows]);
            }
            using GpuTensor qkv = bench.Tensor(rows, _plan.QkvWidth, q), heads = bench.Tensor(rows + 1, _plan.QueryWidth, new float[(rows + 1) * _plan.QueryWidth]);
            bench.Step.Begin(step);
            attention.Begin();
            attention.Attend(_plan, qkv, cache, heads);
            float[] y = GpuBench.Rows(heads, rows + 1);
            Assert.All(y[(rows * _plan.QueryWidth)..], static v => Assert.Equal(0, v));
            return y[..(rows * _plan.QueryWidth)];
        }

        /// <summary>Within so much of what the weighted values' sizes sum up to.</summary>
        public void AssertNear(float[] q, float[] y, (int Context, int Rows)[] batch, double relative)
        {
            int row = 0;
            double[] sum = new double[_plan.HeadDim], size = new double[_plan.HeadDim];
            float[] expected = new float[_plan.HeadDim], bound = new float[_plan.HeadDim];
            for (int s = 0; s < batch.Length; s++)
            {
                for (int r = 0; r < batch[s].Rows; r++, row++)
                {
                    for (int head = 0; head < _plan.HeadCount; head++)
                    {
                        Sum(q.AsSpan(row * _plan.QkvWidth + head * _plan.HeadDim, _plan.HeadDim), s, head / (_plan.HeadCount / _plan.KvHeadCount), batch[s].Context + r, sum, size);
                        ToModel(sum, expected);
                        ToModel(size, bound);
                        for (int i = 0; i < _plan.HeadDim; i++)
                        {
                            float actual = y[row * _plan.QueryWidth + head * _plan.HeadDim + i];
                            Assert.True(Math.Abs(actual - expected[i]) <= relative * bound[i] + 1e-6, $"sequence {s}, row {r}, head {head}, [{i}]: {actual} instead of {expected[i]}, summands {bound[i]}");
                        }
                    }
                }
            }
        }

        public void Dispose()
        {
        }

        private void Sum(ReadOnlySpan<float> q, int sequence, int kvHead, int own, double[] sum, double[] size)
        {
            (int first, int end) = Seen(own);
            Array.Clear(sum);
            Array.Clear(size);
            double[] weights = new double[Math.Max(end - first, 0)];
            for (int key = first; key < end; key++)
                for (int i = 0; i < _plan.HeadDim; i++) weights[key - first] += (double)q[i] * Stored(sequence, kvHead, key)[i];
            double best = weights.DefaultIfEmpty(0).Max(), total = weights.Sum(w => Math.Exp(w - best));
            for (int key = first; key < end; key++)
            {
                double weight = Math.Exp(weights[key - first] - best) / total;
                for (int i = 0; i < _plan.HeadDim; i++)
                {
                    double v = weight * Stored(sequence, kvHead, key)[_valueAt + i];
                    sum[i] += v;
                    size[i] += Math.Abs(v);
                }
            }
        }

        /// <summary>From the values' stored order to the model's.</summary>
        private void ToModel(double[] ordered, float[] y)
        {
            float[] values = [.. ordered.Select(static v => (float)v)];
            if (_plan.IsCompact) new CompactRow(_plan.HeadDim, _plan.KeyDim).RestoreOutput(values, y);
            else values.CopyTo(y, 0);
        }

        private (int First, int End) Seen(int own) => (_plan.Window > 0 ? Math.Max(own - _plan.Window + 1, 0) : 0, own + (_plan.PastOnly ? 0 : 1));

        private ushort[] Pool((int Context, int Rows)[] batch)
        {
            bool isCompact = _plan.IsCompact;
            int rowElements = isCompact ? _rowElements : _plan.HeadDim, valueOffset = isCompact ? 0 : _plan.KvHeadCount * TokensPerPage * rowElements;
            ushort[] pool = new ushort[Cache.PageBytes * Cache.PageCount / sizeof(ushort)];
            Array.Fill(pool, (ushort)0x7fff);
            for (int s = 0; s < batch.Length; s++)
            {
                int first = Seen(batch[s].Context).First, end = Seen(batch[s].Context + batch[s].Rows - 1).End;
                for (int key = first; key < end; key++)
                {
                    for (int head = 0; head < _plan.KvHeadCount; head++)
                    {
                        int at = (int)(Page(s, key / TokensPerPage) * Cache.PageBytes / sizeof(ushort)) + (head * TokensPerPage + key % TokensPerPage) * rowElements;
                        float[] row = Stored(s, head, key);
                        for (int i = 0; i < rowElements; i++) pool[at + i] = Bits(row[i]);
                        for (int i = 0; !isCompact && i < rowElements; i++) pool[at + valueOffset + i] = Bits(row[rowElements + i]);
                    }
                }
            }
            return pool;
        }

        private int Page(int sequence, int page) => _pages[sequence * (Positions / TokensPerPage) + page];

        private float[] Stored(int sequence, int kvHead, int key) => _stored[(sequence * _plan.KvHeadCount + kvHead) * Positions + key];

        private ushort Bits(float v) => _type == KvCacheType.F16 ? BitConverter.HalfToUInt16Bits((Half)v) : (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16);

        private float[] Rounded(float[] row)
        {
            for (int i = 0; i < row.Length; i++)
                row[i] = _type == KvCacheType.F16 ? (float)(Half)row[i] : BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(row[i]) & 0xffff0000u);
            return row;
        }
    }
}
