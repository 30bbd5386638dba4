using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>The KV pool in one buffer of equal pages; see <see cref="AttentionKernels"/> for what is inside.</summary>
internal sealed class IlgpuKvCache : DeviceKvCache
{
    private readonly long[][] _layerFours;

    /// <exception cref="NotSupportedException">The device's kernels cannot hold the pool's shapes.</exception>
    public IlgpuKvCache(IlgpuRuntime runtime, KvCachePlan plan, Func<int, AttentionPlan> layerShape) : base(plan)
    {
        ElementBytes = plan.Type switch
        {
            KvCacheType.F32 => 4,
            KvCacheType.F16 or KvCacheType.BF16 => 2,
            _ => 1,
        };
        bool hasScales = plan.Type == KvCacheType.Q8_0;
        _layerFours = new long[plan.Groups.Count][];
        long most = 0;
        for (int g = 0; g < plan.Groups.Count; g++)
        {
            KvGroup group = plan.Groups[g];
            _layerFours[g] = new long[group.Layers.Count];
            long fours = 0;
            for (int i = 0; i < group.Layers.Count; i++)
            {
                AttentionPlan shape = layerShape(group.Layers[i]);
                int step = hasScales ? 32 : 8;
                if (shape.HeadDim % step != 0) throw new NotSupportedException($"The ILGPU device needs heads in multiples of {step} elements, not {shape.HeadDim}.");
                _layerFours[g][i] = fours;
                fours += (long)group.TokensPerPage * shape.KvHeadCount * (shape.HeadDim + (shape.IsCompact ? 2 * StoredPairs(shape) : shape.HeadDim)) / 4;
            }
            most = Math.Max(most, fours);
        }
        // Eight fours share two bytes of scale.
        long bytes = most * 4 * ElementBytes + (hasScales ? most / 8 * 2 : 0);
        if (bytes > plan.PageBytes) throw new ArgumentException($"Pages need {bytes} bytes, the plan gives {plan.PageBytes}.");
        PageFours = most;
        long words = PageFours * plan.PageCount * ElementBytes;
        Scales = 2 * words;
        Buffer = runtime.Allocate<uint>(words + (hasScales ? (PageFours / 8 * plan.PageCount + 1) / 2 : 0));
    }

    /// <summary>Pairs of a compact key, rounded up to what kernels take at a time: those that are too many turn by nothing.</summary>
    public static int StoredPairs(AttentionPlan plan) => Math.Min((plan.KeyDim / 2 + 3) / 4 * 4, plan.HeadDim / 2);

    public int ElementBytes { get; }

    /// <summary>Fours of elements in a page.</summary>
    public long PageFours { get; }

    /// <summary>Where scales begin, behind all pages, in halves.</summary>
    public long Scales { get; }

    public MemoryBuffer1D<uint, Stride1D.Dense> Buffer { get; }

    /// <summary>Where a layer's begin in a page.</summary>
    public long LayerFours(int group, int index) => _layerFours[group][index];

    public override void Dispose() => Buffer.Dispose();
}
