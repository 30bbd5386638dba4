namespace GemmaServer.Compute;

/// <summary>
/// Products <c>y = W·x</c>: <c>gemv.cl</c> for up to 8 rows, <c>gemm.cl</c> above, or always where results may not depend on the
/// number of rows. Parts of a matrix write side by side; each is a launch of its own, in a program for its type. What CUDA does its
/// own way is chosen in <see cref="WayOf"/>.
/// </summary>
internal sealed class GpuMatMul(GpuContext gpu, GpuStep step, GpuOptions options) : IDisposable
{
    private const int MostGemvRows = 8, GemvGroup = 128, GemmGroup = 256, GemmTile = 64;

    /// <summary>What becomes of a product.</summary>
    private enum Ending
    {
        /// <summary>y = W·x.</summary>
        Plain,

        /// <summary>y = gelu(W·x) · (U·x), both in one pass.</summary>
        Gated,

        /// <summary>y = gelu(y) · (W·x): the gate was there before.</summary>
        MeetsGate,
    }

    /// <summary>The kernel that a product of so many rows takes.</summary>
    private enum Way
    {
        /// <summary><c>gemv.cl</c>.</summary>
        Few,

        /// <summary><c>gemm.cl</c>.</summary>
        Many,

        /// <summary><c>gemv_cuda.cu</c>: exact too.</summary>
        FewCuda,

        /// <summary><c>gemm_cuda.cu</c>: x rounded to bf16, tensor cores.</summary>
        Tensor,

        /// <summary><c>gemm_bytes_cuda.cu</c>: x in bytes, tensor cores.</summary>
        TensorBytes,
    }

    private readonly record struct Program(
        TensorType Type, Way Way, int Rows, Ending Ending, bool IsInt8, bool IsOdd = false, GpuTile? Tile = null, GpuGemvShape Shape = default);

    private readonly Dictionary<Program, GpuKernel> _kernels = [];
    private readonly GpuQuantisedRows _quantised = new(gpu);
    private readonly GpuRoundedRows _rounded = new(gpu);
    private int _maxRows;

    /// <summary>Makes room for steps of so many rows.</summary>
    /// <param name="maxRows">Rows of a step.</param>
    /// <param name="mostColumns">Of any matrix; one that is wider makes room when it is first used.</param>
    public void Reserve(int maxRows, int mostColumns = 0)
    {
        _maxRows = maxRows;
        if (mostColumns == 0) return;
        if (options.Activations == ActivationType.Int8) _quantised.Reserve(maxRows, mostColumns);
        if (HasTensorCores && options.Activations == ActivationType.BF16) _rounded.Reserve(maxRows, mostColumns);
    }

    /// <summary>y = W·x for the step's rows.</summary>
    public void Multiply(GpuTensor x, GpuMatrix w, GpuTensor y) => Multiply(x, w, y, step.Grid, 0);

    /// <summary>y = W·x for the first <paramref name="rows"/> rows, whatever the step's are: the head's.</summary>
    public void MultiplyRows(GpuTensor x, GpuMatrix w, GpuTensor y, int rows) => Multiply(x, w, y, rows, rows);

    /// <summary>y = gelu_tanh(Gate·x) ⊙ (Up·x).</summary>
    public void MultiplyGated(GpuTensor x, GpuMatrix gateUp, GpuTensor y)
    {
        Quantise(x, gateUp, step.Grid, 0);
        int half = gateUp.Rows / 2, gate = 0, up = 0;
        for (int n = 0; n < half;)
        {
            while (gateUp.Parts[gate].End <= n) gate++;
            while (gateUp.Parts[up].End <= half + n) up++;
            GpuPart g = gateUp.Parts[gate], u = gateUp.Parts[up];
            int count = Math.Min(Math.Min(g.End, half) - n, u.End - half - n);
            // Two types have no program in common, and for many rows the second reading of y is nothing.
            if (g.Format == u.Format && WayOf(g.Format, x.Columns, step.Grid) != Way.Many) Run(x, g, n - g.FirstRow, u, half + n - u.FirstRow, count, y, n, step.Grid, 0, Ending.Gated);
            else
            {
                Run(x, g, n - g.FirstRow, null, 0, count, y, n, step.Grid, 0, Ending.Plain);
                Run(x, u, half + n - u.FirstRow, null, 0, count, y, n, step.Grid, 0, Ending.MeetsGate);
            }
            n += count;
        }
    }

    public void Dispose()
    {
        _quantised.Dispose();
        _rounded.Dispose();
    }

    private bool HasTensorCores { get; } = GpuTile.IsFor(gpu.Info);

    /// <summary>The one place where kernels are chosen.</summary>
    private Way WayOf(WeightFormat format, int columns, int rows)
    {
        bool isBf16 = HasTensorCores && options.Activations == ActivationType.BF16;
        int mostFew = options.BatchInvariant ? 0 : isBf16 ? GpuGemvShape.MostRows(format) : MostGemvRows;
        if (rows > mostFew) return isBf16 ? Way.Tensor : HasTensorCores && IsInt8(format) ? Way.TensorBytes : Way.Many;
        return HasTensorCores && !IsInt8(format) && format.CodeBits <= 16 && columns % 4 == 0 ? Way.FewCuda : Way.Few;
    }

    private bool IsInt8(WeightFormat format) => options.Activations == ActivationType.Int8 && format.IsQuantised;

