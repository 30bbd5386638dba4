namespace GemmaServer.Compute;

/// <summary>
/// A weight matrix <c>[Rows, Columns]</c> made of one or more tensors stacked by rows (fused QKV, gate over up, experts),
/// each in its own type. It refers to the mapping it was opened from, which must outlive it; integer products read a packed copy.
/// </summary>
public sealed unsafe class CpuWeights
{
    /// <summary>One tensor of the stack.</summary>
    internal sealed class Part(in TensorSource source, long rowBytes, int firstRow)
    {
        /// <summary>Storage type.</summary>
        public TensorType Type { get; } = source.Type;

        /// <summary>How it is packed; null for float types.</summary>
        public PanelFormat? Format { get; } = PanelFormat.Of(source.Type);

        /// <summary>Its first row in the stack.</summary>
        public int FirstRow { get; } = firstRow;

        /// <summary>Its rows.</summary>
        public int Rows { get; } = checked((int)source.Rows);

        /// <summary>First row after it.</summary>
        public int End => FirstRow + Rows;

        /// <summary>From one stored row to the next.</summary>
        public long RowBytes { get; } = rowBytes;

        /// <summary>Panels that its rows make.</summary>
        public int PanelCount => (Rows + PanelFormat.Rows - 1) / PanelFormat.Rows;

        /// <summary>Its first panel among those of the stack.</summary>
        public int FirstPanel { get; set; }

        /// <summary>Panels of 16 rows, once packed; float rows are as stored, but on larger pages than a file's.</summary>
        public byte* Panels { get; set; }

        /// <summary>From one panel to the next.</summary>
        public long PanelBytes { get; } = PanelFormat.Of(source.Type)?.PanelBytes(source.Columns) ?? PanelFormat.Rows * rowBytes;

        /// <summary>Start of a stored row; <paramref name="row"/> counts from the top of the stack.</summary>
        public byte* Row(int row) => (byte*)_data + (row - FirstRow) * RowBytes;

        /// <summary>Start of a float row for a product.</summary>
        public byte* FloatRow(int row) => Panels != null && Format is null ? Panels + (row - FirstRow) * RowBytes : Row(row);

        private readonly nint _data = source.Data;
    }

    private readonly Part[] _parts;

    // Keeps the panels alive.
    private WeightArena? _arena;

    /// <summary>Stacks <paramref name="parts"/> in their order.</summary>
    /// <exception cref="ArgumentException">
    /// No part, parts of different width, rows that are no whole number of blocks, or fewer bytes than the shape needs.
    /// </exception>
    public CpuWeights(params ReadOnlySpan<TensorSource> parts)
    {
        if (parts.IsEmpty) throw new ArgumentException("A weight needs at least one tensor.", nameof(parts));
        Columns = parts[0].Columns;
        _parts = new Part[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            TensorSource source = parts[i];
            if (source.Columns != Columns)
            {
                throw new ArgumentException($"{source.Name} has {source.Columns} columns, {parts[0].Name} has {Columns}.", nameof(parts));
            }
            long rowBytes = WeightRows.CheckedRowBytes(source);
            HasQuantisedPart |= WeightRows.IsQuantised(source.Type);
            _parts[i] = new Part(source, rowBytes, Rows);
            Rows = checked(Rows + (int)source.Rows);
        }
    }

    /// <summary>Output dimension, all parts together.</summary>
    public int Rows { get; }

    /// <summary>Input dimension.</summary>
    public int Columns { get; }

    /// <summary>Whether some rows have integer codes.</summary>
    internal bool HasQuantisedPart { get; }

    /// <summary>One row in f32, as for embeddings.</summary>
    /// <param name="row">0 … Rows − 1.</param>
    /// <param name="dst">Values, <c>[Columns]</c>.</param>
    /// <exception cref="ArgumentOutOfRangeException">No such row.</exception>
    /// <exception cref="ArgumentException"><paramref name="dst"/> is shorter than a row.</exception>
    public void DecodeRow(int row, Span<float> dst)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, Rows);
        if (dst.Length < Columns) throw new ArgumentException("The destination is shorter than a row.", nameof(dst));
        Part part = PartOf(row);
        fixed (float* to = dst) WeightRows.Dequantize(part.Type, part.Row(row), Columns, to);
    }

    /// <summary>The tensor that holds <paramref name="row"/>. Stacks are short, so a walk finds it.</summary>
    internal Part PartOf(int row)
    {
        int i = 0;
        while (row >= _parts[i].End) i++;
        return _parts[i];
    }

    /// <summary>Whether <see cref="Pack"/> has been done.</summary>
    internal bool IsPacked { get; private set; }

    /// <summary>Packs the quantised parts into panels for integer products, and copies the float parts; the stored rows stay as they are.</summary>
    /// <param name="pool">Shares the work.</param>
    /// <param name="arena">Holds the panels.</param>
    internal void Pack(WorkerPool pool, WeightArena arena)
    {
        _arena = arena;
        int panels = 0;
        foreach (Part part in _parts)
        {
            part.FirstPanel = panels;
            panels += part.PanelCount;
            part.Panels = arena.Allocate(part.PanelCount * part.PanelBytes);
        }
        // In the order of the rows, so that a worker first touches what it will read: the memory comes from its own node.
        PackJob job = new(_parts, Columns);
        if (pool.Pins) pool.RunByOwner(ref job, panels);
        else pool.Run(ref job, panels);
        IsPacked = true;
    }

    private readonly struct PackJob(Part[] parts, int columns) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            int p = 0;
            while (item >= parts[p].FirstPanel + parts[p].PanelCount) p++;
            Part part = parts[p];
            int panel = item - part.FirstPanel, row = panel * PanelFormat.Rows;
            byte* from = part.Row(part.FirstRow + row), to = part.Panels + panel * part.PanelBytes;
            int rows = Math.Min(PanelFormat.Rows, part.Rows - row);
            if (part.Format is not null) part.Format.Pack(from, part.RowBytes, rows, columns, to);
            else Buffer.MemoryCopy(from, to, rows * part.RowBytes, rows * part.RowBytes);
        }
    }
}
