using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>A matrix product cut into runs of weight rows.</summary>
internal unsafe struct ProductJob : IWorkerJob
{
    /// <summary>Weight rows of an item: a pair of panels for many input rows, one panel for one.</summary>
    public const int ManyRows = 2 * PanelFormat.Rows, FewRows = PanelFormat.Rows;

    // Blocks unpacked at a time: both panels' stay in the first-level cache while all input rows pass.
    private const int ChunkBlocks = 16;

    private const int UnpackedBytes = 896;      // of the widest block

    // Decoded float rows of a worker should stay in its second-level cache.
    private const int FloatTarget = 512 * 1024;

    public RowPointers X;
    public QuantisedRows Quantised;
    public int M;
    public CpuWeights W;
    public int FirstRow;

    /// <summary>Where FirstRow is the gate's: what holds up, and its first row there; else null.</summary>
    public CpuWeights? Up;

    public int UpRow;

    public int RowCount;
    public int RowsPerItem;
    public float* Y;
    public nint YStride;
    public bool Integers;

    /// <summary>Runs AMX kernels; null where there are none.</summary>
    public TileCall? Amx;

    /// <summary><c>[threads, ScratchBytes]</c>.</summary>
    public byte* Scratch;

    public long ScratchBytes;

    /// <summary>One worker's scratch for m input rows and rows of k: decoded or unpacked weights, then results.</summary>
    public static long ScratchFor(int m, int k)
    {
        int batch = FloatBatch(k);
        long floats = 4L * batch * k + 4L * m * batch, integers = 2L * ChunkBlocks * UnpackedBytes + 2L * 64 * m;
        return (Math.Max(floats, integers) + 63) & ~63L;
    }

    /// <summary>How many items there are.</summary>
    public readonly int Items => (RowCount + RowsPerItem - 1) / RowsPerItem;

    public readonly void Execute(int item, int worker)
    {
        int first = item * RowsPerItem;
        int count = Math.Min(RowsPerItem, RowCount - first);
        byte* scratch = Scratch + worker * ScratchBytes;
        Rows(W, FirstRow + first, count, Y + first, scratch, isUp: false);
        if (Up is not null) Rows(Up, UpRow + first, count, Y + first, scratch, isUp: true);
    }

    private static int FloatBatch(int k) => Math.Clamp(FloatTarget / (4 * k) & ~3, 4, 16);

    /// <summary>Rows of the stack, part by part. Those of up meet the gate's results in y.</summary>
    private readonly void Rows(CpuWeights w, int row, int count, float* y, byte* scratch, bool isUp)
    {
        while (count > 0)
        {
            CpuWeights.Part part = w.PartOf(row);
            int n = Math.Min(count, part.End - row);
            if (Integers && part.Format is not null)
            {
                if (M == 1) OneRow(part, row, n, y, isUp);
                else ManyInputs(part, row, n, y, scratch, isUp);
            }
            else FloatRows(part, row, n, y, scratch, isUp);
            row += n;
            y += n;
            count -= n;
        }
    }

    private readonly void FloatRows(CpuWeights.Part part, int row, int n, float* y, byte* scratch, bool isUp)
    {
        int k = W.Columns, batch = FloatBatch(k);
        float* results = (float*)scratch + (nint)batch * k;
        for (; n > 0; n -= batch, row += batch, y += batch)
        {
            int count = Math.Min(n, batch);
            float* to = isUp ? results : y;
            nint stride = isUp ? count : YStride;
            switch (part.Type)
            {
                case TensorType.F32: FloatTiles.Multiply(X, M, (float*)part.FloatRow(row), k, count, k, to, stride); break;
                case TensorType.F16 when M < 4: FloatTiles.MultiplyStored<F16Row>(X, M, part.FloatRow(row), part.RowBytes, count, k, to, stride); break;
                case TensorType.BF16 when M < 4: FloatTiles.MultiplyStored<BF16Row>(X, M, part.FloatRow(row), part.RowBytes, count, k, to, stride); break;
                default:
                    float* w = (float*)scratch;
                    for (int j = 0; j < count; j++) WeightRows.Dequantize(part.Type, part.FloatRow(row + j), k, w + (nint)j * k);
                    FloatTiles.Multiply(X, M, w, k, count, k, to, stride);
                    break;
            }
            if (isUp) Take(results, count, count, y, isUp);
        }
    }

