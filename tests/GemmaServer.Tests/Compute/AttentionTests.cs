using GemmaServer.Compute;

namespace GemmaServer.Tests.Compute;

/// <summary>Attention through the device contract against plain loops in doubles, over pages in scattered order.</summary>
[Trait("Category", "Kernels")]
public unsafe class AttentionTests
{
    private const int Heads = 4, KvHeads = 2, Dim = 32, TokensPerPage = 16, Length = 150;

    [Theory]
    [InlineData(0, KvCacheType.F32, 2e-5)]
    [InlineData(20, KvCacheType.F32, 2e-5)]
    [InlineData(33, KvCacheType.F32, 2e-5)]
    [InlineData(0, KvCacheType.F16, 5e-3)]
    [InlineData(33, KvCacheType.BF16, 4e-2)]
    [InlineData(33, KvCacheType.Q8_0, 0.15)]
    public void Every_row_equals_plain_loops(int window, KvCacheType type, double tolerance)
    {
        float[][] rows = RandomRows();
        float[][] actual = Run(rows, window, type, [Length], threads: 2);
        for (int position = 0; position < Length; position++)
            for (int head = 0; head < Heads; head++)
            {
                double[] expected = Reference(rows, position, head, window);
                for (int i = 0; i < Dim; i++) Assert.Equal(expected[i], actual[position][head * Dim + i], tolerance);
            }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(20)]
    public void Chunks_single_steps_and_thread_counts_change_no_bit(int window)
    {
        float[][] rows = RandomRows();
        float[][] whole = Run(rows, window, KvCacheType.F32, [Length], threads: 1);
        Assert.Equal(whole, Run(rows, window, KvCacheType.F32, [Length], threads: 3));
        Assert.Equal(whole, Run(rows, window, KvCacheType.F32, [1, 7, 64, 33, 45], threads: 2));
        Assert.Equal(whole, Run(rows, window, KvCacheType.F32, [.. Enumerable.Repeat(1, Length)], threads: 2));
    }

    private static float[][] RandomRows()
    {
        Random random = new(5);
        return [.. Enumerable.Range(0, Length).Select(_ => Enumerable.Range(0, (Heads + 2 * KvHeads) * Dim).Select(_ => (float)(random.NextDouble() * 2 - 1)).ToArray())];
    }

    private static float[][] Run(float[][] rows, int window, KvCacheType type, int[] chunks, int threads)
    {
        int pages = (Length + TokensPerPage - 1) / TokensPerPage;
        long bytes = KvLayout.BytesPerToken(type, KvHeads, Dim, Dim);
        KvCachePlan plan = new([new KvGroup([0], window, TokensPerPage, bytes)], (bytes * TokensPerPage + 63) / 64 * 64, pages, type);
        AttentionPlan shape = new(Heads, KvHeads, Dim, window, 0, 0, 0, OwnsKv: true, ValueIsKey: false, KeyDim: Dim);
        using CpuDevice device = new(threads, ActivationType.F32);
        device.AddRope(new float[Dim / 2]); // no rotation: it has its own test
        using DeviceKvCache cache = device.CreateKvCache(plan, _ => shape);
        device.Reserve(Length, 1, 16);
        float[] ones = [.. Enumerable.Repeat(1f, Dim)];
        fixed (float* w = ones)
        {
            using DeviceVector norm = device.LoadVector(new TensorSource("ones", TensorType.F32, 1, Dim, (nint)w, Dim * sizeof(float)));
            using CpuTensor qkv = (CpuTensor)device.CreateTensor(Length, shape.QkvWidth);
            using CpuTensor heads = (CpuTensor)device.CreateTensor(Length, shape.QueryWidth);
            BlockTable table = new(1);
            for (int i = 0; i < pages; i++) table.Add(0, (i * 7 + 3) % pages);
            StepBatch batch = new(Length, 1);
            List<float[]> result = [];
            int done = 0;
            foreach (int chunk in chunks)
            {
                batch.Clear();
                batch.Add(new SequenceSlice { ContextLength = done, Blocks = table, PromptLogprobs = -1 }, new int[chunk]);
                device.BeginStep(batch);
                for (int i = 0; i < chunk; i++) rows[done + i].CopyTo(qkv.RowSpan(i));
                device.NormRopeStore(shape, norm, norm, qkv, cache);
                device.Attend(shape, qkv, cache, heads);
                for (int i = 0; i < chunk; i++) result.Add(heads.RowSpan(i).ToArray());
                done += chunk;
            }
            return [.. result];
        }
    }

    private static double[] Reference(float[][] rows, int position, int head, int window)
    {
        int kvHead = head / (Heads / KvHeads), first = window == 0 ? 0 : Math.Max(0, position - window + 1);
        double[] q = Normed(rows[position], head * Dim);
        double[] scores = [.. Enumerable.Range(first, position - first + 1).Select(j => Normed(rows[j], (Heads + kvHead) * Dim).Zip(q, (a, b) => a * b).Sum())];
        double max = scores.Max(), sum = scores.Sum(s => Math.Exp(s - max));
        double[] output = new double[Dim];
        for (int j = 0; j < scores.Length; j++)
        {
            double[] v = Normed(rows[first + j], (Heads + KvHeads + kvHead) * Dim);
            for (int i = 0; i < Dim; i++) output[i] += Math.Exp(scores[j] - max) / sum * v[i];
        }
        return output;
    }

    private static double[] Normed(float[] row, int start)
    {
        double[] x = [.. row.AsSpan(start, Dim).ToArray().Select(v => (double)v)];
        double inverse = 1 / Math.Sqrt(x.Sum(v => v * v) / Dim + 1e-6);
        return [.. x.Select(v => v * inverse)];
    }
}
