namespace GemmaServer.Compute;

/// <summary>
/// Memory of attention. Per worker, for a block of queries and one chunk of keys:
/// <code>
/// | queries | scores | partial result | decoded tile | a row | pointers to the tile's rows | bounds of the queries' keys |
/// </code>
/// For all workers: the queries' totals, and slots for the partial results of chunks that several workers share.
/// </summary>
internal sealed unsafe class AttentionScratch : IDisposable
{
    // Room for long contexts in few rounds: so many slots of eight queries for each thread.
    private const int SlotsPerThread = 16;

    private AlignedBuffer[] _workers = [];
    private readonly AlignedBuffer _slots = new();
    private AttentionTotal[] _totals = [];
    private int _mostHeads;
    private long _scores, _partial, _decoded, _row, _pointers, _bounds;

    /// <summary>Floats of all slots.</summary>
    public long SlotFloats { get; private set; }

    public float* Slots => (float*)_slots.Pointer;

    /// <summary>Makes room for steps of so many rows over layers of at most these sizes.</summary>
    public void Reserve(int workers, int rows, int widestHead, int mostHeads, int mostKvHeads, int mostHeadsPerKv)
    {
        Free();
        int queries = Math.Max(AttentionTiles.BlockQueries, mostHeadsPerKv), stride = AttentionTiles.Stride(widestHead);
        // In floats, each part at a multiple of a cache line.
        _scores = (long)queries * stride;
        _partial = _scores + (long)queries * AttentionTiles.ScoreStride;
        _decoded = _partial + AttentionPartial.Floats(queries, stride);
        _row = _decoded + AttentionTiles.ValueTile * stride;
        _pointers = _row + stride;
        _bounds = _pointers + AttentionTiles.ValueTile * sizeof(float*) / sizeof(float);
        _workers = new AlignedBuffer[workers];
        for (int w = 0; w < workers; w++) _workers[w] = new AlignedBuffer((_bounds + 2 * queries) * sizeof(float));

        _mostHeads = mostHeads;
        _totals = new AttentionTotal[rows * mostHeads];
        SlotFloats = (long)mostKvHeads * AttentionPartial.Floats(queries, stride) + (long)workers * SlotsPerThread * AttentionPartial.Floats(8, stride);
        _slots.Ensure(SlotFloats * sizeof(float));
    }

    /// <summary>Queries of a block, <c>[queries][stride]</c>, zero beyond the head.</summary>
    public float* Queries(int worker) => (float*)_workers[worker].Pointer;

    /// <summary>Scores, then weights, <c>[queries][ScoreStride]</c>.</summary>
    public float* Scores(int worker) => Queries(worker) + _scores;

    public float* Partial(int worker) => Queries(worker) + _partial;

    /// <summary>A tile's keys or values, <c>[tile][stride]</c>.</summary>
    public float* Decoded(int worker) => Queries(worker) + _decoded;

    /// <summary>One head.</summary>
    public float* Row(int worker) => Queries(worker) + _row;

    public float** Pointers(int worker) => (float**)(Queries(worker) + _pointers);

    /// <summary>First key that each query sees in the chunk, counted from its begin.</summary>
    public int* Low(int worker) => (int*)(Queries(worker) + _bounds);

    /// <summary>A query's total, kept from round to round.</summary>
    public ref AttentionTotal Total(int row, int head) => ref _totals[row * _mostHeads + head];

    public void Dispose()
    {
        Free();
        _slots.Dispose();
    }

    private void Free()
    {
        foreach (AlignedBuffer m in _workers) m.Dispose();
        _workers = [];
    }
}
