namespace GemmaServer.Compute;

/// <summary>
/// A drafter's clustered head, spec §4.4: a row is held against every centroid, and only the tokens of the best clusters get
/// logits; the others get −∞. On E2B that reads 4,096 of the table's 262,144 rows.
/// </summary>
internal sealed class CpuCentroids : DeviceCentroids
{
    private readonly CpuWeights _vectors;
    private readonly int[] _ordering;
    private readonly CpuTensor _scores;
    private readonly int[] _best;            // [rows, used]
    private readonly CandidateHeap[] _heaps; // by worker
    private readonly float[][] _decoded;     // by worker, a row of the table

    /// <param name="vectors"><c>[clusters, hidden]</c>.</param>
    /// <param name="ordering">Token ids, cluster by cluster.</param>
    /// <param name="used">Clusters that get logits.</param>
    /// <param name="rows">Rows at a time.</param>
    /// <param name="threads">Workers.</param>
    public CpuCentroids(CpuWeights vectors, int[] ordering, int used, int rows, int threads) : base(vectors.Rows, used)
    {
        (_vectors, _ordering) = (vectors, ordering);
        _scores = new CpuTensor(rows, vectors.Rows);
        _best = new int[rows * used];
        _heaps = [.. Enumerable.Range(0, threads).Select(_ => new CandidateHeap())];
        _decoded = [.. Enumerable.Range(0, threads).Select(_ => new float[vectors.Columns])];
    }

    /// <summary>Logits of the best clusters' tokens.</summary>
    public void Multiply(WorkerPool workers, CpuMatMul matMul, InputRows x, CpuWeights head, CpuTensor logits)
    {
        matMul.Multiply(x, _vectors, 0, Count, _scores.All, Count);
        SelectJob select = new(this, logits);
        workers.Run(ref select, x.Count);
        unsafe
        {
            fixed (float* rows = x.Data)
            {
                ClusterJob clusters = new(this, new RowPointers(rows, x.Stride, null), head, logits);
                workers.Run(ref clusters, x.Count * Used);
            }
        }
    }

    public override void Dispose() => _scores.Dispose();

    private readonly struct SelectJob(CpuCentroids c, CpuTensor logits) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            logits.RowSpan(item).Fill(float.NegativeInfinity);
            CandidateHeap heap = c._heaps[worker];
            heap.Select(c._scores.RowSpan(item), c.Used);
            // Fewer than used only where scores are no numbers; cluster 0 then comes more than once, which does no harm.
            for (int i = 0; i < c.Used; i++) c._best[item * c.Used + i] = i < heap.Items.Length ? heap.Items[i].Token : 0;
        }
    }

    /// <summary>One cluster of one row an item.</summary>
    private readonly unsafe struct ClusterJob(CpuCentroids c, RowPointers x, CpuWeights head, CpuTensor logits) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            int row = item / c.Used, size = c._ordering.Length / c.Count;
            float[] decoded = c._decoded[worker];
            ReadOnlySpan<float> input = new(x[row], decoded.Length);
            Span<float> y = logits.RowSpan(row);
            foreach (int token in c._ordering.AsSpan(c._best[item] * size, size))
            {
                head.DecodeRow(token, decoded);
                y[token] = RowMath.Dot(input, decoded);
            }
        }
    }
}
