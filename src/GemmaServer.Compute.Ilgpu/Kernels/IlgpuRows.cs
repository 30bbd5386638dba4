using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Norms, gates and copies of rows. Kernels: <see cref="RowKernels"/>.</summary>
internal sealed class IlgpuRows(IlgpuRuntime runtime, float epsilon) : IDisposable
{
    private readonly MemoryBuffer1D<int, Stride1D.Dense> _noMap = runtime.Allocate<int>(1);

    private readonly Action<KernelConfig, RowShape, int, int, int, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<float>> _rmsNorm =
        runtime.Load("the norm", static a => a.LoadStreamKernel<RowShape, int, int, int, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<float>>(RowKernels.RmsNorm));

    private readonly Action<KernelConfig, RowShape, int, float, int, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<float>> _addNorm =
        runtime.Load("the residual's norm", static a => a.LoadStreamKernel<
            RowShape, int, float, int, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<float>>(RowKernels.AddNorm));

    private readonly Action<KernelConfig, RowShape, int, int, float, float, ArrayView<float>, ArrayView<float>, ArrayView<float>> _perLayerInputs =
        runtime.Load("per-layer inputs", static a => a.LoadStreamKernel<RowShape, int, int, float, float, ArrayView<float>, ArrayView<float>, ArrayView<float>>(RowKernels.PerLayerInputs));

    private readonly Action<KernelConfig, int, int, int, int, int, int, ArrayView<float>, ArrayView<float>, ArrayView<float>> _gate =
        runtime.Load("the gate", static a => a.LoadStreamKernel<int, int, int, int, int, int, ArrayView<float>, ArrayView<float>, ArrayView<float>>(RowKernels.Gate));

    private readonly Action<KernelConfig, int, int, int, int, int, int, float, ArrayView<float>, ArrayView<float>> _copy =
        runtime.Load("the copy", static a => a.LoadStreamKernel<int, int, int, int, int, int, float, ArrayView<float>, ArrayView<float>>(RowKernels.Copy));

    private readonly Action<KernelConfig, int, int, int, float, ArrayView<float>> _softCap =
        runtime.Load("the soft-cap", static a => a.LoadStreamKernel<int, int, int, float, ArrayView<float>>(RowKernels.SoftCap));

    /// <summary>y = RMS(x; w), or y += where <paramref name="add"/>; a null weight is all ones.</summary>
    public void RmsNorm(int rows, IlgpuTensor x, IlgpuVector? w, IlgpuTensor y, bool add) =>
        _rmsNorm(runtime.Rows(rows), Shape(rows, x.Columns), x.Stride, y.Stride, (w is null ? 0 : 1) | (add ? 2 : 0), _noMap.View, x.View, (w?.Buffer ?? x.Buffer).View, y.View);

    /// <summary>y = RMS(x; w) of the rows that <paramref name="map"/> names.</summary>
    public void RmsNormOf(int rows, ArrayView<int> map, IlgpuTensor x, IlgpuVector w, IlgpuTensor y) =>
        _rmsNorm(runtime.Rows(rows), Shape(rows, x.Columns), x.Stride, y.Stride, 1 | 4, map, x.View, w.View, y.View);

    /// <summary>x = (x + RMS(delta; post)) · scale; normed = RMS(x; next).</summary>
    public void AddNorm(int rows, IlgpuTensor x, IlgpuTensor delta, IlgpuVector post, float scale, IlgpuVector? next, IlgpuTensor normed) => _addNorm(
        runtime.Rows(rows), Shape(rows, x.Columns), x.Stride, scale, next is null ? 0 : 1, x.View, delta.View, post.View, (next ?? post).View, normed.View);

    /// <summary>See <see cref="IComputeDevice.PerLayerInputs"/>.</summary>
    public void PerLayerInputs(int rows, IlgpuTensor ple, float contextScale, IlgpuVector norm, IlgpuTensor token, float tableScale)
    {
        int layers = ple.Columns / norm.Length;
        _perLayerInputs(runtime.Rows(rows * layers), Shape(rows * layers, norm.Length), layers, ple.Stride, contextScale, tableScale, ple.View, token.View, norm.View);
    }

    /// <summary>y = gelu_tanh(gate) ⊙ up[:, offset …].</summary>
    public void Gate(int rows, int columns, IlgpuTensor gate, IlgpuTensor up, int offset, IlgpuTensor y) =>
        _gate(runtime.Flat((long)rows * columns), rows, columns, gate.Stride, up.Stride, offset, y.Stride, gate.View, up.View, y.View);

    /// <summary>y[:, offset …] = x[first …] · scale.</summary>
    public void Copy(int rows, IlgpuTensor x, int first, float scale, IlgpuTensor y, int offset) =>
        _copy(runtime.Flat((long)rows * x.Columns), rows, x.Columns, x.Stride, first * x.Stride, y.Stride, offset, scale, x.View, y.View);

    /// <summary>x = cap · tanh(x / cap).</summary>
    public void SoftCap(int rows, IlgpuTensor x, float cap) => _softCap(runtime.Flat((long)rows * x.Columns), rows, x.Columns, x.Stride, cap, x.View);

    public void Dispose() => _noMap.Dispose();

    private RowShape Shape(int rows, int columns) => new(rows, columns, runtime.Shape.RowLanes, epsilon);
}
