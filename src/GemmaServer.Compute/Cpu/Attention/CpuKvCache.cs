namespace GemmaServer.Compute;

/// <summary>
/// The KV pool in one native allocation of equal pages. Inside a page of a group, layer by layer:
/// <code>
/// | layer 0: K head 0 [tokens][dim] | K head 1 | … | V head 0 [tokens][dim] | V head 1 | … | layer 1 | … |
/// </code>
/// A head's keys of one page are contiguous, so that attention reads them as one stream.
/// </summary>
internal sealed unsafe class CpuKvCache : DeviceKvCache
{
    private readonly NativeBuffer _pages;
    private readonly long[][] _layerOffsets;

    public CpuKvCache(KvCachePlan plan, Func<int, AttentionPlan> layerShape) : base(plan)
    {
        _layerOffsets = new long[plan.Groups.Count][];
        for (int g = 0; g < plan.Groups.Count; g++)
        {
            KvGroup group = plan.Groups[g];
            long offset = 0;
            _layerOffsets[g] = new long[group.Layers.Count];
            for (int i = 0; i < group.Layers.Count; i++)
            {
                AttentionPlan shape = layerShape(group.Layers[i]);
                _layerOffsets[g][i] = offset;
                offset += 2L * shape.KvHeadCount * group.TokensPerPage * RowBytes(plan.Type, shape.HeadDim);
            }
            if (offset > plan.PageBytes)
                throw new ArgumentException($"KV group {g} needs {offset} bytes a page, the plan gives {plan.PageBytes}.");
        }
        _pages = new NativeBuffer(plan.PageBytes * plan.PageCount, zero: false);
    }

    /// <summary>Bytes of one head's key or value at one position.</summary>
    public static int RowBytes(KvCacheType type, int dim) => type switch
    {
        KvCacheType.F32 => KvF32.RowBytes(dim),
        KvCacheType.F16 => KvF16.RowBytes(dim),
        KvCacheType.BF16 => KvBF16.RowBytes(dim),
        KvCacheType.Q8_0 when dim % 32 == 0 => KvQ8.RowBytes(dim),
        KvCacheType.Q8_0 => throw new ArgumentException($"A q8_0 KV cache needs head dimensions in multiples of 32, not {dim}."),
        _ => throw new ArgumentOutOfRangeException(nameof(type)),
    };

    /// <summary>First byte of a layer's keys in a page.</summary>
    public byte* Layer(int page, int group, int index) => _pages.Pointer + page * Plan.PageBytes + _layerOffsets[group][index];

    public override void Dispose() => _pages.Dispose();
}
