namespace GemmaServer.Compute;

/// <summary>A group's share of a prompt's attention on tensor cores; <c>attend_cuda.cu</c> says why these shapes.</summary>
/// <param name="Queries">Rows times heads.</param>
/// <param name="Keys">Keys of a tile.</param>
/// <param name="WarpsRows">Warps side by side along the queries of the sums.</param>
/// <param name="WarpsColumns">Warps side by side along the elements of a head.</param>
/// <param name="ScoreWarpsRows">The same warps along the queries of the scores.</param>
/// <param name="ScoreWarpsKeys">The same warps along the keys of the scores.</param>
/// <param name="Blocks">Groups that a multiprocessor shall hold.</param>
internal sealed record AttentionTile(int Queries, int Keys, int WarpsRows, int WarpsColumns, int ScoreWarpsRows, int ScoreWarpsKeys, int Blocks)
{
    /// <summary>Elements of a head that a warp's sums have room for.</summary>
    private const int MostColumns = 128;

    // By the warps that share a head's elements: the best that fits.
    private static readonly AttentionTile[] s_one = [new(64, 64, 4, 1, 4, 1, 2), new(64, 32, 4, 1, 4, 1, 2)];
    private static readonly AttentionTile[] s_two = [new(64, 64, 2, 2, 2, 2, 2), new(64, 32, 2, 2, 2, 2, 2), new(64, 32, 2, 2, 2, 2, 1)];
    private static readonly AttentionTile[] s_four =
        [new(64, 64, 2, 4, 4, 2, 1), new(64, 48, 2, 4, 4, 2, 1), new(64, 32, 2, 4, 4, 2, 1), new(32, 32, 1, 4, 2, 2, 1), new(32, 16, 1, 4, 2, 2, 1)];

    /// <summary>Lanes of a group.</summary>
    public int Group => 32 * WarpsRows * WarpsColumns;

    /// <summary>As the kernel's constants.</summary>
    public (string Name, int Value)[] Constants =>
    [
        ("QUERIES", Queries), ("KEYS", Keys), ("WARPS_ROWS", WarpsRows), ("WARPS_COLUMNS", WarpsColumns),
        ("SCORE_WARPS_ROWS", ScoreWarpsRows), ("SCORE_WARPS_KEYS", ScoreWarpsKeys), ("BLOCKS", Blocks),
    ];

    /// <summary>The tile for a layer; null where <c>attend.cl</c> serves it: other cards, exact arithmetic, other pages.</summary>
    /// <param name="info">The device.</param>
    /// <param name="options">Only bf16 activations round; with batch invariance single rows would have to come here too.</param>
    /// <param name="plan">The layer.</param>
    /// <param name="cache">Where its keys lie.</param>
    /// <param name="layerOffset">The layer's place in a page.</param>
    public static AttentionTile? For(GpuInfo info, GpuOptions options, AttentionPlan plan, KvCachePlan cache, int layerOffset)
    {
        if (!GpuTile.IsFor(info) || options.Activations != ActivationType.BF16 || options.BatchInvariant) return null;
        // Rows are copied as they are, by 16 bytes, and a compact row's value begins at such a place.
        int rowElements = plan.IsCompact ? plan.HeadDim + plan.KeyDim : plan.HeadDim;
        if (cache.Type is not (KvCacheType.F16 or KvCacheType.BF16) || cache.PageBytes % 16 != 0 || layerOffset % 16 != 0 || plan.KeyDim % 8 != 0) return null;
        int warps = 1;
        while (plan.HeadDim > MostColumns * warps) warps *= 2;
        if (warps > 4 || plan.HeadDim % (16 * warps) != 0 || plan.HeadCount / plan.KvHeadCount > 64) return null;
        foreach (AttentionTile tile in warps == 1 ? s_one : warps == 2 ? s_two : s_four)
            if (tile.Blocks * tile.SharedBytes(plan.HeadDim, rowElements) <= info.LocalBytes) return tile;
        return null;
    }

    /// <summary>Bytes of dynamic shared memory.</summary>
    /// <param name="headDim">Elements of a head.</param>
    /// <param name="rowElements">Of a row in the pages.</param>
    public int SharedBytes(int headDim, int rowElements) =>
        2 * (Queries * (headDim + 8) + 2 * Keys * (rowElements + 8) + Queries * (Keys + 8)) + 2 * Keys * sizeof(ulong) + (ScoreWarpsKeys + 1) * Queries * sizeof(float);
}
