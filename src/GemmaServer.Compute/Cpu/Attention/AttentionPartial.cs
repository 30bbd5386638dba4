using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>What one chunk of keys gives a block of queries: outputs, best scores and sums, not divided yet.</summary>
internal readonly unsafe struct AttentionPartial(float* start, int queries, int stride)
{
    public static int Floats(int queries, int stride) => (queries * (stride + 2) + 15) & ~15;

    public float* Outputs => start;

    public float* Best => start + (nint)queries * stride;

    public float* Sum => Best + queries;

    /// <summary>Adds a query's share of this chunk to what the chunks before gave.</summary>
    public void AddTo(ref AttentionTotal total, int query, float* y, int dim)
    {
        float best = Best[query];
        // The query sees none of these keys, whoever else does.
        if (float.IsNegativeInfinity(best)) return;
        float* x = Outputs + (nint)query * stride;
        if (float.IsNegativeInfinity(total.Best))
        {
            total = new(best, Sum[query]);
            new ReadOnlySpan<float>(x, dim).CopyTo(new(y, dim));
            return;
        }
        float max = MathF.Max(best, total.Best), mine = FastMath.Exp(best - max), before = FastMath.Exp(total.Best - max);
        total = new(max, MathF.FusedMultiplyAdd(Sum[query], mine, total.Sum * before));
        int i = 0;
        for (; i + 16 <= dim; i += 16)
            Vector512.FusedMultiplyAdd(Vector512.Load(x + i), Vector512.Create(mine), Vector512.Load(y + i) * before).Store(y + i);
        for (; i < dim; i++) y[i] = MathF.FusedMultiplyAdd(x[i], mine, y[i] * before);
    }
}

/// <summary>Best score and sum of a query's chunks so far; its output so far is in its row.</summary>
internal readonly record struct AttentionTotal(float Best, float Sum)
{
    public static AttentionTotal None => new(float.NegativeInfinity, 0);

    /// <summary>Divides a query's output and brings it into the model's order.</summary>
    public unsafe void Finish(AttentionPlan plan, float* y, float* scratch)
    {
        int dim = plan.HeadDim, i = 0;
        // Only a query without its own key may see none at all.
        if (float.IsNegativeInfinity(Best))
        {
            new Span<float>(y, dim).Clear();
            return;
        }
        float inverse = 1f / Sum;
        float* to = plan.IsCompact ? scratch : y;
        // Plus zero: a masked key may have turned a negative zero into a positive one.
        for (; i + 16 <= dim; i += 16) (Vector512.Load(y + i) * inverse + Vector512<float>.Zero).Store(to + i);
        for (; i < dim; i++) to[i] = y[i] * inverse + 0f;
        if (plan.IsCompact) new CompactRow(dim, plan.KeyDim).RestoreOutput(new(scratch, dim), new(y, dim));
    }
}

/// <summary>Adds up the chunks that several workers computed, in ascending order: an item is a head of a block's rows.</summary>
internal readonly unsafe struct AttentionMergeJob(AttentionPlan plan, AttentionSchedule schedule, AttentionScratch scratch, CpuTensor heads) : IWorkerJob
{
    public void Execute(int item, int worker)
    {
        AttentionUnit merge = schedule.Merges[item / plan.HeadCount];
        AttentionBlock block = schedule.Blocks[merge.Block];
        int head = item % plan.HeadCount, headsPerKv = plan.HeadCount / plan.KvHeadCount;
        int queries = block.RowCount * headsPerKv, stride = AttentionTiles.Stride(plan.HeadDim), floats = AttentionPartial.Floats(queries, stride);
        for (int row = block.FirstRow; row < block.FirstRow + block.RowCount; row++)
        {
            float* y = heads.Row(row) + head * plan.HeadDim;
            ref AttentionTotal total = ref scratch.Total(row, head);
            if (merge.FirstChunk == block.FirstChunk) total = AttentionTotal.None;
            float* slot = scratch.Slots + merge.Slot + (long)(head / headsPerKv) * floats;
            for (int chunk = merge.FirstChunk; chunk < merge.EndChunk; chunk++, slot += (long)plan.KvHeadCount * floats)
                new AttentionPartial(slot, queries, stride).AddTo(ref total, (row - block.FirstRow) * headsPerKv + head % headsPerKv, y, plan.HeadDim);
            if (merge.EndChunk == block.EndChunk) total.Finish(plan, y, scratch.Row(worker));
        }
    }
}
