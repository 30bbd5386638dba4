namespace GemmaServer.Compute;

/// <summary>A group's share of a product on tensor cores; <c>gemm_cuda.cu</c> says why these shapes.</summary>
/// <param name="Rows">Rows of x.</param>
/// <param name="Columns">Rows of weights, which are columns of y.</param>
/// <param name="WarpsRows">Warps side by side along the rows.</param>
/// <param name="WarpsColumns">Warps side by side along the columns.</param>
/// <param name="Stages">Slices of columns in shared memory, the one that is computed from included.</param>
/// <param name="Blocks">Groups that a multiprocessor shall hold, so many registers a lane has.</param>
internal sealed record GpuTile(int Rows, int Columns, int WarpsRows, int WarpsColumns, int Stages, int Blocks)
{
    // Few rows: bound by reading weights, so many small groups with many slices under way.
    private static readonly GpuTile s_16 = new(16, 32, 1, 2, 6, 4), s_32 = new(32, 64, 1, 4, 4, 2), s_64 = new(64, 64, 2, 2, 4, 2);
    private static readonly GpuTile s_decoding = new(128, 128, 2, 4, 3, 2), s_copying = new(128, 128, 2, 2, 3, 2), s_large = new(128, 256, 2, 4, 3, 1);

    /// <summary>Lanes of a group.</summary>
    public int Group => 32 * WarpsRows * WarpsColumns;

    /// <summary>As the kernel's constants.</summary>
    public (string Name, int Value)[] Constants =>
        [("TILE_ROWS", Rows), ("TILE_N", Columns), ("WARPS_ROWS", WarpsRows), ("WARPS_N", WarpsColumns), ("STAGES", Stages), ("BLOCKS", Blocks)];

    /// <summary>The tile for a product.</summary>
    /// <param name="info">The device.</param>
    /// <param name="type">Of the weights.</param>
    /// <param name="rows">Rows of x.</param>
    /// <param name="columns">Rows of weights.</param>
    public static GpuTile For(GpuInfo info, TensorType type, int rows, int columns)
    {
        if (rows <= 16) return s_16;
        if (rows <= 32) return s_32;
        if (rows <= 64) return s_64;
        if (type != TensorType.BF16) return s_decoding;
        bool fills = (rows + s_large.Rows - 1) / s_large.Rows * (columns / s_large.Columns) >= info.Units;
        return fills && s_large.SharedBytes(type) <= info.LocalBytes ? s_large : s_copying;
    }

    /// <summary>Whether a device has what these kernels use.</summary>
    public static bool IsFor(GpuInfo info) => info.Api == GpuApi.Cuda && info.Architecture >= 80;

    /// <summary>Bytes of dynamic shared memory: slices of 128 bytes a row, of decoded weights two.</summary>
    public int SharedBytes(TensorType type) => (Stages * Rows + (type == TensorType.BF16 ? Stages : 2) * Columns) * 128;
}
