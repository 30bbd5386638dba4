using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Products with weights of every form. Kernels: <see cref="MatMulKernels"/>.</summary>
internal sealed class IlgpuMatMul : IDisposable
{
    private readonly IlgpuRuntime _runtime;
    private readonly bool _oneKernel;
    private readonly IlgpuRounding _rounding;
    private readonly FormatKernels?[] _kernels = new FormatKernels?[Enum.GetValues<WeightFormat>().Length];
    private readonly MemoryBuffer1D<int, Stride1D.Dense> _none;

    /// <param name="runtime">Where.</param>
    /// <param name="activations">What input rows are rounded to.</param>
    /// <param name="batchInvariant">One kernel for any number of rows.</param>
    public IlgpuMatMul(IlgpuRuntime runtime, ActivationType activations, bool batchInvariant)
    {
        (_runtime, _oneKernel) = (runtime, batchInvariant);
        _rounding = new IlgpuRounding(runtime, activations);
        _none = runtime.Allocate<int>(1);
    }

    /// <summary>Rows to a tile when so many rows are multiplied: tables of tiles are made for it.</summary>
    public int TileRows(int rows) => rows == 1 && !_oneKernel ? 1 : MatMulKernels.TileRows;

    /// <summary>y[:, offset …] = W·x for the first rows of x.</summary>
    public void Multiply(int rows, IlgpuTensor x, IlgpuMatrix w, IlgpuTensor y)
    {
        IlgpuTensor? rounded = null;
        foreach (WeightPart part in w.Parts)
        {
            MatMulShape shape = new(part.Blocks, part.Rows, FirstRow: 0, ExpertRows: 0, rows, x.Stride, y.Stride, part.FirstRow, BySource: 0);
            int tileRows = TileRows(rows);
            Launch(part, shape, tileRows, (rows + tileRows - 1) / tileRows, _none.View, _none.View, _rounding.For(part, x, rows, tileRows > 1, ref rounded).View, y.View);
        }
    }

    /// <summary>Products of gathered rows with experts' weights, tile by tile.</summary>
    /// <param name="part">Experts stacked.</param>
    /// <param name="shape">With experts.</param>
    /// <param name="tileRows">What the table was made for.</param>
    /// <param name="mostTiles">At least as many as the table has.</param>
    /// <param name="tiles">See <see cref="ExpertKernels.Place"/>.</param>
    /// <param name="inputs">Row of x for each place.</param>
    /// <param name="x">Input.</param>
    /// <param name="rows">Rows of it.</param>
    /// <param name="y">Output.</param>
    public void MultiplyExperts(
        WeightPart part, MatMulShape shape, int tileRows, int mostTiles, ArrayView<int> tiles, ArrayView<int> inputs, IlgpuTensor x, int rows, ArrayView<float> y)
    {
        IlgpuTensor? rounded = null;
        Launch(part, shape, tileRows, mostTiles, tiles, inputs, _rounding.For(part, x, rows, tileRows > 1, ref rounded).View, y);
    }

    /// <summary>y[row, j] = W[picks[row, j]] · x[row].</summary>
    public void MultiplyPicked(int rows, int count, IlgpuTensor x, IlgpuMatrix w, ArrayView<int> picks, ArrayView<float> y)
    {
        WeightPart part = w.Whole;
        IlgpuTensor? rounded = null;
        ArrayView<float> input = _rounding.For(part, x, rows, isMany: false, ref rounded).View;
        Kernels(part.Format).Picked(_runtime.Flat((long)rows * count), part.Blocks, rows, count, x.Stride, part.Codes.View, part.Scales.View, part.Supers.View, picks, input, y);
    }

    /// <summary>y = table[token] · scale.</summary>
    public void Gather(IlgpuStep step, IlgpuMatrix table, float scale, IlgpuTensor y)
    {
        WeightPart part = table.Whole;
        Kernels(part.Format).Gather(
            _runtime.Flat(step.RowCount * part.Blocks * 4L), part.Blocks, step.RowCount, y.Stride, scale,
            part.Codes.View, part.Scales.View, part.Supers.View, step.Rows, y.View);
    }

