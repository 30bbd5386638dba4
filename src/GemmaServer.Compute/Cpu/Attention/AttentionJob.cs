using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>
/// Attention over the pages with an online softmax. An item is a run of query rows of one sequence times one key/value
/// head times a share of the query heads that read it.
/// </summary>
/// <remarks>
/// Keys are taken in tiles that start at multiples of <see cref="TileKeys"/> positions, so a row's result does not depend
/// on the rows beside it, on chunking, on pages or on how heads are shared out: a masked key adds an exact zero.
/// </remarks>
internal readonly unsafe struct AttentionJob<TKv>(
    AttentionPlan plan, CpuStep step, CpuTensor qkv, CpuKvCache cache, CpuTensor heads, int headShares, AttentionScratch scratch)
    : IWorkerJob where TKv : struct, IKvFormat
{
    /// <summary>Keys per tile.</summary>
    public const int TileKeys = 32;

    public void Execute(int item, int worker)
    {
        int share = item % headShares, kvHead = item / headShares % plan.KvHeadCount;
        (int firstRow, int rowCount) = step.AttentionRows(item / headShares / plan.KvHeadCount);
        int headsPerKv = plan.HeadCount / plan.KvHeadCount, headsHere = headsPerKv / headShares;
        int firstHead = kvHead * headsPerKv + share * headsHere;
        int dim = plan.HeadDim, queries = rowCount * headsHere;

        float* best = scratch.Best(worker), sum = scratch.Sum(worker), scores = scratch.Scores(worker);
        float* outputs = scratch.Outputs(worker);
        new Span<float>(best, queries).Fill(float.NegativeInfinity);
        new Span<float>(sum, queries).Clear();
        new Span<float>(outputs, queries * dim).Clear();

        int firstPosition = step.Position(firstRow), lastPosition = firstPosition + rowCount - 1;
        int lastKey = plan.PastOnly ? lastPosition - 1 : lastPosition;
        int firstKey = plan.Window == 0 ? 0 : Math.Max(0, firstPosition - plan.Window + 1);
        for (int tile = firstKey / TileKeys * TileKeys; tile <= lastKey; tile += TileKeys)
        {
            int from = Math.Max(tile, firstKey), to = Math.Min(tile + TileKeys, lastKey + 1);
            float** keys = scratch.Keys(worker), values = scratch.Values(worker);
            LoadTile(step.Slice(firstRow).Blocks.Pages(plan.KvGroup), kvHead, from, to, worker, keys, values);
            for (int query = 0; query < queries; query++)
            {
                int row = query / headsHere, position = firstPosition + row;
                int low = plan.Window == 0 ? from : Math.Max(from, position - plan.Window + 1);
                int high = Math.Min(to, plan.PastOnly ? position : position + 1);
                if (low >= high) continue;
                float* q = qkv.Row(firstRow + row) + (firstHead + query % headsHere) * dim;
                Fold(q, keys + (low - from), values + (low - from), high - low, dim, scores, best + query, sum + query, outputs + (long)query * dim);
            }
        }

        for (int query = 0; query < queries; query++)
        {
            float* y = heads.Row(firstRow + query / headsHere) + (firstHead + query % headsHere) * dim;
            // Only a query without its own key may see none at all.
            float inverse = sum[query] > 0 ? 1f / sum[query] : 0f;
            float* o = outputs + (long)query * dim;
            for (int i = 0; i < dim; i++) o[i] *= inverse;
            if (plan.IsCompact) new CompactRow(dim, plan.KeyDim).RestoreOutput(new(o, dim), new(y, dim));
            else new ReadOnlySpan<float>(o, dim).CopyTo(new(y, dim));
        }
    }

    /// <summary>Finds (and where needed decodes) the tile's keys and values.</summary>
    private void LoadTile(ReadOnlySpan<int> pages, int kvHead, int from, int to, int worker, float** keys, float** values)
    {
        int dim = plan.HeadDim, tokensPerPage = cache.Plan.Groups[plan.KvGroup].TokensPerPage;
        int rowLength = plan.IsCompact ? new CompactRow(dim, plan.KeyDim).Length : dim, rowBytes = TKv.RowBytes(rowLength);
        long headBytes = (long)tokensPerPage * rowBytes, valueOffset = plan.KvHeadCount * headBytes;
        float* decoded = scratch.Decoded(worker);
        for (int position = from; position < to;)
        {
            int offset = position % tokensPerPage, run = Math.Min(to - position, tokensPerPage - offset);
            byte* k = cache.Layer(pages[position / tokensPerPage], plan.KvGroup, plan.KvIndex) + kvHead * headBytes + (long)offset * rowBytes;
            for (int i = 0; i < run; i++, k += rowBytes, position++)
            {
                int at = position - from;
                keys[at] = TKv.Load(k, rowLength, decoded + (long)at * 2 * dim);
                // A compact row is key and value at once.
                values[at] = plan.IsCompact ? keys[at] + plan.KeyDim : TKv.Load(k + valueOffset, dim, decoded + ((long)at * 2 + 1) * dim);
            }
        }
    }

    /// <summary>Adds some keys to one query's running softmax: (best, sum, output).</summary>
    private static void Fold(float* q, float** keys, float** values, int count, int dim, float* scores, float* best, float* sum, float* output)
    {
        float max = *best;
        for (int i = 0; i < count; i++)
        {
            scores[i] = Dot(q, keys[i], dim);
            max = MathF.Max(max, scores[i]);
        }
        float rescale = MathF.Exp(*best - max);
        if (rescale != 1f)
        {
            *sum *= rescale;
            ScaleRow(output, rescale, dim);
        }
        *best = max;

        // A tile is two vectors; what it lacks counts as far below the best.
        for (int i = count; i < TileKeys; i++) scores[i] = float.MinValue;
        Vector512<float> vmax = Vector512.Create(max);
        Vector512<float> p0 = FastMath.Exp(Vector512.Load(scores) - vmax), p1 = FastMath.Exp(Vector512.Load(scores + 16) - vmax);
        p0.Store(scores);
        p1.Store(scores + 16);
        *sum += Vector512.Sum(p0 + p1);
        for (int i = 0; i < count; i++) AddScaled(output, values[i], scores[i], dim);
    }

    private static float Dot(float* a, float* b, int dim)
    {
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default;
        int i = 0;
        for (; i + 64 <= dim; i += 64)
        {
            s0 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i), Vector512.Load(b + i), s0);
            s1 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i + 16), Vector512.Load(b + i + 16), s1);
            s2 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i + 32), Vector512.Load(b + i + 32), s2);
            s3 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i + 48), Vector512.Load(b + i + 48), s3);
        }
        for (; i + 16 <= dim; i += 16) s0 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i), Vector512.Load(b + i), s0);
        float sum = Vector512.Sum(s0 + s1 + (s2 + s3));
        for (; i < dim; i++) sum = MathF.FusedMultiplyAdd(a[i], b[i], sum);
        return sum;
    }

    private static void ScaleRow(float* y, float factor, int dim)
    {
        int i = 0;
        for (; i + 16 <= dim; i += 16) (Vector512.Load(y + i) * factor).Store(y + i);
        for (; i < dim; i++) y[i] *= factor;
    }

    private static void AddScaled(float* y, float* x, float factor, int dim)
    {
        Vector512<float> f = Vector512.Create(factor);
        int i = 0;
        for (; i + 16 <= dim; i += 16) Vector512.FusedMultiplyAdd(Vector512.Load(x + i), f, Vector512.Load(y + i)).Store(y + i);
        for (; i < dim; i++) y[i] = MathF.FusedMultiplyAdd(x[i], factor, y[i]);
    }
}

