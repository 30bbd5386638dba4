using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>A drafter's clustered head, spec §4.4. Kernels: <see cref="CentroidKernels"/>.</summary>
internal sealed class IlgpuCentroids : DeviceCentroids
{
    private readonly IlgpuRuntime _runtime;
    private readonly IlgpuMatMul _matMul;
    private readonly IlgpuMatrix _vectors;
    private readonly int _size;
    private readonly IlgpuTensor _scores;
    private readonly MemoryBuffer1D<int, Stride1D.Dense> _ordering, _picks;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _picked;
    private readonly Action<KernelConfig, int, int, int, int, int, ArrayView<float>, ArrayView<int>, ArrayView<int>> _rank;
    private readonly Action<KernelConfig, int, int, int, ArrayView<float>> _bar;
    private readonly Action<KernelConfig, int, int, int, ArrayView<int>, ArrayView<float>, ArrayView<float>> _spread;

    public IlgpuCentroids(IlgpuRuntime runtime, IlgpuMatMul matMul, IlgpuMatrix vectors, int[] ordering, int used) : base(vectors.Rows, used)
    {
        (_runtime, _matMul, _vectors, _size) = (runtime, matMul, vectors, ordering.Length / vectors.Rows);
        _rank = runtime.Load("the choice of clusters", static a => a.LoadStreamKernel<
            int, int, int, int, int, ArrayView<float>, ArrayView<int>, ArrayView<int>>(CentroidKernels.Rank));
        _bar = runtime.Load("barred logits", static a => a.LoadStreamKernel<int, int, int, ArrayView<float>>(CentroidKernels.Bar));
        _spread = runtime.Load("logits of clusters", static a => a.LoadStreamKernel<int, int, int, ArrayView<int>, ArrayView<float>, ArrayView<float>>(CentroidKernels.Spread));
        _scores = new IlgpuTensor(runtime, CpuDevice.LogitRows, vectors.Rows);
        _ordering = runtime.Allocate<int>(ordering.Length);
        _ordering.View.AsContiguous().Send(ordering);
        _picks = runtime.Allocate<int>(CpuDevice.LogitRows * used * _size);
        _picked = runtime.Allocate<float>(CpuDevice.LogitRows * used * _size);
    }

    /// <summary>Logits of the best clusters' tokens, −∞ for the others.</summary>
    public void Multiply(int rows, IlgpuTensor x, IlgpuMatrix head, IlgpuTensor logits)
    {
        int picks = Used * _size;
        _matMul.Multiply(rows, x, _vectors, _scores);
        _rank(_runtime.Flat((long)rows * Count), rows, Count, Used, _size, _scores.Stride, _scores.View, _ordering.View, _picks.View);
        _matMul.MultiplyPicked(rows, picks, x, head, _picks.View, _picked.View);
        _bar(_runtime.Flat((long)rows * logits.Columns), rows, logits.Columns, logits.Stride, logits.View);
        _spread(_runtime.Flat((long)rows * picks), rows, picks, logits.Stride, _picks.View, _picked.View, logits.View);
    }

    public override void Dispose()
    {
        foreach (IDisposable d in (IDisposable[])[_vectors, _scores, _ordering, _picks, _picked]) d.Dispose();
    }
}