    /// <summary>Compiles what these weights need, so that no step has to.</summary>
    public void Prepare(IlgpuMatrix matrix)
    {
        foreach (WeightPart part in matrix.Parts) Kernels(part.Format);
    }

    public void Dispose()
    {
        _none.Dispose();
        _rounding.Dispose();
    }

    private void Launch(
        WeightPart part, MatMulShape shape, int tileRows, int tiles, ArrayView<int> table, ArrayView<int> inputs, ArrayView<float> x, ArrayView<float> y)
    {
        LaunchShape launch = _runtime.Shape;
        int lanes = launch.PanelLanes, groups = (shape.Outputs + lanes - 1) / lanes;
        KernelConfig config = new(
            new Index3D(Math.Min(groups, launch.MostGroups), Math.Min(tiles, launch.MostGroups), 1), new Index3D(lanes, Slices(shape.Blocks, groups), 1));
        FormatKernels kernels = Kernels(part.Format);
        (tileRows == 1 ? kernels.One : kernels.Many)(config, shape, part.Codes.View, part.Scales.View, part.Supers.View, table, inputs, x, y);
    }

    /// <summary>
    /// Parts that columns are cut into: where there are few output rows, so that a GPU has enough lanes. By the weights' shape
    /// alone, never by the rows of x, so that the order of sums stays.
    /// </summary>
    private int Slices(int blocks, int groups)
    {
        int slices = 1;
        while (slices < _runtime.Shape.MostSlices && 2 * slices <= blocks && groups * slices < 4096) slices *= 2;
        return slices;
    }

    private FormatKernels Kernels(WeightFormat format) => _kernels[(int)format] ??= format switch
    {
        WeightFormat.Float => Load<FloatFormat>(),
        WeightFormat.BFloat => Load<BFloatFormat>(),
        WeightFormat.Q8 => Load<Q8Format>(),
        WeightFormat.Q4 => Load<Q4Format>(),
        _ => Load<Q4KFormat>(),
    };

    private FormatKernels Load<TFormat>() where TFormat : struct, IWeightFormat
    {
        string of = typeof(TFormat).Name;
        return new FormatKernels(
            _runtime.Load($"the product of one row with {of}", static a => a.LoadStreamKernel<
                MatMulShape, ArrayView<uint>, ArrayView<ushort>, ArrayView<uint>, ArrayView<int>, ArrayView<int>, ArrayView<float>, ArrayView<float>>(MatMulKernels.One<TFormat>)),
            _runtime.Load($"the product of rows with {of}", static a => a.LoadStreamKernel<
                MatMulShape, ArrayView<uint>, ArrayView<ushort>, ArrayView<uint>, ArrayView<int>, ArrayView<int>, ArrayView<float>, ArrayView<float>>(MatMulKernels.Many<TFormat>)),
            _runtime.Load($"products with picked rows of {of}", static a => a.LoadStreamKernel<
                int, int, int, int, ArrayView<uint>, ArrayView<ushort>, ArrayView<uint>, ArrayView<int>, ArrayView<float>, ArrayView<float>>(MatMulKernels.Picked<TFormat>)),
            _runtime.Load($"the look-up of rows of {of}", static a => a.LoadStreamKernel<
                int, int, int, float, ArrayView<uint>, ArrayView<ushort>, ArrayView<uint>, ArrayView<int>, ArrayView<float>>(MatMulKernels.Gather<TFormat>)));
    }

    private sealed record FormatKernels(
        Action<KernelConfig, MatMulShape, ArrayView<uint>, ArrayView<ushort>, ArrayView<uint>, ArrayView<int>, ArrayView<int>, ArrayView<float>, ArrayView<float>> One,
        Action<KernelConfig, MatMulShape, ArrayView<uint>, ArrayView<ushort>, ArrayView<uint>, ArrayView<int>, ArrayView<int>, ArrayView<float>, ArrayView<float>> Many,
        Action<KernelConfig, int, int, int, int, ArrayView<uint>, ArrayView<ushort>, ArrayView<uint>, ArrayView<int>, ArrayView<float>, ArrayView<float>> Picked,
        Action<KernelConfig, int, int, int, float, ArrayView<uint>, ArrayView<ushort>, ArrayView<uint>, ArrayView<int>, ArrayView<float>> Gather);
}
