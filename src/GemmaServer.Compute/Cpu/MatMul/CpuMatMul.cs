namespace GemmaServer.Compute;

/// <summary>
/// Matrix products <c>y[m, n] = Σ_k x[m, k] · w[n, k]</c> on the CPU. A result depends on its row of x and its row of w
/// alone: not on m, on the rows beside it, on the number of threads or on the register width.
/// </summary>
/// <remarks>
/// Workers take a few weight rows at a time, decode them once into scratch of their own and use them for all m rows.
/// One caller at a time; calls do not allocate once scratch has grown to the largest shape.
/// </remarks>
public sealed unsafe class CpuMatMul : IDisposable
{
    private readonly WorkerPool _pool;
    private readonly AlignedBuffer _quantised = new();
    private readonly AlignedBuffer _scratch = new();
    private readonly WeightArena _arena = new();

    /// <summary>Products on <paramref name="pool"/>, which stays the caller's.</summary>
    public CpuMatMul(WorkerPool pool, ActivationType activations)
    {
        _pool = pool;
        Activations = activations;
    }

    /// <summary>What input rows become.</summary>
    public ActivationType Activations { get; }

    /// <summary>Frees the scratch.</summary>
    public void Dispose()
    {
        _quantised.Dispose();
        _scratch.Dispose();
    }

    /// <summary>Bytes of packed weights.</summary>
    public long PackedBytes => _arena.Used;

    /// <summary>Packs weights for integer products, where that is what this does with them; a first product would do it too.</summary>
    public void Prepare(CpuWeights w)
    {
        if (Activations == ActivationType.Int8 && w.HasQuantisedPart && !w.IsPacked) w.Pack(_pool, _arena);
    }

    /// <summary>All rows of w: <c>y[m, w.Rows]</c>.</summary>
    /// <param name="x">Input, <c>[m, w.Columns]</c>, rows without gaps.</param>
    /// <param name="m">Input rows.</param>
    /// <param name="w">Weights.</param>
    /// <param name="y">Output; may not overlap x.</param>
    /// <param name="yStride">Floats between output rows, at least w.Rows.</param>
    /// <exception cref="ArgumentException">A row lies outside its span.</exception>
    public void Multiply(ReadOnlySpan<float> x, int m, CpuWeights w, Span<float> y, int yStride) =>
        Multiply(new InputRows(x, m, w.Columns), w, 0, w.Rows, y, yStride);

    /// <summary>Some rows of x against some rows of w, as for one expert: <c>y[i, j] = x[rowIndices[i]] · w[firstRow + j]</c>.</summary>
    /// <param name="x">Input, rows of w.Columns without gaps.</param>
    /// <param name="rowIndices">Rows of x, in the order of y.</param>
    /// <param name="w">Weights.</param>
    /// <param name="firstRow">First row of w.</param>
    /// <param name="rowCount">Rows of w, n.</param>
    /// <param name="y">Output, <c>[rowIndices.Length, rowCount]</c>; may not overlap x.</param>
    /// <param name="yStride">Floats between output rows, at least rowCount.</param>
    /// <exception cref="ArgumentException">A row lies outside its span.</exception>
    public void MultiplySubset(
        ReadOnlySpan<float> x, ReadOnlySpan<int> rowIndices, CpuWeights w, int firstRow, int rowCount, Span<float> y, int yStride) =>
        Multiply(new InputRows(x, rowIndices, w.Columns), w, firstRow, rowCount, y, yStride);

    /// <summary>Rows of x against a range of rows of w: <c>y[m, rowCount]</c>.</summary>
    /// <inheritdoc cref="MultiplySubset" path="/exception"/>
    public void Multiply(InputRows x, CpuWeights w, int firstRow, int rowCount, Span<float> y, int yStride) =>
        Run(x, w, firstRow, upRow: -1, rowCount, y, yStride);