    private void Multiply(GpuTensor x, GpuMatrix w, GpuTensor y, int grid, int givenRows)
    {
        Quantise(x, w, grid, givenRows);
        foreach (GpuPart part in w.Parts) Run(x, part, 0, null, 0, part.Rows, y, part.FirstRow, grid, givenRows, Ending.Plain);
    }

    private void Quantise(GpuTensor x, GpuMatrix w, int grid, int givenRows)
    {
        if (x.Columns != w.Columns) throw new ArgumentException($"Rows of {x.Columns} do not meet a matrix of {w.Columns} columns.", nameof(x));
        if (options.Activations == ActivationType.Int8 && w.HasQuantisedPart) _quantised.Quantise(step.Header, x, grid, givenRows);
        foreach (GpuPart part in w.Parts)
        {
            if (WayOf(part.Format, x.Columns, grid) != Way.Tensor) continue;
            _rounded.Reserve(Math.Max(grid, _maxRows), x.Columns);
            _rounded.Round(step.Header, x.Buffer, x.Columns, grid, givenRows);
            return;
        }
    }

    private void Run(
        GpuTensor x, GpuPart w, int wRow, GpuPart? up, int upRow, int count, GpuTensor y, int at, int grid, int givenRows, Ending ending)
    {
        Way way = WayOf(w.Format, x.Columns, grid);
        bool isInt8 = IsInt8(w.Format), isGated = ending == Ending.Gated, isOdd = x.Columns % WeightFormat.Group != 0;
        int rows = way is Way.Many ? (grid <= 32 ? 32 : 64) : grid <= 2 ? grid : grid <= 4 ? 4 : 8, weightRows = isGated ? 2 * count : count;
        Program program = new(w.Format.Type, way, rows, ending, isInt8);
        program = way switch
        {
            Way.FewCuda => program with { Shape = GpuGemvShape.For(gpu.Info, w.Format, rows, weightRows, x.Columns) },
            Way.Tensor when GpuTile.For(gpu.Info, w.Format.Type, grid, weightRows) is var tile => program with { Rows = tile.Rows, Tile = tile },
            Way.TensorBytes when GpuTile.ForBytes(grid) is var tile => program with { Rows = tile.Rows, Tile = tile },
            _ => program with { IsOdd = isOdd },
        };
        GpuKernel kernel = Kernel(w.Format, program);

        KernelCall call = kernel.Begin().Add(step.Header).Add(givenRows);
        call = isInt8 ? call.Add(_quantised.Codes).Add(_quantised.About) : call.Add(way == Way.Tensor ? _rounded.Buffer : x.Buffer);
        call = w.AddTo(call).Add(wRow);
        if (up is not null) call = up.AddTo(call).Add(upRow);
        call = call.Add(count).Add(y.Buffer).Add(y.Columns).Add(at).Add(x.Columns);
        int rowTiles = (grid + program.Rows - 1) / program.Rows;
        switch (way)
        {
            case Way.Tensor or Way.TensorBytes:
                GpuTile tile = program.Tile!;
                int columns = isGated ? tile.Columns / 2 : tile.Columns;
                call.Run(tile.Group, rowTiles, (count + columns - 1) / columns, sharedBytes: isInt8 ? tile.SharedBytesOfBytes : tile.SharedBytes(w.Format.Type));
                break;
            case Way.FewCuda:
                int outputs = program.Shape.Outputs(isGated);
                call.Run(GpuGemvShape.Group, (count + outputs - 1) / outputs, rowTiles, sharedBytes: program.Shape.SharedBytes(rows));
                break;
            case Way.Few:
                int pairs = GemvGroup / 32 * (isGated ? 1 : 2);
                call.Run(GemvGroup, (count + pairs - 1) / pairs, rowTiles);
                break;
            default:
                call.Run(GemmGroup, (count + GemmTile - 1) / GemmTile, rowTiles);
                break;
        }
    }

    private GpuKernel Kernel(WeightFormat format, Program program)
    {
        if (_kernels.TryGetValue(program, out GpuKernel? kernel)) return kernel;
        (string, int)[] constants = format.Constants(
            ("MEETS_GATE", program.Ending == Ending.MeetsGate ? 1 : 0), ("GATED", program.Ending == Ending.Gated ? 1 : 0),
            ("INT8", program.IsInt8 ? 1 : 0), ("ODD", program.IsOdd ? 1 : 0));
        kernel = program.Way switch
        {
            Way.Few => gpu.Kernel(new KernelSource("gemv.cl", ["weights.h"], [.. constants, ("ROWS", program.Rows), ("GROUP", GemvGroup)]), "gemv"),
            Way.Many => gpu.Kernel(new KernelSource("gemm.cl", ["weights.h"], [.. constants, ("TILE_ROWS", program.Rows)]), "gemm"),
            Way.FewCuda => gpu.Kernel(
                new KernelSource(
                    "gemv_cuda.cu", ["weights.h", "cuda_tensor.h"], [.. constants, ("ROWS", program.Rows), ("OUT", program.Shape.Out), ("SPLIT", program.Shape.Split)]),
                "gemv"),
            Way.TensorBytes => gpu.Kernel(
                new KernelSource("gemm_bytes_cuda.cu", ["weights.h", "cuda_tensor.h", "gemm_tile_cuda.h"], [.. constants, .. program.Tile!.Constants]), "gemm"),
            _ => gpu.Kernel(new KernelSource("gemm_cuda.cu", ["weights.h", "cuda_tensor.h", "gemm_tile_cuda.h"], [.. constants, .. program.Tile!.Constants, ("EXPERTS", 0)]), "gemm"),
        };
        return _kernels[program] = kernel;
    }
}
