namespace GemmaServer.Compute;

/// <summary>
/// Matrix products <c>y[m, n] = Σ_k x[m, k] · w[n, k]</c> on the CPU. A result depends on its row of x and its row of w
/// alone: not on m, on the rows beside it, on the number of threads or on the register width.
/// </summary>
/// <remarks>
/// Workers take a few weight rows at a time, unpack or decode them once into scratch of their own and use them for all m rows.
/// One caller at a time; calls do not allocate once scratch has grown to the largest shape.
/// </remarks>
public sealed unsafe class CpuMatMul : IDisposable
{
    private readonly WorkerPool _pool;
    private readonly AlignedBuffer _quantised = new();
    private readonly AlignedBuffer _scratch = new();
    private readonly WeightArena _arena = new();
    private readonly TileCall? _amx;
    private ProductJob[] _jobs = [];
    private int[] _firstItems = [];

    /// <summary>Products on <paramref name="pool"/>, which stays the caller's.</summary>
    /// <param name="pool">Workers.</param>
    /// <param name="activations">What input rows become.</param>
    /// <param name="amx">Whether AMX kernels may be used where the machine has them.</param>
    // AMX is asked about here, so that no product waits for the answer.
    public CpuMatMul(WorkerPool pool, ActivationType activations, bool amx = true)
        : this(pool, activations, amx && activations == ActivationType.Int8 && AmxSupport.IsUsable ? AmxTiles.Run : null)
    {
    }

    internal CpuMatMul(WorkerPool pool, ActivationType activations, TileCall? amx)
    {
        if (activations == ActivationType.BF16) throw new ArgumentException("bf16 activations are the tensor cores' of CUDA; the CPU computes with f32 or int8.", nameof(activations));
        _pool = pool;
        _amx = amx;
        Activations = activations;
    }

    /// <summary>What input rows become.</summary>
    public ActivationType Activations { get; }

    /// <summary>The kernel that batches of many rows get.</summary>
    internal TileKind Tiles => TileKinds.For(int.MaxValue, _amx is not null);

    /// <summary>Frees the scratch.</summary>
    public void Dispose()
    {
        _quantised.Dispose();
        _scratch.Dispose();
    }

    /// <summary>Bytes of packed weights.</summary>
    public long PackedBytes => _arena.Used;

    /// <summary>Packs weights where products are in integers; for quantised ones a first product would do it too.</summary>
    public void Prepare(CpuWeights w)
    {
        if (Activations == ActivationType.Int8 && !w.IsPacked) w.Pack(_pool, _arena);
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
        RowGroup group = new(0, x.Count, firstRow, upRow);
        RunGroups(x, [group], w, upRow < 0 ? null : w, rowCount, y, yStride);
    }

