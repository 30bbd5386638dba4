namespace GemmaServer.Compute;

/// <summary>Queues bytes of a tensor, in its file's format, into device memory.</summary>
/// <param name="gpu">The device.</param>
/// <param name="source">The tensor.</param>
/// <param name="first">First of its bytes.</param>
/// <param name="bytes">How many: whole blocks.</param>
/// <param name="to">Where to.</param>
/// <param name="at">First byte there.</param>
internal delegate void FillWeights(GpuContext gpu, in TensorSource source, long first, long bytes, GpuBuffer to, long at);

/// <summary>
/// Brings weights onto the device: the bytes of the file go up as they are, a piece at a time, and a kernel takes their blocks
/// apart. A tensor that is larger than a buffer may be becomes several parts. Kernel: <c>repack.cl</c>.
/// </summary>
/// <param name="gpu">The device.</param>
/// <param name="fill">Where the bytes come from; null: the tensor's own are uploaded.</param>
/// <param name="largestPart">Bytes of a part, where that is less than the device's largest buffer.</param>
internal sealed unsafe class GpuWeights(GpuContext gpu, FillWeights? fill = null, long largestPart = long.MaxValue) : IDisposable
{
    private const int PieceBytes = 32 << 20, Lanes = 64;

    /// <summary>Groups of a part: kernels count them in 31 bits, and some their quarters in 32.</summary>
    private const int MostGroups = 1 << 30;

    /// <summary>Rows that the tiles of products are multiples of.</summary>
    private const int TileRows = 64;

    private readonly FillWeights _fill = fill ?? Upload;
    private readonly long _largestPart = Math.Min(largestPart, gpu.Info.LargestBuffer);

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
        List<GpuPart> parts = [];
        foreach (ref readonly TensorSource source in sources)
        {
            if (source.Columns != columns)
            {
                throw new ArgumentException($"{source.Name} has {source.Columns} columns, {sources[0].Name} has {columns}.", nameof(sources));
            }
            int sourceRows = checked((int)source.Rows), most = RowsOfPart(source, _largestPart);
            for (int first = 0; first < sourceRows || first == 0; first += most) parts.Add(LoadPart(source, first, Math.Min(most, sourceRows - first), rows + first));
            rows = checked(rows + sourceRows);
        }
        ReleasePiece();
        GpuMatrix matrix = new(this, [.. parts], rows, columns);
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

    /// <summary>Rows of a tensor's parts: all, or else parts of about one size, of whole stacks (<see cref="TensorSource.Stacks"/>).</summary>
    /// <param name="source">The tensor.</param>
    /// <param name="largest">Bytes that a part may have.</param>
    internal static int RowsOfPart(in TensorSource source, long largest)
    {
        WeightFormat format = WeightFormat.Of(source.Type);
        long groups = Groups(source.Columns), rows = Math.Max(1, source.Rows), bytes = groups * WeightFormat.Group / format.Block * format.BlockBytes;
        // Each plane is rounded up to its unit.
        long most = Math.Min((largest - 4 * WeightFormat.Unit) / bytes, MostGroups / groups);
        if (rows <= most) return (int)rows;
        long stack = source.Stacks > 1 ? rows / source.Stacks : 1, unit = stack == 1 && most >= TileRows ? TileRows : stack;
        long units = (rows + unit - 1) / unit, mostUnits = Math.Max(1, most / unit), parts = (units + mostUnits - 1) / mostUnits;
        return (int)Math.Min(rows, (units + parts - 1) / parts * unit);
    }

    private static long Groups(int columns) => (columns + WeightFormat.Group - 1) / WeightFormat.Group;

    private void ReleasePiece()
    {
        if (_piece.IsNone) return;
        gpu.Finish();
        gpu.Free(_piece);
        _piece = default;
    }

    private GpuPart LoadPart(in TensorSource source, int sourceRow, int rows, int firstRow)
    {
        WeightFormat format = WeightFormat.Of(source.Type);
        long rowBytes = WeightRows.CheckedRowBytes(source), first = sourceRow * rowBytes;
        int rowGroups = (int)Groups(source.Columns);
        (long high, long scales, long more, long bytes) = format.Planes((long)rows * rowGroups);
        GpuBuffer buffer = gpu.Allocate(Math.Max(bytes, WeightFormat.Unit), "weights");
        GpuPart part = new(
            format, buffer, firstRow, rows, rowGroups, (int)(high / WeightFormat.Unit), (int)(scales / WeightFormat.Unit), (int)(more / WeightFormat.Unit));
        if (format.IsQuantised) Repack(source, first, part);
        else if (source.Columns % WeightFormat.Group == 0) Fill(source, first, rows * rowBytes, buffer);
        else FillPadded(source, first, part, rowBytes);
        return part;
    }

    private void Repack(in TensorSource source, long start, GpuPart part)
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
            _fill(gpu, source, start + first * format.BlockBytes, (long)count * format.BlockBytes, _piece, 0);
            part.AddTo(repack.Begin().Add(_piece)).Add((int)(first * blockGroups)).Add(groups).Run(Lanes, (groups + Lanes - 1) / Lanes);
        }
    }

    private void Fill(in TensorSource source, long start, long bytes, GpuBuffer to)
    {
        for (long at = 0; at < bytes; at += PieceBytes) _fill(gpu, source, start + at, Math.Min(PieceBytes, bytes - at), to, at);
    }

    /// <summary>Rows of odd length: filled up with zeros. Only toy models have them.</summary>
    private void FillPadded(in TensorSource source, long start, GpuPart part, long rowBytes)
    {
        gpu.Clear(part.Buffer, part.Buffer.Bytes);
        long stride = 4L * part.Format.CodeBits * part.RowGroups;
        for (int r = 0; r < part.Rows; r++) _fill(gpu, source, start + r * rowBytes, rowBytes, part.Buffer, r * stride);
    }

    private static void Upload(GpuContext gpu, in TensorSource source, long first, long bytes, GpuBuffer to, long at) =>
        gpu.Upload(to, at, (byte*)source.Data + first, bytes);
}
