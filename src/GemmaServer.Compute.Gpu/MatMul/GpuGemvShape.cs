namespace GemmaServer.Compute;

/// <summary>How warps share a matrix in a product of few rows; <c>gemv_cuda.cu</c> says why.</summary>
/// <param name="Out">Rows of weights that a warp reads side by side.</param>
/// <param name="Split">Warps that share them.</param>
internal readonly record struct GpuGemvShape(int Out, int Split)
{
    /// <summary>Lanes of a group.</summary>
    public const int Group = 128;

    private const int TileColumns = 1024, Stages = 3, MostSharedRows = 8, WarpsOfUnit = 16;

    /// <summary>The shape for a product.</summary>
    /// <param name="info">The device.</param>
    /// <param name="format">Of the weights.</param>
    /// <param name="rows">Rows of x that a group takes.</param>
    /// <param name="count">Rows of weights, gate and up together.</param>
    /// <param name="columns">Of x.</param>
    public static GpuGemvShape For(GpuInfo info, WeightFormat format, int rows, int count, int columns)
    {
        int read = format.IsQuantised && rows <= 4 ? 4 : 2, split = 1;
        while (split < 4 && 2 * split * rows <= MostSharedRows && split * TileColumns < columns && count / read * split < info.Units * WarpsOfUnit * 3 / 4) split *= 2;
        return new GpuGemvShape(read, split);
    }

    /// <summary>Rows of y that a group gives.</summary>
    public int Outputs(bool isGated) => Group / 32 / Split * (isGated ? Out / 2 : Out);

    /// <summary>Bytes of dynamic shared memory.</summary>
    public int SharedBytes(int rows) => Stages * Split * rows * TileColumns * sizeof(float);

    /// <summary>
    /// The most rows that f32 arithmetic multiplies as fast as memory brings the weights; with tensor cores at hand more rows go there.
    /// </summary>
    public static int MostRows(WeightFormat format) => !format.IsQuantised ? 8 : format.CodeBits == 8 ? 4 : 2;
}
