using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Norms, rotation, the pool and attention. Kernels: <see cref="AttentionKernels"/>.</summary>
internal sealed class IlgpuAttention(IlgpuRuntime runtime, IlgpuStep step, float epsilon) : IDisposable
{
    /// <summary>Floats of scores and partial results at most, unless one row needs more: 64 MiB.</summary>
    private const long MostScratch = 1 << 24;

    /// <summary>Keys that a row may see: twice Gemma 4's longest context.</summary>
    private const long MostKeys = 1 << 19;

    /// <summary>Lanes that share a head: of 512 elements each takes two fours.</summary>
    private const int MostHeadLanes = 64;

    private readonly List<IlgpuRope> _ropes = [];
    private readonly KvKernels?[] _kernels = new KvKernels?[Enum.GetValues<KvCacheType>().Length];
    private readonly Action<KernelConfig, AttentionShape, ArrayView<int>, ArrayView<float>, ArrayView<float>> _softmax =
        runtime.Load("the softmax", static a => a.LoadStreamKernel<AttentionShape, ArrayView<int>, ArrayView<float>, ArrayView<float>>(AttentionKernels.Softmax));

    private readonly Action<KernelConfig, AttentionShape, ArrayView<float>, ArrayView<float>, ArrayView<float>> _merge =
        runtime.Load("attention's sum", static a => a.LoadStreamKernel<AttentionShape, ArrayView<float>, ArrayView<float>, ArrayView<float>>(AttentionKernels.Merge));

    private MemoryBuffer1D<float, Stride1D.Dense>? _scratch;
    private long _mostTokens, _mostPerToken;

    /// <summary>The pool; its kernels are compiled here.</summary>
    public IlgpuKvCache CreateCache(KvCachePlan plan, Func<int, AttentionPlan> layerShape)
    {
        IlgpuKvCache cache = new(runtime, plan, layerShape);
        Kernels(plan.Type);
        foreach (KvGroup group in plan.Groups)
        {
            _mostTokens = Math.Max(_mostTokens, group.Window > 0 ? group.Window : Math.Min(MostKeys, (long)plan.PageCount * group.TokensPerPage));
            foreach (int layer in group.Layers) Widen(layerShape(layer));
        }
        return cache;
    }

    public int AddRope(ReadOnlySpan<float> inverseFrequencies)
    {
        // A drafter turns as its target does: one table serves both.
        for (int i = 0; i < _ropes.Count; i++)
            if (_ropes[i].Is(inverseFrequencies)) return i;
        _ropes.Add(new IlgpuRope(inverseFrequencies));
        return _ropes.Count - 1;
    }

    public void Reserve(int rows, ReadOnlySpan<AttentionPlan> readers)
    {
        foreach (AttentionPlan reader in readers) Widen(reader);
        foreach (IlgpuRope rope in _ropes) rope.Reserve(runtime, rows);
        _scratch?.Dispose();
        long perRow = (_mostTokens + 2 * AttentionKernels.Chunk) * _mostPerToken;
        _scratch = runtime.Allocate<float>(Math.Max(perRow, Math.Min(MostScratch, perRow * rows)));
    }

    public void Begin()
    {
        foreach (IlgpuRope rope in _ropes) rope.Begin(step.Host);
    }

    public void NormRopeStore(AttentionPlan plan, IlgpuVector qNorm, IlgpuVector kNorm, IlgpuTensor qkv, IlgpuKvCache cache)
    {
        int heads = plan.HeadCount + (plan.OwnsKv ? plan.KvHeadCount : 0), lanes = Math.Min(runtime.Shape.RowLanes, MostHeadLanes);
        RowShape shape = new(step.RowCount * heads, plan.HeadDim, lanes, epsilon);
        KernelConfig config = lanes == 1 ? runtime.Rows(shape.Rows) : new KernelConfig(runtime.Shape.RowGroups(shape.Rows), lanes);
        Kernels(cache.Plan.Type).NormRopeStore(
            config, Shape(plan, qkv, qkv, cache), shape, step.Rows, step.Starts, step.Tables, _ropes[plan.Rope].View, qNorm.View, kNorm.View, qkv.View, cache.Buffer.View);
    }