    private readonly void OneRow(CpuWeights.Part part, int row, int n, float* y, bool isUp)
    {
        byte* x = Quantised.Tile(0, 0, 1);
        float* sums = stackalloc float[PanelFormat.Rows];
        for (int local = row - part.FirstRow; n > 0;)
        {
            int lane = local % PanelFormat.Rows, count = Math.Min(n, PanelFormat.Rows - lane);
            part.Format!.Gemv(part.Panels + local / PanelFormat.Rows * part.PanelBytes, W.Columns, x, sums);
            Take(sums + lane, PanelFormat.Rows, count, y, isUp);
            local += count;
            n -= count;
            y += count;
        }
    }

    /// <summary>Two panels at a time: unpacked once, then all input rows pass.</summary>
    private readonly void ManyInputs(CpuWeights.Part part, int row, int n, float* y, byte* scratch, bool isUp)
    {
        PanelFormat format = part.Format!;
        int blocks = W.Columns / PanelFormat.Block;
        byte* w0 = scratch, w1 = scratch + ChunkBlocks * UnpackedBytes;
        float* sums = (float*)(scratch + 2 * ChunkBlocks * UnpackedBytes);
        for (int local = row - part.FirstRow; n > 0;)
        {
            int lane = local % PanelFormat.Rows, count = Math.Min(n, PanelFormat.Rows - lane), second = Math.Min(n - count, PanelFormat.Rows);
            byte* panel = part.Panels + local / PanelFormat.Rows * part.PanelBytes;
            TileArguments tile = new() { W0 = w0, W1 = second > 0 ? w1 : w0 };
            for (int b = 0; b < blocks; b += ChunkBlocks)
            {
                tile.Blocks = Math.Min(ChunkBlocks, blocks - b);
                tile.GoOn = b;
                // The same columns' successors, or the beginning of the pair after this one.
                bool isLast = b + ChunkBlocks >= blocks;
                byte* ahead = isLast ? panel + 2 * part.PanelBytes : panel + (b + ChunkBlocks) / PanelFormat.GroupBlocks * format.GroupBytes;
                format.Unpack(panel, W.Columns, b, (int)tile.Blocks, w0, ahead);
                if (second > 0) format.Unpack(panel + part.PanelBytes, W.Columns, b, (int)tile.Blocks, w1, ahead + part.PanelBytes);
                for (int i = 0; i < M;)
                {
                    int rows = Math.Min(Quantised.TileRows, M - i), tiles = Quantised.Kind.TilesInCall((M - i) / rows);
                    tile.X = Quantised.Tile(i, b, rows);
                    tile.Tiles = tiles;
                    tile.TileStride = blocks * rows * QuantisedRows.BlockBytes;
                    tile.Y0 = sums + 16 * i;
                    tile.Y1 = second > 0 ? tile.Y0 + 16 * M : tile.Y0;
                    RunTiles(&tile, rows, format);
                    i += rows * tiles;
                }
            }
            Take(sums + lane, PanelFormat.Rows, count, y, isUp);
            if (second > 0) Take(sums + 16 * M, PanelFormat.Rows, second, y + count, isUp);
            count += second;
            local += count;
            n -= count;
            y += count;
        }
    }

    /// <summary>Adds <c>tile · panelᵀ</c> to the sums.</summary>
    private readonly void RunTiles(TileArguments* tile, int rows, PanelFormat format)
    {
        if (Quantised.Kind == TileKind.Amx)
        {
            Amx!(format, rows, tile);
            return;
        }
        delegate* unmanaged[SuppressGCTransition]<TileArguments*, void> assembled = Quantised.Kind == TileKind.Vnni ? AssembledTiles.For(format, rows) : null;
        if (assembled != null) assembled(tile);
        else format.MultiplyTile(in *tile, rows);
    }

    /// <summary>Brings a column run of results to y: as it is, or as up to the gate that is there.</summary>
    private readonly void Take(float* results, int stride, int count, float* y, bool isUp)
    {
        for (int i = 0; i < M; i++, results += stride, y += YStride)
        {
            ReadOnlySpan<float> from = new(results, count);
            Span<float> to = new(y, count);
            if (isUp) FastMath.GeluTanhMultiply(to, from, to);
            else from.CopyTo(to);
        }
    }
}