    /// <summary>
    /// Several products in one go: rows <see cref="RowGroup.Start"/> … of x against rows of w of each group's own, as for all
    /// experts of a batch. Every weight row is read once.
    /// </summary>
    /// <param name="x">Input rows of all groups, in their order.</param>
    /// <param name="groups">Which rows meet which weights; none is empty.</param>
    /// <param name="w">Weights; the gate's in a gated product.</param>
    /// <param name="up">Null for a plain product; else <c>y = gelu(x · w) · (x · up)</c>.</param>
    /// <param name="rowCount">Weight rows of a group.</param>
    /// <param name="y">Output, a row for each row of x; may not overlap x.</param>
    /// <param name="yStride">Floats between output rows, at least rowCount.</param>
    /// <exception cref="ArgumentException">A row lies outside its span.</exception>
    internal void RunGroups(InputRows x, ReadOnlySpan<RowGroup> groups, CpuWeights w, CpuWeights? up, int rowCount, Span<float> y, int yStride)
    {
        x.Check(w.Columns);
        int m = x.Count, most = 0, items = 0;
        if (m == 0 || rowCount == 0) return;
        if (m > 1 && yStride < rowCount) throw new ArgumentException($"Rows of {rowCount} results cannot lie {yStride} apart.", nameof(yStride));
        if ((long)(m - 1) * yStride + rowCount > y.Length) throw new ArgumentException("The output is shorter than its rows.", nameof(y));
        bool integers = Activations == ActivationType.Int8 && (w.HasQuantisedPart || up is { HasQuantisedPart: true });
        if (integers)
        {
            Prepare(w);
            if (up is not null) Prepare(up);
        }
        if (_jobs.Length < groups.Length) (_jobs, _firstItems) = (new ProductJob[groups.Length], new int[groups.Length + 1]);

        fixed (float* input = x.Data)
        fixed (int* indices = x.Indices)
        fixed (float* output = y)
        {
            byte* codes = integers ? _quantised.Ensure(QuantisedRows.Bytes(m, w.Columns)) : null;
            for (int g = 0; g < groups.Length; g++)
            {
                RowGroup group = groups[g];
                CheckRange(w, group.FirstRow, rowCount);
                if (up is not null) CheckRange(up, group.UpRow, rowCount);
                most = Math.Max(most, group.Count);
                _jobs[g] = new ProductJob
                {
                    X = x.IsGathered ? new(input, x.Stride, indices + group.Start) : new(input + (nint)group.Start * x.Stride, x.Stride, null),
                    Quantised = integers ? new(codes + QuantisedRows.Bytes(group.Start, w.Columns), group.Count, w.Columns, TileKinds.For(group.Count, _amx is not null)) : default,
                    M = group.Count,
                    W = w,
                    FirstRow = group.FirstRow,
                    Up = up,
                    UpRow = group.UpRow,
                    RowCount = rowCount,
                    RowsPerItem = group.Count == 1 ? ProductJob.FewRows : ProductJob.ManyRows,
                    Y = output + (nint)group.Start * yStride,
                    YStride = yStride,
                    Integers = integers,
                    Amx = _amx,
                };
                _firstItems[g] = items;
                items += _jobs[g].Items;
            }
            _firstItems[groups.Length] = items;
            long scratchBytes = ProductJob.ScratchFor(most, w.Columns);
            byte* scratch = _scratch.Ensure(scratchBytes * _pool.Threads);
            for (int g = 0; g < groups.Length; g++)
            {
                _jobs[g].Scratch = scratch;
                _jobs[g].ScratchBytes = scratchBytes;
            }

            if (integers)
            {
                QuantiseJob quantise = new(_jobs, groups.Length);
                _pool.Run(ref quantise, groups.Length == 1 ? m : groups.Length);
            }
            GroupJob job = new(_jobs, _firstItems, groups.Length);
            _pool.Run(ref job, items);
        }
    }

    /// <summary>The input as bytes, once for all weight rows: an item is a row of the only group, or a group.</summary>
    private readonly struct QuantiseJob(ProductJob[] jobs, int groups) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            ref ProductJob job = ref jobs[groups == 1 ? 0 : item];
            if (groups == 1) job.Quantised.Quantise(item, job.X[item]);
            else for (int i = 0; i < job.M; i++) job.Quantised.Quantise(i, job.X[i]);
        }
    }

    /// <summary>The items of all groups, one after the other.</summary>
    private readonly struct GroupJob(ProductJob[] jobs, int[] firstItems, int groups) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            int g = 0;
            for (int step = HighestBit(groups); step > 0; step >>= 1)
                if (g + step < groups && firstItems[g + step] <= item) g += step;
            jobs[g].Execute(item - firstItems[g], worker);
        }

        private static int HighestBit(int groups) => groups <= 1 ? 0 : 1 << System.Numerics.BitOperations.Log2((uint)groups);
    }
}

/// <summary>Some input rows and the weights they meet.</summary>
/// <param name="Start">First input row.</param>
/// <param name="Count">Input rows, at least one.</param>
/// <param name="FirstRow">First weight row.</param>
/// <param name="UpRow">First row of up; read only in gated products.</param>
internal readonly record struct RowGroup(int Start, int Count, int FirstRow, int UpRow);
