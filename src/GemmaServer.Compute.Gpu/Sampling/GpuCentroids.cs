namespace GemmaServer.Compute;

/// <summary>
/// A drafter's clustered head: a row is held against every centroid, and only the tokens of the best clusters keep their logits;
/// the others get −∞. Kernels: <c>centroids.cl</c>.
/// </summary>
/// <remarks>The whole table is multiplied first: a drafter's is small, and one dense product is what a GPU does best.</remarks>
internal sealed unsafe class GpuCentroids : DeviceCentroids
{
    private readonly GpuContext _gpu;
    private readonly GpuMatrix _vectors;
    private readonly GpuBuffer _clusterOf;
    private readonly GpuKernel _rank, _bar;
    private readonly int _vocabulary;
    private GpuTensor? _scores;
    private GpuBuffer _kept;

    /// <param name="gpu">Where they are.</param>
    /// <param name="vectors"><c>[clusters, hidden]</c>.</param>
    /// <param name="ordering">Token ids, cluster by cluster.</param>
    /// <param name="used">Clusters that get logits.</param>
    public GpuCentroids(GpuContext gpu, GpuMatrix vectors, ReadOnlySpan<int> ordering, int used) : base(vectors.Rows, used)
    {
        (_gpu, _vectors, _vocabulary) = (gpu, vectors, ordering.Length);
        int size = ordering.Length / Count;
        int[] clusterOf = new int[ordering.Length];
        for (int i = 0; i < ordering.Length; i++) clusterOf[ordering[i]] = i / size;
        _clusterOf = gpu.Allocate((long)clusterOf.Length * sizeof(int), "centroids");
        fixed (int* p = clusterOf) gpu.Upload(_clusterOf, 0, p, (long)clusterOf.Length * sizeof(int));
        KernelSource source = new("centroids.cl", ["sampling.h"], ("GROUP", GpuSampler.Group), ("CHUNK", GpuSampler.Chunk));
        (_rank, _bar) = (gpu.Kernel(source, "rank_clusters"), gpu.Kernel(source, "bar_tokens"));
    }

    /// <summary>Bars the tokens of the clusters that are not among the best of a portion's rows.</summary>
    /// <param name="matMul">For the scores.</param>
    /// <param name="outputs">The table of rows.</param>
    /// <param name="x">The portion's rows.</param>
    /// <param name="logits">Its logits.</param>
    /// <param name="start">Output row of the first.</param>
    /// <param name="rows">How many.</param>
    public void Bar(GpuMatMul matMul, GpuBuffer outputs, GpuTensor x, GpuTensor logits, int start, int rows)
    {
        if (_scores is null || _scores.Rows < x.Rows)
        {
            Free();
            _scores = new GpuTensor(_gpu, x.Rows, Count);
            _kept = _gpu.Allocate((long)x.Rows * Count * sizeof(int), "centroids");
        }
        matMul.MultiplyRows(x, _vectors, _scores, rows);
        _rank.Begin().Add(outputs).Add(_scores.Buffer).Add(_kept).Add(Count).Add(Used).Add(start)
            .Run(GpuSampler.Group, (Count + GpuSampler.Group - 1) / GpuSampler.Group, rows);
        _bar.Begin().Add(outputs).Add(_kept).Add(_clusterOf).Add(logits.Buffer)
            .Add(_vocabulary).Add(Count).Add(start).Run(GpuSampler.Group, (_vocabulary + GpuSampler.Chunk - 1) / GpuSampler.Chunk, rows);
    }

    public override void Dispose()
    {
        Free();
        _gpu.Free(_clusterOf);
        _vectors.Dispose();
    }

    private void Free()
    {
        if (_scores is null) return;
        _scores.Dispose();
        _gpu.Free(_kept);
        _scores = null;
    }
}
