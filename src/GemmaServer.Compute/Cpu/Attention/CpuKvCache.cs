namespace GemmaServer.Compute;

/// <summary>
/// The KV pool in one native allocation of equal pages. Inside a page of a group, layer by layer:
/// <code>
/// | layer 0: K head 0 [tokens][dim] | K head 1 | … | V head 0 [tokens][dim] | V head 1 | … | layer 1 | … |
/// </code>
/// A head's keys of one page are contiguous, so that attention reads them as one stream. A compact layer has one such stream
/// of <see cref="CompactRow"/>s for each head instead of two.
/// </summary>
internal sealed unsafe class CpuKvCache : DeviceKvCache
{
    private readonly AlignedBuffer _pages;
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
                offset += group.TokensPerPage * KvLayout.BytesPerToken(plan.Type, shape.KvHeadCount, shape.HeadDim, shape.KeyDim);
            }
            if (offset > plan.PageBytes)
                throw new ArgumentException($"KV group {g} needs {offset} bytes a page, the plan gives {plan.PageBytes}.");
        }
        _pages = new AlignedBuffer(plan.PageBytes * plan.PageCount);
    }

    /// <summary>First byte of a layer's rows in a page.</summary>
    public byte* Layer(int page, int group, int index) => _pages.Pointer + page * Plan.PageBytes + _layerOffsets[group][index];

    public override void Dispose() => _pages.Dispose();
}