    public void Attend(AttentionPlan plan, IlgpuTensor qkv, IlgpuKvCache cache, IlgpuTensor heads)
    {
        KvKernels kernels = Kernels(cache.Plan.Type);
        AttentionShape all = Shape(plan, qkv, heads, cache);
        for (int first = 0; first < step.RowCount;)
        {
            AttentionShape a = Portion(all, first);
            long queries = (long)a.Rows * a.Heads, chunks = a.Span / AttentionKernels.Chunk;
            ArrayView<float> scratch = _scratch!.View, scores = scratch.SubView(0, queries * a.Span);
            // Views begin at multiples of 256 bytes, as ILGPU takes for granted: a chunk of scores has 512.
            ArrayView<float> partial = scratch.SubView(queries * a.Span, queries * chunks * a.HeadDim);
            ArrayView<float> about = scratch.SubView(Aligned(queries * (a.Span + chunks * a.HeadDim)), 2 * queries * chunks);
            kernels.Score(runtime.Flat(queries * a.Span), a, step.Rows, step.Starts, step.Tables, qkv.View, cache.Buffer.View, scores);
            _softmax(runtime.Flat(queries * chunks), a, step.Rows, scores, about);
            kernels.AddValues(runtime.Flat(queries * chunks * a.HeadDim / 4), a, step.Rows, step.Starts, step.Tables, cache.Buffer.View, scores, partial);
            _merge(runtime.Flat(queries * a.HeadDim / 4), a, about, partial, heads.View);
            first += a.Rows;
        }
    }

    public void Dispose()
    {
        foreach (IlgpuRope rope in _ropes) rope.Dispose();
        _scratch?.Dispose();
    }

    private static long Aligned(long floats) => (floats + 63) / 64 * 64;

    /// <summary>As many rows as the scratch holds.</summary>
    private AttentionShape Portion(AttentionShape all, int first)
    {
        int rows = 0, span = 0;
        for (int row = first; row < step.RowCount; row++)
        {
            int position = step.Host.Position(row), end = all.PastOnly != 0 ? position : position + 1;
            int low = (all.Window == 0 ? 0 : Math.Max(0, position - all.Window + 1)) / AttentionKernels.Chunk;
            int wider = Math.Max(span, Math.Max(1, (end + AttentionKernels.Chunk - 1) / AttentionKernels.Chunk - low) * AttentionKernels.Chunk);
            long needed = (rows + 1L) * all.Heads * (wider + wider / AttentionKernels.Chunk * (all.HeadDim + 2)) + 64;
            if (rows > 0 && needed > _scratch!.Length) break;
            (rows, span) = (rows + 1, wider);
        }
        return all with { FirstRow = first, Rows = rows, Span = span };
    }

    private AttentionShape Shape(AttentionPlan plan, IlgpuTensor qkv, IlgpuTensor heads, IlgpuKvCache cache)
    {
        KvGroup group = cache.Plan.Groups[plan.KvGroup];
        return new AttentionShape(
            0, step.RowCount, plan.HeadCount, plan.KvHeadCount, plan.HeadDim, plan.IsCompact ? IlgpuKvCache.StoredPairs(plan) : _ropes[plan.Rope].Pairs,
            plan.IsCompact ? 1 : 0, plan.OwnsKv ? 1 : 0, plan.ValueIsKey ? 1 : 0, plan.PastOnly ? 1 : 0, plan.Window,
            qkv.Stride, heads.Stride, 0, group.TokensPerPage, plan.KvGroup * step.MaxSequences, cache.PageFours, cache.LayerFours(plan.KvGroup, plan.KvIndex), cache.Scales);
    }

    private void Widen(AttentionPlan shape) =>
        _mostPerToken = Math.Max(_mostPerToken, shape.HeadCount * (1L + (shape.HeadDim + 2 + AttentionKernels.Chunk - 1) / AttentionKernels.Chunk));

    private KvKernels Kernels(KvCacheType type) => _kernels[(int)type] ??= type switch
    {
        KvCacheType.F32 => Load<KvFloats>(),
        KvCacheType.F16 => Load<KvHalves>(),
        KvCacheType.BF16 => Load<KvBFloats>(),
        _ => Load<KvBytes>(StoreKernels.NormRopeQuantise),
    };

    private KvKernels Load<TKv>() where TKv : struct, IKvStore => Load<TKv>(StoreKernels.NormRopeStore<TKv>);

    private KvKernels Load<TKv>(
        Action<AttentionShape, RowShape, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<uint>> store)
        where TKv : struct, IKvElements
    {
        string of = typeof(TKv).Name;
        return new KvKernels(
            runtime.Load($"norm, rotation and store of {of}", a => a.LoadStreamKernel(store)),
            runtime.Load($"scores with {of}", static a => a.LoadStreamKernel<
                AttentionShape, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<float>, ArrayView<uint>, ArrayView<float>>(AttentionKernels.Score<TKv>)),
            runtime.Load($"weighted values of {of}", static a => a.LoadStreamKernel<
                AttentionShape, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<uint>, ArrayView<float>, ArrayView<float>>(AttentionKernels.AddValues<TKv>)));
    }

    private sealed record KvKernels(
        Action<KernelConfig, AttentionShape, RowShape, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<uint>> NormRopeStore,
        Action<KernelConfig, AttentionShape, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<float>, ArrayView<uint>, ArrayView<float>> Score,
        Action<KernelConfig, AttentionShape, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<uint>, ArrayView<float>, ArrayView<float>> AddValues);
}
