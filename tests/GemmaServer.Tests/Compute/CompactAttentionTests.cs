using GemmaServer.Compute;

namespace GemmaServer.Tests.Compute;

/// <summary>
/// Layers whose values are their raw keys, through the device contract against plain loops in doubles that know nothing of a
/// compact cache: two layers that own their pages in one group, and a third that reads the first one's.
/// </summary>
[Trait("Category", "Kernels")]
public unsafe class CompactAttentionTests
{
    private const int Heads = 4, KvHeads = 2, Dim = 128, Half = Dim / 2, TokensPerPage = 16, Length = 90;
    private const int Layers = 3, Borrower = 2;

    [Theory]
    [InlineData(16, 0, KvCacheType.F32, 3e-5, 32)]
    [InlineData(16, 33, KvCacheType.F32, 3e-5, 32)]
    [InlineData(5, 0, KvCacheType.F32, 3e-5, 10)]
    [InlineData(0, 0, KvCacheType.F32, 3e-5, 0)]
    [InlineData(Half, 0, KvCacheType.F32, 3e-5, Dim)]
    [InlineData(16, 0, KvCacheType.F16, 6e-3, 32)]
    [InlineData(7, 0, KvCacheType.BF16, 5e-2, 14)]
    [InlineData(16, 0, KvCacheType.Q8_0, 0.15, 32)]
    [InlineData(8, 0, KvCacheType.Q8_0, 0.15, Dim)] // 16 elements are half a block: whole keys
    public void Every_row_equals_plain_loops(int pairs, int window, KvCacheType type, double tolerance, int keyDim)
    {
        Assert.Equal(keyDim, KvLayout.KeyDim(type, Dim, valueIsKey: true, pairs));
        Data data = new(pairs);
        float[][][] actual = Run(data, window, type, [Length], threads: 2);
        for (int layer = 0; layer < Layers; layer++)
            for (int position = 0; position < Length; position++)
                for (int head = 0; head < Heads; head++)
                {
                    double[] expected = data.Reference(layer, position, head, window);
                    for (int i = 0; i < Dim; i++)
                        Assert.True(Math.Abs(expected[i] - actual[layer][position][head * Dim + i]) <= tolerance,
                            $"layer {layer}, position {position}, head {head}, element {i}: {expected[i]} or {actual[layer][position][head * Dim + i]}");
                }
    }

    [Theory]
    [InlineData(KvCacheType.F32)]
    [InlineData(KvCacheType.Q8_0)]
    public void Chunks_single_steps_and_thread_counts_change_no_bit(KvCacheType type)
    {
        Data data = new(16);
        float[][][] whole = Run(data, 0, type, [Length], threads: 1);
        Assert.Equal(whole, Run(data, 0, type, [Length], threads: 3));
        Assert.Equal(whole, Run(data, 0, type, [1, 7, 33, 49], threads: 2));
        Assert.Equal(whole, Run(data, 0, type, [.. Enumerable.Repeat(1, Length)], threads: 2));
    }

    [Theory]
    [InlineData(KvCacheType.F32, 2560, 4096)]
    [InlineData(KvCacheType.F16, 1280, 2048)]
    [InlineData(KvCacheType.BF16, 1280, 2048)]
    [InlineData(KvCacheType.Q8_0, 680, 1088)]
    public void A_published_head_takes_five_eighths(KvCacheType type, int compact, int whole)
    {
        Assert.Equal(compact, KvLayout.BytesPerToken(type, 1, 512, KvLayout.KeyDim(type, 512, valueIsKey: true, 64)));
        Assert.Equal(whole, KvLayout.BytesPerToken(type, 1, 512, KvLayout.KeyDim(type, 512, valueIsKey: false, 64)));
    }

