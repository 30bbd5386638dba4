namespace GemmaServer.Compute;

/// <summary>
/// Products <c>y = W·x</c>: <c>gemv.cl</c> for up to 8 rows, <c>gemm.cl</c> above, or always where results may not depend on the
/// number of rows. Parts of a matrix write side by side; each is a launch of its own, in a program for its type.
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

    private readonly record struct Program(TensorType Type, int Rows, Ending Ending, bool IsInt8, bool IsOdd);

    private readonly Dictionary<Program, GpuKernel> _kernels = [];
    private readonly GpuQuantisedRows _quantised = new(gpu);

    /// <summary>Makes room for steps of so many rows.</summary>
    /// <param name="maxRows">Rows of a step.</param>
    /// <param name="mostColumns">Of any matrix; one that is wider makes room when it is first used.</param>
    public void Reserve(int maxRows, int mostColumns = 0)
    {
        if (options.Activations == ActivationType.Int8 && mostColumns > 0) _quantised.Reserve(maxRows, mostColumns);
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
            if (g.Format == u.Format && IsGemv(step.Grid)) Run(x, g, n - g.FirstRow, u, half + n - u.FirstRow, count, y, n, step.Grid, 0, Ending.Gated);
            else
            {
                Run(x, g, n - g.FirstRow, null, 0, count, y, n, step.Grid, 0, Ending.Plain);
                Run(x, u, half + n - u.FirstRow, null, 0, count, y, n, step.Grid, 0, Ending.MeetsGate);
            }
            n += count;
        }
    }

    public void Dispose() => _quantised.Dispose();

    private bool IsGemv(int rows) => rows <= MostGemvRows && !options.BatchInvariant;

    private void Multiply(GpuTensor x, GpuMatrix w, GpuTensor y, int grid, int givenRows)
    {
        Quantise(x, w, grid, givenRows);
        foreach (GpuPart part in w.Parts) Run(x, part, 0, null, 0, part.Rows, y, part.FirstRow, grid, givenRows, Ending.Plain);
    }

    private void Quantise(GpuTensor x, GpuMatrix w, int grid, int givenRows)
    {
        if (x.Columns != w.Columns) throw new ArgumentException($"Rows of {x.Columns} do not meet a matrix of {w.Columns} columns.", nameof(x));
        if (options.Activations == ActivationType.Int8 && w.HasQuantisedPart) _quantised.Quantise(step.Header, x, grid, givenRows);
    }

    private void Run(
        GpuTensor x, GpuPart w, int wRow, GpuPart? up, int upRow, int count, GpuTensor y, int at, int grid, int givenRows, Ending ending)
    {
        bool isGemv = IsGemv(grid), isInt8 = options.Activations == ActivationType.Int8 && w.Format.IsQuantised;
        int rows = !isGemv ? (grid <= 32 ? 32 : 64) : grid <= 2 ? grid : grid <= 4 ? 4 : 8;
        GpuKernel kernel = Kernel(w.Format, new Program(w.Format.Type, rows, ending, isInt8, x.Columns % WeightFormat.Group != 0));

        KernelCall call = kernel.Begin().Add(step.Header).Add(givenRows);
        call = isInt8 ? call.Add(_quantised.Codes).Add(_quantised.About) : call.Add(x.Buffer);
        call = w.AddTo(call).Add(wRow);
        if (up is not null) call = up.AddTo(call).Add(upRow);
        call = call.Add(count).Add(y.Buffer).Add(y.Columns).Add(at).Add(x.Columns);
        int tile = isGemv ? GemvGroup / 32 * (ending == Ending.Gated ? 1 : 2) : GemmTile;
        call.Run(isGemv ? GemvGroup : GemmGroup, (count + tile - 1) / tile, (grid + rows - 1) / rows);
    }

    private GpuKernel Kernel(WeightFormat format, Program program)
    {
        if (_kernels.TryGetValue(program, out GpuKernel? kernel)) return kernel;
        bool isGemv = program.Rows <= MostGemvRows;
        (string, int)[] constants = format.Constants(
            (isGemv ? "ROWS" : "TILE_ROWS", program.Rows), ("MEETS_GATE", program.Ending == Ending.MeetsGate ? 1 : 0),
            ("INT8", program.IsInt8 ? 1 : 0), ("ODD", program.IsOdd ? 1 : 0));
        if (isGemv) constants = [.. constants, ("GROUP", GemvGroup), ("GATED", program.Ending == Ending.Gated ? 1 : 0)];
        KernelSource source = new(isGemv ? "gemv.cl" : "gemm.cl", ["weights.h"], constants);
        return _kernels[program] = gpu.Kernel(source, isGemv ? "gemv" : "gemm");
    }
}