    /// <summary>
    /// Gate and up of a feed-forward block in one pass: rows 0 … ff − 1 of w are the gate, ff … 2 ff − 1 are up, and
    /// <c>y[m, ff] = gelu(x · gate) · (x · up)</c>.
    /// </summary>
    /// <param name="x">Input, <c>[m, w.Columns]</c>, rows without gaps.</param>
    /// <param name="m">Input rows.</param>
    /// <param name="w">Weights, 2 ff rows.</param>
    /// <param name="y">Output; may not overlap x.</param>
    /// <param name="yStride">Floats between output rows, at least ff.</param>
    /// <exception cref="ArgumentException">w has an odd number of rows, or a row lies outside its span.</exception>
    public void MultiplyGated(ReadOnlySpan<float> x, int m, CpuWeights w, Span<float> y, int yStride)
    {
        if (w.Rows % 2 != 0) throw new ArgumentException($"{w.Rows} rows are no gate and up of one size.", nameof(w));
        MultiplyGated(new InputRows(x, m, w.Columns), w, 0, w.Rows / 2, w.Rows / 2, y, yStride);
    }

    /// <summary>Gate and up anywhere in w, as for one expert: <c>y[m, rowCount]</c>.</summary>
    /// <param name="x">Input rows.</param>
    /// <param name="w">Weights.</param>
    /// <param name="gateRow">First gate row.</param>
    /// <param name="upRow">First up row.</param>
    /// <param name="rowCount">Rows of each.</param>
    /// <param name="y">Output; may not overlap x.</param>
    /// <param name="yStride">Floats between output rows, at least rowCount.</param>
    /// <exception cref="ArgumentException">A row lies outside its span.</exception>
    public void MultiplyGated(InputRows x, CpuWeights w, int gateRow, int upRow, int rowCount, Span<float> y, int yStride)
    {
        CheckRange(w, upRow, rowCount);
        Run(x, w, gateRow, upRow, rowCount, y, yStride);
    }

    private static void CheckRange(CpuWeights w, int firstRow, int rowCount)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(firstRow);
        ArgumentOutOfRangeException.ThrowIfNegative(rowCount);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(rowCount, w.Rows - firstRow);
    }

    private void Run(InputRows x, CpuWeights w, int firstRow, int upRow, int rowCount, Span<float> y, int yStride)
    {
        CheckRange(w, firstRow, rowCount);
        x.Check(w.Columns);
        int m = x.Count;
        if (m == 0 || rowCount == 0) return;
        if (m > 1 && yStride < rowCount) throw new ArgumentException($"Rows of {rowCount} results cannot lie {yStride} apart.", nameof(yStride));
        if ((long)(m - 1) * yStride + rowCount > y.Length) throw new ArgumentException("The output is shorter than its rows.", nameof(y));

        fixed (float* input = x.Data)
        fixed (int* indices = x.Indices)
        fixed (float* output = y)
        {
            RowPointers rows = new(input, x.Stride, x.IsGathered ? indices : null);
            int rowsPerItem = m == 1 ? ProductJob.FewRows : ProductJob.ManyRows;
            long scratchBytes = ProductJob.ScratchFor(m, w.Columns);
            bool integers = Activations == ActivationType.Int8 && w.HasQuantisedPart;
            if (integers) Prepare(w);
            ProductJob job = new()
            {
                X = rows,
                Quantised = integers ? Quantise(rows, m, w.Columns) : default,
                M = m,
                W = w,
                FirstRow = firstRow,
                UpRow = upRow,
                RowCount = rowCount,
                RowsPerItem = rowsPerItem,
                Y = output,
                YStride = yStride,
                Integers = integers,
                Scratch = _scratch.Ensure(scratchBytes * _pool.Threads),
                ScratchBytes = scratchBytes,
            };
            _pool.Run(ref job, (rowCount + rowsPerItem - 1) / rowsPerItem);
        }
    }

    /// <summary>The input as bytes, once for all weight rows.</summary>
    private QuantisedRows Quantise(RowPointers x, int m, int k)
    {
        QuantisedRows rows = new(_quantised.Ensure(QuantisedRows.Bytes(m, k)), m, k);
        QuantiseJob job = new() { X = x, Rows = rows };
        _pool.Run(ref job, m);
        return rows;
    }

    private struct QuantiseJob : IWorkerJob
    {
        public RowPointers X;
        public QuantisedRows Rows;

        public readonly void Execute(int item, int worker) => Rows.Quantise(item, X[item]);
    }
}
