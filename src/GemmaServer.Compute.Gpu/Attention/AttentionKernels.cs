namespace GemmaServer.Compute;

/// <summary>
/// One layer shape's kernels, compiled for its dimensions. Sources: <c>norm_rope_store.cl</c>, <c>attend.cl</c>, <c>attend_cuda.cu</c>,
/// <c>merge_chunks.cl</c>.
/// </summary>
internal sealed class AttentionKernels
{
    /// <summary>Lanes of the attention kernel and keys of a chunk; chunks begin at multiples of this position.</summary>
    public const int ChunkKeys = 256;

    /// <summary>Lanes of the kernel that adds chunks up.</summary>
    public const int MergeGroup = 128;

    /// <summary>Most queries (rows times heads) of a group of <c>attend.cl</c>: their sums lie in registers.</summary>
    private const int MostQueries = 16;

    /// <param name="gpu">The device.</param>
    /// <param name="tile">Of a prompt's blocks on tensor cores; null: <c>attend.cl</c> takes them.</param>
    /// <param name="plan">The layer.</param>
    /// <param name="cache">Where its keys lie.</param>
    public AttentionKernels(GpuContext gpu, AttentionTile? tile, AttentionPlan plan, GpuKvCache cache)
    {
        int headsPerKv = plan.HeadCount / plan.KvHeadCount, heads = HeadsOf(MostQueries);
        NormGroup = plan.HeadDim >= 256 ? 128 : 64;
        LayerOffset = cache.LayerOffset(plan.KvGroup, plan.KvIndex);
        int groups = Math.Clamp(ChunkKeys / (plan.HeadDim / 4), 1, 8);
        // 16-byte addresses of four floats, 8-byte ones of four halves.
        bool aligned = cache.Plan.PageBytes % 16 == 0 && LayerOffset % 16 == 0 && plan.KeyDim % 4 == 0;
        (string, int)[] shape =
        [
            ("DIM", plan.HeadDim), ("KEY_DIM", plan.KeyDim), ("KV_HEADS", plan.KvHeadCount), ("TOKENS_PER_PAGE", cache.Plan.Groups[plan.KvGroup].TokensPerPage),
            ("PAGE_BYTES", (int)cache.Plan.PageBytes), ("KV_TYPE", (int)cache.Plan.Type), ("ALIGNED", aligned ? 1 : 0),
        ];
        NormRopeStore = gpu.Kernel(new KernelSource("norm_rope_store.cl", ["kv.h"],
            [.. shape, ("GROUP", NormGroup), ("HEADS", plan.HeadCount), ("VALUE_IS_KEY", plan.ValueIsKey ? 1 : 0)]), "norm_rope_store");
        Blocks = tile is not null ? AttendOn(tile) : Attend(MostQueries / heads, split: false);
        Single = Attend(1, split: false);
        Split = Attend(1, split: true);
        Merge = gpu.Kernel(new KernelSource("merge_chunks.cl", ["kv.h"], [.. shape, ("GROUP", MergeGroup), ("CHUNK", ChunkKeys)]), "merge_chunks");

        AttentionProgram Attend(int rows, bool split) => new(gpu.Kernel(new KernelSource("attend.cl", ["kv.h"],
        [
            .. shape, ("GROUP", ChunkKeys), ("KEY_GROUPS", groups), ("HEADS_PER_KV", headsPerKv), ("HEADS", heads), ("ROWS", rows),
            ("QUERIES", (rows * heads + 3) / 4 * 4), ("SLICE", plan.HeadDim % 32 == 0 ? 32 : 16), ("SPLIT", split ? 1 : 0),
        ]), "attend"), rows, ChunkKeys, plan.HeadCount / heads, SharedBytes: 0);

        AttentionProgram AttendOn(AttentionTile on)
        {
            int tileHeads = HeadsOf(on.Queries);
            GpuKernel kernel = gpu.Kernel(new KernelSource("attend_cuda.cu", ["kv.h", "cuda_tensor.h"],
                [.. shape, .. on.Constants, ("HEADS_PER_KV", headsPerKv), ("HEADS", tileHeads)]), "attend");
            int rowElements = plan.IsCompact ? plan.HeadDim + plan.KeyDim : plan.HeadDim;
            return new AttentionProgram(kernel, on.Queries / tileHeads, on.Group, plan.HeadCount / tileHeads, on.SharedBytes(plan.HeadDim, rowElements));
        }

        // Groups of one size share a key/value head.
        int HeadsOf(int queries)
        {
            int most = Math.Min(headsPerKv, queries);
            while (headsPerKv % most != 0) most--;
            return most;
        }
    }

    /// <summary>Lanes of the norms' kernel.</summary>
    public int NormGroup { get; }

    /// <summary>The layer's place in a page.</summary>
    public int LayerOffset { get; }

    public GpuKernel NormRopeStore { get; }

    /// <summary>Blocks of several rows, all their keys one after the other.</summary>
    public AttentionProgram Blocks { get; }

    /// <summary>Blocks of one row, all their chunks one after the other.</summary>
    public AttentionProgram Single { get; }

    /// <summary>Blocks of one row, a chunk to a group.</summary>
    public AttentionProgram Split { get; }

    public GpuKernel Merge { get; }
}

/// <summary>An attention kernel and how it is launched; the arguments are those of <c>attend.cl</c>.</summary>
/// <param name="Kernel">Compiled.</param>
/// <param name="RowsPerBlock">Rows that a group takes.</param>
/// <param name="Group">Lanes.</param>
/// <param name="HeadGroups">Groups for the heads of a block.</param>
/// <param name="SharedBytes">Dynamic shared memory.</param>
internal sealed record AttentionProgram(GpuKernel Kernel, int RowsPerBlock, int Group, int HeadGroups, int SharedBytes);
