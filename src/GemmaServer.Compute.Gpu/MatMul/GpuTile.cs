namespace GemmaServer.Compute;

/// <summary>A group's share of a product on tensor cores; <c>gemm_cuda.cu</c> and <c>gemm_bytes_cuda.cu</c> say why these shapes.</summary>
/// <param name="Rows">Rows of x.</param>
/// <param name="Columns">Rows of weights, which are columns of y.</param>
/// <param name="WarpsRows">Warps side by side along the rows.</param>
/// <param name="WarpsColumns">Warps side by side along the columns.</param>
/// <param name="Stages">Slices of columns in shared memory, the one that is computed from included.</param>
/// <param name="Blocks">Groups that a multiprocessor shall hold, so many registers a lane has.</param>
internal sealed record GpuTile(int Rows, int Columns, int WarpsRows, int WarpsColumns, int Stages, int Blocks)
{
    // Few rows: bound by reading weights, so many small groups with many slices under way. Where there are columns enough, wide ones: x
    // comes from the second cache once for more of them.
    private static readonly GpuTile s_16 = new(16, 32, 1, 2, 6, 4), s_32 = new(32, 64, 1, 4, 4, 2), s_64 = new(64, 64, 2, 2, 4, 2);
    private static readonly GpuTile s_wide32 = new(32, 128, 1, 4, 4, 2), s_wide64 = new(64, 128, 2, 2, 3, 2);
    private static readonly GpuTile s_decoding = new(128, 128, 2, 4, 3, 2), s_copying = new(128, 128, 2, 2, 3, 2), s_large = new(128, 256, 2, 4, 3, 1);

    // Products of bytes: registers go into the scales.
    private static readonly GpuTile s_bytes16 = new(16, 32, 1, 2, 4, 4), s_bytes32 = new(32, 64, 1, 4, 3, 2), s_bytes64 = new(64, 64, 2, 2, 3, 2), s_bytes128 = new(128, 64, 8, 1, 2, 2);

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
        bool isWide = columns / s_wide32.Columns >= info.Units;
        if (rows <= 32) return isWide ? s_wide32 : s_32;
        if (rows <= 64) return isWide ? s_wide64 : s_64;
        if (type != TensorType.BF16) return s_decoding;
        bool fills = (rows + s_large.Rows - 1) / s_large.Rows * (columns / s_large.Columns) >= info.Units;
        return fills && s_large.SharedBytes(type) <= info.LocalBytes ? s_large : s_copying;
    }

    /// <summary>The tile for a product of bytes.</summary>
    public static GpuTile ForBytes(int rows) => rows <= 16 ? s_bytes16 : rows <= 32 ? s_bytes32 : rows <= 64 ? s_bytes64 : s_bytes128;

    /// <summary>The tile for a mixture's products.</summary>
    /// <param name="type">Of the weights.</param>
    /// <param name="places">As many as <see cref="ExpertPlaces"/> said.</param>
    public static GpuTile ForExperts(TensorType type, int places) => places switch
    {
        16 => s_16,
        32 => s_32,
        64 => s_64,
        _ => type == TensorType.BF16 ? s_copying : s_decoding,
    };

    /// <summary>Places of a tile when experts have so many each.</summary>
    public static int ExpertPlaces(int average) => average <= 12 ? 16 : average <= 24 ? 32 : average <= 64 ? 64 : 128;

    /// <summary>Whether a device has what these kernels use.</summary>
    public static bool IsFor(GpuInfo info) => info.Api == GpuApi.Cuda && info.Architecture >= 80;

    /// <summary>Bytes of dynamic shared memory: slices of 128 bytes a row, of decoded weights two.</summary>
    public int SharedBytes(TensorType type) => (Stages * Rows + (type == TensorType.BF16 ? Stages : 2) * Columns) * 128;

    /// <summary>The same for a product of bytes: with the scales of four groups to a slice.</summary>
    public int SharedBytesOfBytes => Stages * Rows * (128 + 4 * 8) + 2 * Columns * (128 + 4 * 16);
}
