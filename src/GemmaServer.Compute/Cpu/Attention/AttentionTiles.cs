namespace GemmaServer.Compute;

/// <summary>How attention cuts keys and queries.</summary>
internal static class AttentionTiles
{
    /// <summary>
    /// Keys of a chunk. Chunks begin at multiples of this position; each has a softmax of its own, and they are added up in
    /// ascending order. So a row's bits depend on its own keys alone, and the chunks of a long context can go to several workers.
    /// </summary>
    /// <remarks>A window of 512 touches three: two workers then share it evenly.</remarks>
    public const int ChunkKeys = 256;

    /// <summary>Keys decoded at a time: sixteen heads of 512 and four queries fit in the first cache level.</summary>
    public const int KeyTile = 16;

    /// <summary>Values decoded at a time; the kernel wants 64 columns of them in the first cache level.</summary>
    public const int ValueTile = 32;

    /// <summary>Queries (rows times heads of one key/value head) that share the decoding; their outputs fit in the second cache level.</summary>
    public const int BlockQueries = 64;

    /// <summary>Fewest queries worth a decoding of their own.</summary>
    public const int LeastQueries = 16;

    /// <summary>Distance of two queries' scores.</summary>
    public const int ScoreStride = ChunkKeys + 16;

    /// <summary>A head's elements rounded up to what the kernels take.</summary>
    public static int Width(int dim) => (dim + ValueKernels.Columns - 1) / ValueKernels.Columns * ValueKernels.Columns;

    /// <summary>Distance of two rows; a power of two would put columns of all rows into the same few cache sets.</summary>
    public static int Stride(int dim) => Width(dim) + 16;
}
