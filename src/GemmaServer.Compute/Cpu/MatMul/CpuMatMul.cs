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
    // Decoded weight rows of a worker should stay in its L2 cache.
    private const int ScratchTarget = 512 * 1024;

    // A register tile is four rows wide; with many input rows more of them share one pass over x.
    private const int FewRows = 4, ManyRows = 16;

    private readonly WorkerPool _pool;
    private readonly AlignedBuffer _quantised = new();
    private readonly AlignedBuffer _scratch = new();

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
            int rowsPerItem = RowsPerItem(m, w.Columns);
            long scratchBytes = ScratchBytes(m, w.Columns, rowsPerItem);
            ProductJob job = new()
            {
                X = rows,
                Quantised = Quantise(rows, m, w),
                M = m,
                W = w,
                FirstRow = firstRow,
                UpRow = upRow,
                RowCount = rowCount,
                RowsPerItem = rowsPerItem,
                Y = output,
                YStride = yStride,
                Integers = Activations == ActivationType.Int8,
                Scratch = _scratch.Ensure(scratchBytes * _pool.Threads),
                ScratchBytes = scratchBytes,
            };
            _pool.Run(ref job, (rowCount + rowsPerItem - 1) / rowsPerItem);
        }
    }

    private static int RowsPerItem(int m, int k) =>
        m < 2 * FewRows ? FewRows : Math.Clamp(ScratchTarget / (4 * k) / FewRows * FewRows, FewRows, ManyRows);

    /// <summary>One worker's: decoded rows (floats are larger than codes, scales and offsets), then the up half of a gated product.</summary>
    private static long ScratchBytes(int m, int k, int rowsPerItem) =>
        (ProductJob.DecodedBytes(rowsPerItem, k) + 4L * m * rowsPerItem + 63) & ~63L;

    /// <summary>The input as bytes, where some weight wants it so; once for all weight rows.</summary>
    private Int8Rows Quantise(RowPointers x, int m, CpuWeights w)
    {
        if (Activations != ActivationType.Int8 || !w.HasQuantisedPart) return default;
        Int8Rows rows = Int8Rows.At(_quantised.Ensure(Int8Rows.Bytes(m, w.Columns)), m, w.Columns);
        QuantiseJob job = new() { X = x, Rows = rows };
        _pool.Run(ref job, m);
        return rows;
    }

    private struct QuantiseJob : IWorkerJob
    {
        public RowPointers X;
        public Int8Rows Rows;

        public readonly void Execute(int item, int worker) => Rows.Quantise(item, X[item]);
    }
}
