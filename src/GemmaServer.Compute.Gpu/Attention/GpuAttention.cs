using System.Numerics;

namespace GemmaServer.Compute;

/// <summary>
/// Attention: q/k norms, rotations, the KV store and the paged softmax. Rows of a prompt go in blocks that run through their
/// chunks of keys; single rows are split over their context, a chunk to a group, and added up in order. With
/// <see cref="GpuOptions.BatchInvariant"/> all rows go in blocks, so that a row's bits do not depend on how its prompt was cut. With
/// bf16 activations CUDA's tensor cores take a prompt's blocks (see <see cref="AttentionTile"/>).
/// </summary>
/// <param name="gpu">The device.</param>
/// <param name="step">What changes from step to step.</param>
/// <param name="options">Activations and invariance.</param>
/// <param name="mostSharedBytes">Shared memory that a group may take; 0: what the device gives. Tests ask for an older card's.</param>
internal sealed class GpuAttention(GpuContext gpu, GpuStep step, GpuOptions options, int mostSharedBytes = 0) : IDisposable
{
    private readonly List<GpuRope> _ropes = [];
    private readonly List<AttentionPlan> _shapes = [];
    private readonly Dictionary<AttentionPlan, AttentionKernels> _kernels = [];
    private readonly List<AttentionBlocks> _blocks = [];
    private AttentionBlocks _singles = null!;
    private GpuKvCache? _cache;
    private GpuBuffer _partial, _stats;

    /// <summary>Chunks of the longest context that is split, rounded up to a power of two: part of a graph's key.</summary>
    public int ContextBucket { get; private set; } = 1;

    public GpuKvCache CreateCache(KvCachePlan plan, Func<int, AttentionPlan> layerShape)
    {
        _shapes.Clear();
        _kernels.Clear();
        foreach (KvGroup group in plan.Groups)
            foreach (int layer in group.Layers) _shapes.Add(layerShape(layer));
        return _cache = new GpuKvCache(gpu, plan, layerShape);
    }

    public int AddRope(ReadOnlySpan<float> inverseFrequencies)
    {
        // A drafter turns as its target does: one table serves both.
        for (int i = 0; i < _ropes.Count; i++)
            if (_ropes[i].Is(inverseFrequencies)) return i;
        _ropes.Add(new GpuRope(gpu, step, inverseFrequencies));
        return _ropes.Count - 1;
    }

    public void Reserve(int maxRows, int maxSequences, ReadOnlySpan<AttentionPlan> readers)
    {
        foreach (GpuRope rope in _ropes) rope.Reserve(maxRows);
        _singles = new AttentionBlocks(gpu, step, 1, single: true, all: false);
        foreach (AttentionPlan reader in readers) _shapes.Add(reader);
        if (_cache is null || options.BatchInvariant) return;
        int rows = (int)Math.Min(maxRows, (long)maxSequences * AttentionBlocks.FewRows);
        long partial = 0, stats = 0, most = options.AttentionScratch;
        foreach (AttentionPlan shape in _shapes)
        {
            long tokens = (long)_cache.Plan.PageCount * _cache.Plan.Groups[shape.KvGroup].TokensPerPage;
            long results = (long)rows * shape.HeadCount * Chunks(shape, (int)Math.Min(tokens, int.MaxValue / 2));
            (partial, stats) = (Math.Max(partial, Math.Min(results * shape.HeadDim * sizeof(float), most)), Math.Max(stats, results * 2 * sizeof(float)));
        }
        _partial = gpu.Allocate(Math.Max(partial, sizeof(float)), "attention");
        // A chunk's sums are at least 16 floats to these two.
        _stats = gpu.Allocate(Math.Clamp(stats, sizeof(float), most / 8), "attention");
    }

    /// <summary>Once a step: rotations and blocks.</summary>
    public void Begin()
    {
        foreach (GpuRope rope in _ropes) rope.Fill();
        if (_cache is null) return;
        foreach (AttentionBlocks blocks in _blocks) blocks.Begin();
        if (options.BatchInvariant) return;
        _singles.Begin();
        ContextBucket = Chunks(_singles.LongestContext);
    }

    public void NormRopeStore(AttentionPlan plan, GpuVector qNorm, GpuVector kNorm, GpuTensor qkv, GpuKvCache cache)
    {
        AttentionKernels kernels = Kernels(plan, cache);
        GpuRope rope = _ropes[plan.Rope];
        int stored = plan.OwnsKv ? plan.KvHeadCount * (plan.ValueIsKey ? 1 : 2) : 0;
        kernels.NormRopeStore.Begin()
            .Add(step.Header).Add(step.Rows).Add(step.TableStarts).Add(step.Tables).Add(rope.Turns).Add(rope.Pairs).Add(qNorm.Buffer).Add(kNorm.Buffer)
            .Add(qkv.Buffer).Add(cache.Pages).Add(qkv.Columns).Add(plan.KvGroup * step.MaxSequences).Add(kernels.LayerOffset).Add(options.Epsilon)
            .Run(kernels.NormGroup, step.Grid, plan.HeadCount + stored);
    }

