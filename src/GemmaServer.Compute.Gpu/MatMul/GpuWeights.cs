namespace GemmaServer.Compute;

/// <summary>
/// Brings weights onto the device: the bytes of the file go up as they are, a piece at a time, and a kernel takes their blocks
/// apart. Kernel: <c>repack.cl</c>.
/// </summary>
internal sealed unsafe class GpuWeights(GpuContext gpu) : IDisposable
{
    private const int PieceBytes = 32 << 20, Lanes = 64;

    private GpuBuffer _piece;

    /// <summary>Bytes of all matrices.</summary>
    public long Bytes { get; private set; }

    /// <summary>Columns of the widest matrix that has been loaded: what activations in bytes need room for.</summary>
    public int MostColumns { get; private set; }

    /// <summary>A matrix from parts stacked by rows.</summary>
    /// <exception cref="ArgumentException">No part, parts of different width, or a shape that the bytes cannot hold.</exception>
    public GpuMatrix Load(params ReadOnlySpan<TensorSource> sources)
    {
        if (sources.IsEmpty) throw new ArgumentException("A weight needs at least one tensor.", nameof(sources));
        int columns = sources[0].Columns, rows = 0;
        GpuPart[] parts = new GpuPart[sources.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            ref readonly TensorSource source = ref sources[i];
            if (source.Columns != columns)
            {
                throw new ArgumentException($"{source.Name} has {source.Columns} columns, {sources[0].Name} has {columns}.", nameof(sources));
            }
            parts[i] = LoadPart(source, rows);
            rows = checked(rows + parts[i].Rows);
        }
        ReleasePiece();
        GpuMatrix matrix = new(this, parts, rows, columns);
        Bytes += matrix.Bytes;
        MostColumns = Math.Max(MostColumns, columns);
        return matrix;
    }

    /// <summary>A matrix whose rows are looked up.</summary>
    // On the device like any other. Gathering from pinned host memory would spare the bytes of E2B's and E4B's per-layer table.
    public GpuMatrix LoadTable(TensorSource source) => Load(source);

    /// <summary>Gives a matrix back.</summary>
    public void Free(GpuMatrix matrix)
    {
        foreach (GpuPart part in matrix.Parts) gpu.Free(part.Buffer);
        Bytes -= matrix.Bytes;
    }

    public void Dispose() => ReleasePiece();

    private void ReleasePiece()
    {
        if (_piece.IsNone) return;
        gpu.Finish();
        gpu.Free(_piece);
        _piece = default;
    }

    private GpuPart LoadPart(in TensorSource source, int firstRow)
    {
        WeightFormat format = WeightFormat.Of(source.Type);
        long rowBytes = WeightRows.CheckedRowBytes(source);
        int rowGroups = (source.Columns + WeightFormat.Group - 1) / WeightFormat.Group, rows = checked((int)source.Rows);
        // Kernels count groups in 32 bits.
        int groups = checked(rows * rowGroups);
        (long high, long scales, long more, long bytes) = format.Planes(groups);
        GpuBuffer buffer = gpu.Allocate(Math.Max(bytes, WeightFormat.Unit), "weights");
        GpuPart part = new(
            format, buffer, firstRow, rows, rowGroups, (int)(high / WeightFormat.Unit), (int)(scales / WeightFormat.Unit), (int)(more / WeightFormat.Unit));
        if (format.IsQuantised) Repack(source, part);
        else if (source.Columns % WeightFormat.Group == 0) Upload(buffer, (byte*)source.Data, rows * rowBytes);
        else UploadPadded(source, part, rowBytes);
        return part;
    }

    private void Repack(in TensorSource source, GpuPart part)
    {
        WeightFormat format = part.Format;
        GpuKernel repack = gpu.Kernel(
            new KernelSource("repack.cl", ["weights.h"], format.Constants(
                ("GROUP", Lanes), ("BLOCK_BYTES", format.BlockBytes), ("CODES_AT", format.CodesAt), ("HIGH_AT", format.HighAt), ("SCALES_AT", format.ScalesAt),
                ("SCALE_BYTES", format.ScaleBytes), ("MORE_AT", format.MoreAt), ("MORE_BYTES", format.MoreBytes))),
            "repack");
        int blockGroups = format.Block / WeightFormat.Group, perPiece = PieceBytes / format.BlockBytes;
        long blocks = (long)part.Rows * part.RowGroups / blockGroups;
        if (_piece.IsNone) _piece = gpu.Allocate(PieceBytes, "a piece of the weights");
        for (long first = 0; first < blocks; first += perPiece)
        {
            int count = (int)Math.Min(perPiece, blocks - first), groups = count * blockGroups;
            gpu.Upload(_piece, 0, (byte*)source.Data + first * format.BlockBytes, (long)count * format.BlockBytes);
            part.AddTo(repack.Begin().Add(_piece)).Add((int)(first * blockGroups)).Add(groups).Run(Lanes, (groups + Lanes - 1) / Lanes);
        }
    }

    private void Upload(GpuBuffer to, byte* from, long bytes)
    {
        for (long at = 0; at < bytes; at += PieceBytes) gpu.Upload(to, at, from + at, Math.Min(PieceBytes, bytes - at));
    }

    /// <summary>Rows of odd length: filled up with zeros. Only toy models have them.</summary>
    private void UploadPadded(in TensorSource source, GpuPart part, long rowBytes)
    {
        gpu.Clear(part.Buffer, part.Buffer.Bytes);
        long stride = 4L * part.Format.CodeBits * part.RowGroups;
        for (int r = 0; r < part.Rows; r++) gpu.Upload(part.Buffer, r * stride, (byte*)source.Data + r * rowBytes, rowBytes);
    }
}
