using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>What a product makes of its input rows first, see <see cref="ActivationType"/>. Kernels: <see cref="RoundingKernels"/>.</summary>
internal sealed class IlgpuRounding(IlgpuRuntime runtime, ActivationType activations) : IDisposable
{
    private readonly Dictionary<int, IlgpuTensor> _rounded = [];     // by stride
    private readonly Action<KernelConfig, int, ArrayView<float>, ArrayView<float>> _toBytes =
        runtime.Load("activations of bytes", static a => a.LoadStreamKernel<int, ArrayView<float>, ArrayView<float>>(RoundingKernels.ToBytes));

    private readonly Action<KernelConfig, int, ArrayView<float>, ArrayView<float>> _toBFloats =
        runtime.Load("activations of bfloat16", static a => a.LoadStreamKernel<int, ArrayView<float>, ArrayView<float>>(RoundingKernels.ToBFloats));

    /// <summary>The rows as a part is to be multiplied with them: bytes meet quantised weights, bfloat16 is for products of many rows.</summary>
    /// <param name="part">Weights.</param>
    /// <param name="x">Rows as they are.</param>
    /// <param name="rows">How many.</param>
    /// <param name="isMany">Whether the kernel for many rows runs.</param>
    /// <param name="rounded">Kept from one part to the next; null at first.</param>
    public IlgpuTensor For(WeightPart part, IlgpuTensor x, int rows, bool isMany, ref IlgpuTensor? rounded)
    {
        bool isWanted = activations switch { ActivationType.Int8 => part.IsQuantised, ActivationType.BF16 => isMany, _ => false };
        if (!isWanted) return x;
        return rounded ??= Round(x, rows);
    }

    public void Dispose()
    {
        foreach (IlgpuTensor tensor in _rounded.Values) tensor.Dispose();
    }

    private IlgpuTensor Round(IlgpuTensor x, int rows)
    {
        if (!_rounded.TryGetValue(x.Stride, out IlgpuTensor? to) || to.Rows < rows)
        {
            to?.Dispose();
            _rounded[x.Stride] = to = new IlgpuTensor(runtime, x.Rows, x.Stride);
        }
        int floats = rows * x.Stride;
        if (activations == ActivationType.Int8) _toBytes(runtime.Flat(floats / 32), floats / 32, x.View, to.View);
        else _toBFloats(runtime.Flat(floats / 4), floats / 4, x.View, to.View);
        return to;
    }
}