/// <summary>Per worker: running softmax state of an item's queries, a tile's scores, decoded keys and values.</summary>
internal sealed unsafe class AttentionScratch : IDisposable
{
    private AlignedBuffer[] _memory = [];
    private int _queries, _dim;

    /// <summary>Makes room for items of up to so many (row, head) queries.</summary>
    public void Reserve(int workers, int queries, int dim)
    {
        Dispose();
        (_queries, _dim) = (queries, dim);
        long pointers = 2L * sizeof(float*) * AttentionJob<KvF32>.TileKeys;
        long floats = 2L * queries + AttentionJob<KvF32>.TileKeys + (long)queries * dim + 2L * AttentionJob<KvF32>.TileKeys * dim;
        _memory = new AlignedBuffer[workers];
        for (int w = 0; w < workers; w++) _memory[w] = new AlignedBuffer(pointers + floats * sizeof(float));
    }

    public float** Keys(int worker) => (float**)_memory[worker].Pointer;

    public float** Values(int worker) => Keys(worker) + AttentionJob<KvF32>.TileKeys;

    public float* Decoded(int worker) => (float*)(Values(worker) + AttentionJob<KvF32>.TileKeys);

    public float* Outputs(int worker) => Decoded(worker) + 2L * AttentionJob<KvF32>.TileKeys * _dim;

    public float* Best(int worker) => Outputs(worker) + (long)_queries * _dim;

    public float* Sum(int worker) => Best(worker) + _queries;

    public float* Scores(int worker) => Sum(worker) + _queries;

    public void Dispose()
    {
        foreach (AlignedBuffer m in _memory) m.Dispose();
        _memory = [];
    }
}
