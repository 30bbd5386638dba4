using System.Globalization;

namespace GemmaServer.Compute;

/// <summary>The KV pool on the device: one buffer of equal pages, laid out as <c>CpuKvCache</c> draws them.</summary>
internal sealed class GpuKvCache : DeviceKvCache
{
    private readonly GpuContext _gpu;
    private readonly int[][] _layerOffsets;

    /// <exception cref="GpuException">The device gives no buffer of that size.</exception>
    public GpuKvCache(GpuContext gpu, KvCachePlan plan, Func<int, AttentionPlan> layerShape) : base(plan)
    {
        _gpu = gpu;
        _layerOffsets = new int[plan.Groups.Count][];
        for (int g = 0; g < plan.Groups.Count; g++)
        {
            KvGroup group = plan.Groups[g];
            long offset = 0;
            _layerOffsets[g] = new int[group.Layers.Count];
            for (int i = 0; i < group.Layers.Count; i++)
            {
                AttentionPlan shape = layerShape(group.Layers[i]);
                _layerOffsets[g][i] = checked((int)offset);
                offset += group.TokensPerPage * KvLayout.BytesPerToken(plan.Type, shape.KvHeadCount, shape.HeadDim, shape.KeyDim);
            }
            if (offset > plan.PageBytes)
                throw new ArgumentException($"KV group {g} needs {offset} bytes a page, the plan gives {plan.PageBytes}.");
        }
        // Kernels find a page at its number times a whole number of 32 bits; the product has 64.
        ArgumentOutOfRangeException.ThrowIfGreaterThan(plan.PageBytes, int.MaxValue, nameof(plan));
        long bytes = plan.PageBytes * plan.PageCount;
        if (bytes > gpu.Info.LargestBuffer)
        {
            throw new GpuException(string.Create(CultureInfo.InvariantCulture,
                $"The KV cache is one buffer of {bytes} bytes, and {gpu.Info.Id} ({gpu.Info.Name}) gives none of more than {gpu.Info.LargestBuffer}: set --kv-cache-memory to at most that."));
        }
        Pages = gpu.Allocate(bytes, "the KV cache");
    }

    /// <summary>All pages.</summary>
    public GpuBuffer Pages { get; }

    /// <summary>First byte of a layer's rows in a page.</summary>
    public int LayerOffset(int group, int index) => _layerOffsets[group][index];

    public override void Dispose() => _gpu.Free(Pages);
}