    public void Attend(AttentionPlan plan, GpuTensor qkv, GpuKvCache cache, GpuTensor heads)
    {
        AttentionKernels kernels = Kernels(plan, cache);
        AttentionBlocks blocks = BlocksOf(kernels.Blocks.RowsPerBlock);
        int count = options.BatchInvariant && step.IsDecode ? step.Grid : blocks.Count;
        Launch(kernels.Blocks, kernels, plan, blocks, count, qkv, cache, heads.Buffer, heads.Columns, 1);
        if (options.BatchInvariant) return;

        int rows = step.IsDecode ? step.Grid : _singles.Count, chunks = Chunks(plan, _singles.LongestContext);
        long results = (long)rows * plan.HeadCount * chunks;
        // Room for so many chunks' sums may not be there; then each row goes through its chunks in turn.
        if (chunks == 1 || results * plan.HeadDim * sizeof(float) > _partial.Bytes || results * 2 * sizeof(float) > _stats.Bytes)
        {
            Launch(kernels.Single, kernels, plan, _singles, rows, qkv, cache, heads.Buffer, heads.Columns, 1);
            return;
        }
        Launch(kernels.Split, kernels, plan, _singles, rows, qkv, cache, _partial, plan.HeadDim, chunks);
        kernels.Merge.Begin()
            .Add(_singles.Buffer).Add(step.Rows).Add(_partial).Add(_stats).Add(heads.Buffer)
            .Add(plan.HeadCount).Add(heads.Columns).Add(plan.Window).Add(plan.PastOnly ? 1 : 0).Add(chunks)
            .Run(AttentionKernels.MergeGroup, rows, plan.HeadCount);
    }

    public void Dispose()
    {
        foreach (GpuRope rope in _ropes) rope.Dispose();
        foreach (AttentionBlocks blocks in _blocks) blocks.Dispose();
        _singles?.Dispose();
        if (!_partial.IsNone) gpu.Free(_partial);
        if (!_stats.IsNone) gpu.Free(_stats);
    }

    private void Launch(
        AttentionProgram program, AttentionKernels kernels, AttentionPlan plan, AttentionBlocks blocks, int count, GpuTensor qkv, GpuKvCache cache,
        GpuBuffer to, int columns, int chunks) => program.Kernel.Begin()
        .Add(blocks.Buffer).Add(step.Rows).Add(step.TableStarts).Add(step.Tables).Add(cache.Pages).Add(qkv.Buffer).Add(to).Add(_stats)
        .Add(qkv.Columns).Add(columns).Add(plan.KvGroup * step.MaxSequences).Add(kernels.LayerOffset).Add(plan.Window).Add(plan.PastOnly ? 1 : 0).Add(chunks)
        .Run(program.Group, chunks, program.HeadGroups, count, program.SharedBytes);

    /// <summary>Chunks that cover a context, rounded up to a power of two; a window touches only so many.</summary>
    private static int Chunks(AttentionPlan plan, int context)
    {
        int all = Chunks(context);
        return plan.Window == 0 ? all : Math.Min(all, (Math.Max(plan.Window, 2) - 2) / AttentionKernels.ChunkKeys + 2);
    }

    private static int Chunks(int context) =>
        (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(1, (context + AttentionKernels.ChunkKeys - 1) / AttentionKernels.ChunkKeys));

    /// <summary>Compiled at a shape's first use.</summary>
    private AttentionKernels Kernels(AttentionPlan plan, GpuKvCache cache)
    {
        if (!_kernels.TryGetValue(plan, out AttentionKernels? kernels)) _kernels.Add(plan, kernels = new AttentionKernels(gpu, Tile(plan, cache), plan, cache));
        return kernels;
    }

    private AttentionTile? Tile(AttentionPlan plan, GpuKvCache cache)
    {
        GpuInfo info = mostSharedBytes > 0 ? gpu.Info with { LocalBytes = mostSharedBytes } : gpu.Info;
        return AttentionTile.For(info, options, plan, cache.Plan, cache.LayerOffset(plan.KvGroup, plan.KvIndex));
    }

    private AttentionBlocks BlocksOf(int rows)
    {
        foreach (AttentionBlocks blocks in _blocks)
            if (blocks.RowsPerBlock == rows) return blocks;
        AttentionBlocks made = new(gpu, step, rows, single: false, all: options.BatchInvariant);
        made.Begin();
        _blocks.Add(made);
        return made;
    }
}