    private static float[][][] Run(Data data, int window, KvCacheType type, int[] chunks, int threads)
    {
        int pages = (Length + TokensPerPage - 1) / TokensPerPage, keyDim = KvLayout.KeyDim(type, Dim, valueIsKey: true, data.Pairs);
        long bytes = 2 * KvLayout.BytesPerToken(type, KvHeads, Dim, keyDim);
        KvCachePlan plan = new([new KvGroup([0, 1], window, TokensPerPage, bytes)], (bytes * TokensPerPage + 63) / 64 * 64, pages, type);
        AttentionPlan[] shapes = [.. Enumerable.Range(0, Layers).Select(l => new AttentionPlan(
            Heads, KvHeads, Dim, window, 0, 0, KvIndex: l % 2, OwnsKv: l != Borrower, ValueIsKey: true, keyDim))];
        using CpuDevice device = new(threads, ActivationType.F32);
        device.AddRope(data.Frequencies);
        using DeviceKvCache cache = device.CreateKvCache(plan, layer => shapes[layer]);
        device.Reserve(Length, 1, 16);
        DeviceVector[] qNorms = [.. data.QueryNorms.Select(n => Vector(device, n))], kNorms = [.. data.KeyNorms.Select(n => Vector(device, n))];
        BlockTable table = new(1);
        for (int i = 0; i < pages; i++) table.Add(0, (i * 5 + 2) % pages);
        StepBatch batch = new(Length, 1);
        List<float[]>[] result = [[], [], []];
        int done = 0;
        foreach (int chunk in chunks)
        {
            batch.Clear();
            batch.Add(new SequenceSlice { ContextLength = done, Blocks = table, PromptLogprobs = -1 }, new int[chunk]);
            device.BeginStep(batch);
            CpuTensor[] qkv = [.. shapes.Select(s => (CpuTensor)device.CreateTensor(Length, s.QkvWidth))];
            // All layers store before any attends: what one writes must not reach into another's part of the page.
            for (int layer = 0; layer < Layers; layer++)
            {
                for (int i = 0; i < chunk; i++) data.Rows[layer][done + i].AsSpan(0, shapes[layer].QkvWidth).CopyTo(qkv[layer].RowSpan(i));
                device.NormRopeStore(shapes[layer], qNorms[layer], kNorms[layer % 2], qkv[layer], cache);
            }
            using CpuTensor heads = (CpuTensor)device.CreateTensor(Length, Heads * Dim);
            for (int layer = 0; layer < Layers; layer++)
            {
                device.Attend(shapes[layer], qkv[layer], cache, heads);
                for (int i = 0; i < chunk; i++) result[layer].Add(heads.RowSpan(i).ToArray());
                qkv[layer].Dispose();
            }
            done += chunk;
        }
        foreach (DeviceVector norm in (DeviceVector[])[.. qNorms, .. kNorms]) norm.Dispose();
        return [.. result.Select(r => r.ToArray())];
    }

    private static DeviceVector Vector(CpuDevice device, float[] values)
    {
        fixed (float* v = values) return device.LoadVector(new TensorSource("norm", TensorType.F32, 1, Dim, (nint)v, Dim * sizeof(float)));
    }

    /// <summary>Rows (q | k), norms with both signs, frequencies; and the specification's formulas.</summary>
    private sealed class Data
    {
        public Data(int pairs)
        {
            Random random = new(11);
            float[] Floats(int count, double low, double high) => [.. Enumerable.Range(0, count).Select(_ => (float)(low + random.NextDouble() * (high - low)))];
            Pairs = pairs;
            Frequencies = [.. Enumerable.Range(0, Half).Select(i => i < pairs ? (float)Math.Pow(1e4, -2.0 * i / Dim) : 0f)];
            Rows = [.. Enumerable.Range(0, Layers).Select(_ => Enumerable.Range(0, Length).Select(_ => Floats((Heads + KvHeads) * Dim, -1, 1)).ToArray())];
            QueryNorms = [.. Enumerable.Range(0, Layers).Select(_ => Floats(Dim, 0.2, 0.6))];
            KeyNorms = [.. Enumerable.Range(0, 2).Select(_ => Floats(Dim, -0.5, 0.8))];
        }

        public int Pairs { get; }

        public float[] Frequencies { get; }

        public float[][][] Rows { get; }

        public float[][] QueryNorms { get; }

        public float[][] KeyNorms { get; }

        public double[] Reference(int layer, int position, int head, int window)
        {
            int owner = layer == Borrower ? 0 : layer, kvHead = head / (Heads / KvHeads), first = window == 0 ? 0 : Math.Max(0, position - window + 1);
            double[] q = Rotated(Normed(Rows[layer][position], head * Dim, QueryNorms[layer]), position);
            double[] scores = [.. Enumerable.Range(first, position - first + 1).Select(j =>
                Rotated(Normed(Rows[owner][j], (Heads + kvHead) * Dim, KeyNorms[owner]), j).Zip(q, (a, b) => a * b).Sum())];
            double max = scores.Max(), sum = scores.Sum(s => Math.Exp(s - max));
            double[] output = new double[Dim];
            for (int j = 0; j < scores.Length; j++)
            {
                double[] v = Normed(Rows[owner][first + j], (Heads + kvHead) * Dim, null);
                for (int i = 0; i < Dim; i++) output[i] += Math.Exp(scores[j] - max) / sum * v[i];
            }
            return output;
        }

        private static double[] Normed(float[] row, int start, float[]? w)
        {
            double square = 0;
            for (int i = 0; i < Dim; i++) square += (double)row[start + i] * row[start + i];
            double inverse = 1 / Math.Sqrt(square / Dim + 1e-6);
            return [.. Enumerable.Range(0, Dim).Select(i => row[start + i] * inverse * (w is null ? 1 : w[i]))];
        }

        private double[] Rotated(double[] x, int position)
        {
            double[] y = new double[Dim];
            for (int i = 0; i < Half; i++)
            {
                (double sin, double cos) = Math.SinCos((double)(position * Frequencies[i]));
                y[i] = x[i] * cos - x[i + Half] * sin;
                y[i + Half] = x[i + Half] * cos + x[i] * sin;
            }
            return y;
        }
    }
}
