namespace GemmaServer.Compute;

/// <summary>
/// How many elements of a key a layer stores, and so what a position costs: the one place that planner, pages and kernels ask.
/// </summary>
/// <remarks>
/// Where a layer's values are its raw keys, both are RMS normalisations of one vector, so an element that the layer's rope
/// leaves alone is <c>k[j] = v[j] · k_norm[j]</c>. Such a layer stores its values and the 2 · pairs rotated elements of its
/// keys only, and <c>k_norm</c> goes into the query instead: q·k = Σ over rotated q·k + Σ over the others (q·k_norm)·v.
/// </remarks>
public static class KvLayout
{
    /// <summary>Stored elements of a key: <paramref name="headDim"/>, or fewer where the value stands for the rest.</summary>
    /// <param name="type">Element type.</param>
    /// <param name="headDim">Elements of a head.</param>
    /// <param name="valueIsKey">Whether the layer that fills the cache has no value projection.</param>
    /// <param name="rotatingPairs">Leading pairs (i, i + headDim/2) that the layer's rope rotates.</param>
    public static int KeyDim(KvCacheType type, int headDim, bool valueIsKey, int rotatingPairs)
    {
        // A block of 32 with one scale cannot straddle keys and values: then the layer stores whole keys.
        bool wholeBlocks = type != KvCacheType.Q8_0 || 2 * rotatingPairs % 32 == 0;
        return valueIsKey && wholeBlocks ? Math.Min(2 * rotatingPairs, headDim) : headDim;
    }

    /// <summary>Bytes that one position takes in one layer: keys and values of all heads.</summary>
    /// <param name="type">Element type.</param>
    /// <param name="heads">Key/value heads.</param>
    /// <param name="headDim">Elements of a head.</param>
    /// <param name="keyDim">What <see cref="KeyDim"/> says.</param>
    /// <exception cref="ArgumentException">The type cannot hold a head of that size.</exception>
    public static long BytesPerToken(KvCacheType type, int heads, int headDim, int keyDim) =>
        (long)heads * (RowBytes(type, headDim) + RowBytes(type, keyDim));

    /// <summary>Bytes of so many elements in a row.</summary>
    private static int RowBytes(KvCacheType type, int elements) => type switch
    {
        KvCacheType.F32 => KvF32.RowBytes(elements),
        KvCacheType.F16 => KvF16.RowBytes(elements),
        KvCacheType.BF16 => KvBF16.RowBytes(elements),
        KvCacheType.Q8_0 when elements % 32 == 0 => KvQ8.RowBytes(elements),
        KvCacheType.Q8_0 => throw new ArgumentException($"A q8_0 KV cache needs head dimensions in multiples of 32, not {elements}."),
        _ => throw new ArgumentOutOfRangeException(nameof(type)),
    };
}
