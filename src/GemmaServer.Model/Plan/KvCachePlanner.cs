using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>Groups layers so that pages of all groups have nearly equal bytes, and sizes the pool.</summary>
/// <remarks>
/// As many sliding layers to a group as there are global ones (12B: five sliding groups of 8 beside 8 global; E2B: four of
/// 3 beside 3). The group that is heaviest per token gets the base block size; lighter ones get as many tokens more as fit,
/// in whole base blocks, so one pool of equal pages serves all. Layers that read another layer's cache own nothing.
/// </remarks>
public static class KvCachePlanner
{
    /// <summary>Groups and page shape, with no pages yet.</summary>
    /// <param name="config">The model.</param>
    /// <param name="type">Element type.</param>
    /// <param name="blockSize">Tokens in a page of the heaviest group; a multiple of 8.</param>
    public static KvCachePlan Plan(ModelConfig config, KvCacheType type, int blockSize)
    {
        List<LayerConfig> sliding = [.. config.Layers.Where(l => l.OwnsKv && l.IsSliding)];
        List<LayerConfig> global = [.. config.Layers.Where(l => l.OwnsKv && !l.IsSliding)];
        int perGroup = Math.Max(1, global.Count);

        List<(IReadOnlyList<LayerConfig> Layers, int Window)> groups = [];
        foreach (LayerConfig[] chunk in sliding.Chunk(perGroup)) groups.Add((chunk, config.SlidingWindow));
        if (global.Count > 0) groups.Add((global, 0));

        long[] bytes = [.. groups.Select(g => g.Layers.Sum(l => BytesPerToken(config, l, type)))];
        long pageBytes = bytes.Max() * blockSize;
        // Multiples of 64 keep every page aligned for vector loads.
        pageBytes = (pageBytes + 63) / 64 * 64;
        return new KvCachePlan(
            [.. groups.Select((g, i) => new KvGroup(
                [.. g.Layers.Select(l => l.Index)], g.Window, (int)(pageBytes / bytes[i] / blockSize) * blockSize, bytes[i]))],
            pageBytes, 0, type);
    }

    /// <summary>Elements of a key that <paramref name="owner"/>, a layer with a cache of its own, stores; see <see cref="KvLayout"/>.</summary>
    public static int KeyDim(ModelConfig config, LayerConfig owner, KvCacheType type) =>
        KvLayout.KeyDim(type, owner.HeadDim, owner.ValueIsKey, RopeFrequencies.For(config, owner).AsSpan().TrimEnd(0f).Length);

    /// <summary>Bytes that one position takes in one layer: keys and values of all heads.</summary>
    public static long BytesPerToken(ModelConfig config, LayerConfig owner, KvCacheType type) =>
        KvLayout.BytesPerToken(type, owner.KvHeadCount, owner.HeadDim, KeyDim(config, owner, type));
}
