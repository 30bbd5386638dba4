using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>
/// Attention over the pages. An item is a block of query rows of one sequence, times one key/value head, times all or one of the
/// chunks of keys (see <see cref="AttentionTiles"/>).
/// </summary>
/// <remarks>
/// A chunk has three passes: scores of all queries, tile by tile of decoded keys; softmax; weights times values, tile by tile of
/// decoded values. A key that a query does not see has a weight of exactly zero, so who shares a block changes no bit.
/// </remarks>
internal readonly unsafe struct AttentionJob<TKv>(
    AttentionPlan plan, CpuStep step, AttentionSchedule schedule, AttentionScratch scratch, CpuTensor qkv, CpuKvCache cache, CpuTensor heads)
    : IWorkerJob where TKv : struct, IKvFormat
{
    private int HeadsPerKv => plan.HeadCount / plan.KvHeadCount;

    private int Stride => AttentionTiles.Stride(plan.HeadDim);

    public void Execute(int item, int worker)
    {
        AttentionUnit unit = schedule.Units[item / plan.KvHeadCount];
        AttentionBlock block = schedule.Blocks[unit.Block];
        int kvHead = item % plan.KvHeadCount, queries = block.RowCount * HeadsPerKv;
        GatherQueries(block, kvHead, worker);
        if (unit.Slot >= 0)
        {
            float* slot = scratch.Slots + unit.Slot + (long)kvHead * AttentionPartial.Floats(queries, Stride);
            Attend(block, kvHead, unit.FirstChunk, worker, new(slot, queries, Stride));
            return;
        }

        AttentionPartial partial = new(scratch.Partial(worker), queries, Stride);
        int firstHead = kvHead * HeadsPerKv;
        for (int q = 0; q < queries; q++) scratch.Total(block.FirstRow + q / HeadsPerKv, firstHead + q % HeadsPerKv) = AttentionTotal.None;
        for (int chunk = unit.FirstChunk; chunk < unit.EndChunk; chunk++)
        {
            Attend(block, kvHead, chunk, worker, partial);
            for (int q = 0; q < queries; q++)
            {
                int row = block.FirstRow + q / HeadsPerKv, head = firstHead + q % HeadsPerKv;
                partial.AddTo(ref scratch.Total(row, head), q, heads.Row(row) + head * plan.HeadDim, plan.HeadDim);
            }
        }
        for (int q = 0; q < queries; q++)
        {
            int row = block.FirstRow + q / HeadsPerKv, head = firstHead + q % HeadsPerKv;
            scratch.Total(row, head).Finish(plan, heads.Row(row) + head * plan.HeadDim, scratch.Row(worker));
        }
    }

    /// <summary>A chunk's partial result for every query of the block.</summary>
    private void Attend(AttentionBlock block, int kvHead, int chunk, int worker, AttentionPartial partial)
    {
        int start = chunk * AttentionTiles.ChunkKeys, queries = block.RowCount * HeadsPerKv;
        int from = Math.Max(block.FirstKey - start, 0), to = Math.Min(block.EndKey - start, AttentionTiles.ChunkKeys);
        int* low = scratch.Low(worker), high = low + queries;
        for (int q = 0; q < queries; q++)
        {
            int position = step.Position(block.FirstRow + q / HeadsPerKv) - start;
            low[q] = plan.Window == 0 ? from : Math.Max(from, position - plan.Window + 1);
            high[q] = Math.Min(to, plan.PastOnly ? position : position + 1);
        }

        KvReader<TKv> reader = new(plan, cache, step.Slice(block.FirstRow).Blocks, kvHead);
        Score(block, reader, start, from, to, worker);
        float* scores = scratch.Scores(worker);
        for (int q = 0; q < queries; q++)
            partial.Sum[q] = Softmax(scores + q * AttentionTiles.ScoreStride, from & ~15, low[q], high[q], (to + 15) & ~15, out partial.Best[q]);
        AddValues(block, reader, start, from, to, worker, partial.Outputs);
    }

    private void Score(AttentionBlock block, in KvReader<TKv> reader, int start, int from, int to, int worker)
    {
        int queries = block.RowCount * HeadsPerKv, width = AttentionTiles.Width(plan.HeadDim);
        int* low = scratch.Low(worker), high = low + queries;
        float** keys = scratch.Pointers(worker);
        for (int tile = from / AttentionTiles.KeyTile * AttentionTiles.KeyTile; tile < to; tile += AttentionTiles.KeyTile)
        {
            int first = Math.Max(tile, from), end = Math.Min(tile + AttentionTiles.KeyTile, to);
            reader.LoadKeys(start + first, end - first, scratch.Decoded(worker), keys + (first - tile));
            // The kernel takes four keys at a time; scores of those that are not there are overwritten by the softmax.
            for (int i = 0; i < first - tile; i++) keys[i] = keys[first - tile];
            for (int i = end - tile; i < AttentionTiles.KeyTile; i++) keys[i] = keys[end - tile - 1];
            bool last = end == to;
            int next = last ? from : end, nextCount = last ? Math.Min(AttentionTiles.ValueTile, to - from) : Math.Min(AttentionTiles.KeyTile, to - end);
            for (int q = 0; q < queries; q += 4)
            {
                int count = Math.Min(4, queries - q);
                int seen = (Math.Max(first, low[q]) - tile) & ~3, seenEnd = Math.Min(end, high[q + count - 1]) - tile;
                if (seen >= seenEnd) continue;
                ScoreKernels.Run(scratch.Queries(worker) + (nint)q * Stride, count, width, Stride, keys + seen, seenEnd - seen,
                    scratch.Scores(worker) + q * AttentionTiles.ScoreStride + tile + seen, AttentionTiles.ScoreStride,
                    reader.Ahead(last, start + next, nextCount, q / 4 * ScoreKernels.AheadBytes(width)));
            }
        }
    }

    private void AddValues(AttentionBlock block, in KvReader<TKv> reader, int start, int from, int to, int worker, float* outputs)
    {
        int queries = block.RowCount * HeadsPerKv, width = AttentionTiles.Width(plan.HeadDim);
        int* low = scratch.Low(worker), high = low + queries;
        float** values = scratch.Pointers(worker);
        new Span<float>(outputs, queries * Stride).Clear();
        for (int tile = from / AttentionTiles.ValueTile * AttentionTiles.ValueTile; tile < to; tile += AttentionTiles.ValueTile)
        {
            int first = Math.Max(tile, from), end = Math.Min(tile + AttentionTiles.ValueTile, to);
            reader.LoadValues(start + first, end - first, scratch.Decoded(worker), values);
            int nextCount = Math.Min(AttentionTiles.ValueTile, to - end), ahead = 0;
            for (int column = 0; column < width; column += ValueKernels.Columns)
            {
                for (int q = 0; q < queries; q += 4)
                {
                    int count = Math.Min(4, queries - q);
                    int seen = Math.Max(first, low[q]), seenEnd = Math.Min(end, high[q + count - 1]);
                    if (seen >= seenEnd) continue;
                    ValueKernels.Run(scratch.Scores(worker) + q * AttentionTiles.ScoreStride + seen, AttentionTiles.ScoreStride, count,
                        values + (seen - first), seenEnd - seen, outputs + (nint)q * Stride + column, column, Stride, reader.Ahead(true, start + end, nextCount, ahead));
                    ahead += ValueKernels.AheadBytes(seenEnd - seen);
                }
            }
        }
    }

    /// <summary>Scores to weights: e^(score − best) from <paramref name="low"/> to <paramref name="high"/>, zero elsewhere.</summary>
    /// <param name="scores">A query's scores in the chunk.</param>
    /// <param name="from">First that is read afterwards, a multiple of 16.</param>
    /// <param name="low">First that the query sees.</param>
    /// <param name="high">After the last that it sees.</param>
    /// <param name="to">After the last that is read afterwards, a multiple of 16.</param>
    /// <param name="best">Largest score, minus infinity if it sees none.</param>
    /// <returns>The weights' sum.</returns>
    private static float Softmax(float* scores, int from, int low, int high, int to, out float best)
    {
        best = float.NegativeInfinity;
        if (low >= high)
        {
            new Span<float>(scores + from, to - from).Clear();
            return 0;
        }
        int first = low & ~15, end = (high + 15) & ~15;
        new Span<float>(scores + from, first - from).Clear();
        new Span<float>(scores + end, to - end).Clear();
        // Far below the best: their weight is zero.
        new Span<float>(scores + first, low - first).Fill(float.MinValue);
        new Span<float>(scores + high, end - high).Fill(float.MinValue);
        Vector512<float> max = Vector512.Load(scores + first);
        for (int i = first + 16; i < end; i += 16) max = Vector512.Max(max, Vector512.Load(scores + i));
        best = KvLanes.Max(max);
        max = Vector512.Create(best);
        Vector512<float> sum = default;
        for (int i = first; i < end; i += 16)
        {
            Vector512<float> weight = FastMath.Exp(Vector512.Load(scores + i) - max);
            weight.Store(scores + i);
            sum += weight;
        }
        return Lanes.Sum(sum);
    }

    /// <summary>Copies the block's queries of a key/value head together.</summary>
    private void GatherQueries(AttentionBlock block, int kvHead, int worker)
    {
        int dim = plan.HeadDim, width = AttentionTiles.Width(dim);
        float* to = scratch.Queries(worker);
        for (int row = block.FirstRow; row < block.FirstRow + block.RowCount; row++)
        {
            float* q = qkv.Row(row) + kvHead * HeadsPerKv * dim;
            for (int head = 0; head < HeadsPerKv; head++, q += dim, to += Stride)
            {
                new ReadOnlySpan<float>(q, dim).CopyTo(new(to, dim));
                new Span<float>(to + dim, width - dim).Clear();
            }
        }
    }
}
