namespace GemmaServer.Compute;

/// <summary>Rows of one sequence that are computed together, and the keys that any of them sees.</summary>
internal readonly record struct AttentionBlock(int FirstRow, int RowCount, int FirstKey, int EndKey)
{
    public int FirstChunk => FirstKey / AttentionTiles.ChunkKeys;

    /// <summary>After the last chunk; a window of one over past keys holds none.</summary>
    public int EndChunk => EndKey <= FirstKey ? FirstChunk : (EndKey + AttentionTiles.ChunkKeys - 1) / AttentionTiles.ChunkKeys;
}

/// <summary>Chunks of a block's keys.</summary>
/// <param name="Block">Index of the block.</param>
/// <param name="FirstChunk">First chunk.</param>
/// <param name="EndChunk">After the last.</param>
/// <param name="Slot">Where the chunks' partial results lie, all key/value heads of the first, then of the next; −1 where one worker adds them up.</param>
internal readonly record struct AttentionUnit(int Block, int FirstChunk, int EndChunk, long Slot);

/// <summary>
/// Cuts a step's rows into blocks, and the chunks of blocks with a lot of keys among workers. What is computed does not depend
/// on it, only where.
/// </summary>
/// <remarks>
/// Partial results have a fixed room: where they do not fit, the work goes in rounds, each of which adds its chunks to the
/// rounds' before it.
/// </remarks>
internal sealed class AttentionSchedule
{
    // A round's partial results; with more threads there is more room, so that it is the limit.
    private const int MostSlots = 4096;

    private AttentionBlock[] _blocks = [];
    private bool[] _split = [];
    private AttentionUnit[] _units = [], _merges = [];
    private int _blockCount, _unitCount, _mergeCount;
    private int _nextBlock, _nextChunk;
    private bool _begun;

    public ReadOnlySpan<AttentionBlock> Blocks => _blocks.AsSpan(0, _blockCount);

    /// <summary>The round's units: each is an item for every key/value head.</summary>
    public ReadOnlySpan<AttentionUnit> Units => _units.AsSpan(0, _unitCount);

    /// <summary>What is added up after the round: each is an item for every head.</summary>
    public ReadOnlySpan<AttentionUnit> Merges => _merges.AsSpan(0, _mergeCount);

    public void Reserve(int rows)
    {
        _blocks = new AttentionBlock[rows];
        _split = new bool[rows];
        _units = new AttentionUnit[rows + MostSlots];
        _merges = new AttentionUnit[rows];
    }

    /// <summary>Cuts the step for a layer.</summary>
    public void Begin(AttentionPlan plan, CpuStep step, int threads)
    {
        int headsPerKv = plan.HeadCount / plan.KvHeadCount, most = Math.Max(1, AttentionTiles.BlockQueries / headsPerKv);
        while (most > 1 && most * headsPerKv > AttentionTiles.LeastQueries && (long)step.RowCount * plan.KvHeadCount < 2L * threads * most) most /= 2;
        (_blockCount, _nextBlock, _nextChunk, _begun) = (0, 0, 0, false);
        long work = 0;
        foreach (ref readonly SequenceSlice slice in step.Slices)
        {
            for (int i = 0; i < slice.QueryLength; i += most)
            {
                int rows = Math.Min(most, slice.QueryLength - i), position = slice.ContextLength + i;
                AttentionBlock block = new(slice.QueryStart + i, rows,
                    plan.Window == 0 ? 0 : Math.Max(0, position - plan.Window + 1), position + rows - (plan.PastOnly ? 1 : 0));
                _blocks[_blockCount++] = block;
                work += Work(block, headsPerKv) * plan.KvHeadCount;
            }
        }
        // A block that is a large part of the whole would leave workers waiting.
        for (int b = 0; b < _blockCount; b++)
            _split[b] = threads > 1 && _blocks[b].EndChunk - _blocks[b].FirstChunk > 1 && Work(_blocks[b], headsPerKv) * 4 * threads > work;
    }

    /// <summary>Prepares the next round; false when all is done.</summary>
    public bool NextRound(AttentionPlan plan, long slotFloats)
    {
        (_unitCount, _mergeCount) = (0, 0);
        if (!_begun)
        {
            for (int b = 0; b < _blockCount; b++)
                if (!_split[b]) _units[_unitCount++] = new(b, _blocks[b].FirstChunk, _blocks[b].EndChunk, -1);
            _begun = true;
        }
        long used = 0;
        int headsPerKv = plan.HeadCount / plan.KvHeadCount, stride = AttentionTiles.Stride(plan.HeadDim);
        for (; _nextBlock < _blockCount; _nextBlock++, _nextChunk = 0)
        {
            if (!_split[_nextBlock]) continue;
            AttentionBlock block = _blocks[_nextBlock];
            long size = (long)plan.KvHeadCount * AttentionPartial.Floats(block.RowCount * headsPerKv, stride), slot = used;
            int first = Math.Max(_nextChunk, block.FirstChunk), chunk = first;
            for (; chunk < block.EndChunk && used + size <= slotFloats && _unitCount < _units.Length; chunk++, used += size)
                _units[_unitCount++] = new(_nextBlock, chunk, chunk + 1, used);
            if (chunk > first) _merges[_mergeCount++] = new(_nextBlock, first, chunk, slot);
            _nextChunk = chunk;
            if (chunk < block.EndChunk) break;
        }
        return _unitCount > 0;
    }

    /// <summary>Keys times queries; decoding a key costs about as much as eight queries.</summary>
    private static long Work(AttentionBlock block, int headsPerKv) => (long)(block.EndKey - block.FirstKey) * (block.RowCount * headsPerKv + 8);
}
