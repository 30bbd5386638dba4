using ILGPU;
using ILGPU.Algorithms;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>A layer's attention in one launch: a portion of the step's rows.</summary>
/// <param name="FirstRow">First row of the portion.</param>
/// <param name="Rows">Rows of it.</param>
/// <param name="Heads">Query heads.</param>
/// <param name="KvHeads">Key/value heads.</param>
/// <param name="HeadDim">Elements of a head; a multiple of 8.</param>
/// <param name="Pairs">Pairs of a head that rotate, in the compact form also half of a stored key; a multiple of 4.</param>
/// <param name="IsCompact">Whether keys are stored in their rotated part only.</param>
/// <param name="OwnsKv">Whether keys and values are made.</param>
/// <param name="ValueIsKey">Whether values are the raw keys.</param>
/// <param name="PastOnly">Whether a query does not see its own position.</param>
/// <param name="Window">Keys a query sees; 0 for all.</param>
/// <param name="QkvStride">Floats from one row of q | k | v to the next.</param>
/// <param name="HeadsStride">Of the output.</param>
/// <param name="Span">Keys that scores have room for, a multiple of the chunk.</param>
/// <param name="TokensPerPage">Positions in a page.</param>
/// <param name="TableOffset">Of the group's starts.</param>
/// <param name="PageFours">Fours of elements in a page.</param>
/// <param name="LayerFours">Where the layer's begin.</param>
internal readonly record struct AttentionShape(
    int FirstRow, int Rows, int Heads, int KvHeads, int HeadDim, int Pairs, int IsCompact, int OwnsKv, int ValueIsKey, int PastOnly, int Window,
    int QkvStride, int HeadsStride, int Span, int TokensPerPage, int TableOffset, long PageFours, long LayerFours);

/// <summary>
/// Attention over pages in four launches, none of which needs a barrier: scores, softmax of each chunk of keys, weighted values
/// of each chunk, and the chunks' sum. Chunks begin at multiples of <see cref="Chunk"/>, so a row's bits depend on its own keys alone.
/// A layer's part of a page:
/// <code>
/// keys     [head][keyDim / 4][tokens][4]     lanes with neighbouring keys read side by side
/// values   [head][tokens][headDim]           lanes with neighbouring elements do
/// </code>
/// Compact keys are elements i and i + headDim/2 for i &lt; pairs; the query then has the key norm on its others, and these are
/// compared with the values.
/// </summary>
internal static class AttentionKernels
{
    /// <summary>Keys of a chunk.</summary>
    public const int Chunk = 128;

    /// <summary>q = rope(RMS(q)) in place; k = rope(RMS(k)) and v = RMS(v) to their pages. Rows of the launch are row · head.</summary>
    public static void NormRopeStore<TKv>(
        AttentionShape a, RowShape shape, ArrayView<int> step, ArrayView<int> starts, ArrayView<int> tables, ArrayView<float> turns,
        ArrayView<float> qNorm, ArrayView<float> kNorm, ArrayView<float> qkv, ArrayView<uint> pool) where TKv : struct, IKvElements
    {
        ArrayView<float> scratch = SharedMemory.Allocate<float>(Lanes.MostRowLanes);
        ArrayView<Four> fours = qkv.Cast<Four>(), cosines = turns.Cast<Four>();
        int lanes = shape.Lanes, lane = Lanes.RowLane(lanes), advance = Lanes.RowStep(lanes), n = a.HeadDim / 4, half = n / 2, pairs = a.Pairs / 4;
        int all = a.OwnsKv != 0 ? a.Heads + a.KvHeads : a.Heads;
        for (int item = Lanes.FirstRow(lanes); item < shape.Rows; item += advance)
        {
            int row = item / all, head = item % all, at = row * (a.QkvStride / 4) + head * n, turn = row * 2 * pairs;
            bool isKey = head >= a.Heads;
            float inverse = InverseRms(fours, at, n, lanes, lane, shape.Epsilon, scratch);
            if (!isKey)
            {
                ArrayView<Four> norm = qNorm.Cast<Four>(), keyNorm = kNorm.Cast<Four>();
                for (int i = lane; i < half; i += lanes)
                {
                    Four x = fours[at + i].Times(inverse).Times(norm[i]), y = fours[at + half + i].Times(inverse).Times(norm[half + i]);
                    if (i < pairs)
                    {
                        Four c = cosines[turn + i], s = cosines[turn + pairs + i];
                        fours[at + i] = Turned(x, y, c, s, -1f);
                        fours[at + half + i] = Turned(y, x, c, s, 1f);
                    }
                    else
                    {
                        fours[at + i] = a.IsCompact != 0 ? x.Times(keyNorm[i]) : x;
                        fours[at + half + i] = a.IsCompact != 0 ? y.Times(keyNorm[half + i]) : y;
                    }
                }
            }
            else
            {
                int kv = head - a.Heads, position = step[row * IlgpuStep.RowInts + 1], slice = step[row * IlgpuStep.RowInts + 2];
                int token = position % a.TokensPerPage, valueAt = a.ValueIsKey != 0 ? at : at + a.KvHeads * n;
                long page = Page(a, starts, tables, slice, position);
                long keys = page + (long)kv * KeyFours(a) * a.TokensPerPage + token;
                long values = page + (long)a.KvHeads * KeyFours(a) * a.TokensPerPage + ((long)kv * a.TokensPerPage + token) * n;
                float inverseValue = a.ValueIsKey != 0 ? inverse : InverseRms(fours, valueAt, n, lanes, lane, shape.Epsilon, scratch);
                ArrayView<Four> norm = kNorm.Cast<Four>();
                for (int i = lane; i < half; i += lanes)
                {
                    Four x = fours[at + i].Times(inverse).Times(norm[i]), y = fours[at + half + i].Times(inverse).Times(norm[half + i]);
                    TKv.Store(pool, values + i, fours[valueAt + i].Times(inverseValue));
                    TKv.Store(pool, values + half + i, fours[valueAt + half + i].Times(inverseValue));
                    if (i < pairs)
                    {
                        Four c = cosines[turn + i], s = cosines[turn + pairs + i];
                        Four turnedX = Turned(x, y, c, s, -1f), turnedY = Turned(y, x, c, s, 1f);
                        TKv.Store(pool, keys + (long)i * a.TokensPerPage, turnedX);
                        TKv.Store(pool, keys + (long)((a.IsCompact != 0 ? pairs : half) + i) * a.TokensPerPage, turnedY);
                    }
                    else if (a.IsCompact == 0)
                    {
                        TKv.Store(pool, keys + (long)i * a.TokensPerPage, x);
                        TKv.Store(pool, keys + (long)(half + i) * a.TokensPerPage, y);
                    }
                }
            }
        }
    }

    /// <summary>scores[row, head, key − first chunk] = q · k.</summary>
    public static void Score<TKv>(
        AttentionShape a, ArrayView<int> step, ArrayView<int> starts, ArrayView<int> tables, ArrayView<float> qkv, ArrayView<uint> pool, ArrayView<float> scores)
        where TKv : struct, IKvElements
    {
        ArrayView<Four> fours = qkv.Cast<Four>();
        int n = a.HeadDim / 4, half = n / 2, perKey = a.Heads / a.KvHeads, stored = (a.IsCompact != 0 ? a.Pairs : a.HeadDim / 2) / 4;
        for (int i = Lanes.Global; i < a.Rows * a.Heads * a.Span; i += Lanes.Count)
        {
            int row = a.FirstRow + i / (a.Heads * a.Span), head = i / a.Span % a.Heads, kv = head / perKey;
            int position = step[row * IlgpuStep.RowInts + 1], slice = step[row * IlgpuStep.RowInts + 2];
            int low = Low(a, position), high = High(a, position), key = low / Chunk * Chunk + i % a.Span;
            if (key >= low && key < high)
            {
                long page = Page(a, starts, tables, slice, key);
                int token = key % a.TokensPerPage, q = row * (a.QkvStride / 4) + head * n;
                long keys = page + (long)kv * KeyFours(a) * a.TokensPerPage + token, tokens = a.TokensPerPage;
                float sum = 0;
                // Two at a time: the first and second half of the head.
                for (int c = 0; c < stored; c++)
                {
                    sum += fours[q + c].Dot(TKv.Load(pool, keys + c * tokens));
                    sum += fours[q + half + c].Dot(TKv.Load(pool, keys + (stored + c) * tokens));
                }
                if (a.IsCompact != 0)
                {
                    long values = page + (long)a.KvHeads * KeyFours(a) * tokens + ((long)kv * tokens + token) * n;
                    for (int c = stored; c < half; c++)
                    {
                        sum += fours[q + c].Dot(TKv.Load(pool, values + c));
                        sum += fours[q + half + c].Dot(TKv.Load(pool, values + half + c));
                    }
                }
                scores[i] = sum;
            }
        }
    }

    /// <summary>Scores of each chunk become e^(score − best); best and sum go to <paramref name="about"/>, two floats a chunk.</summary>
    public static void Softmax(AttentionShape a, ArrayView<int> step, ArrayView<float> scores, ArrayView<float> about)
    {
        int chunks = a.Span / Chunk;
        for (int i = Lanes.Global; i < a.Rows * a.Heads * chunks; i += Lanes.Count)
        {
            int row = a.FirstRow + i / (a.Heads * chunks), position = step[row * IlgpuStep.RowInts + 1];
            int low = Low(a, position), high = High(a, position), first = (low / Chunk + i % chunks) * Chunk;
            int from = IntrinsicMath.Max(low, first), to = IntrinsicMath.Min(high, first + Chunk), at = i * Chunk - first;
            float best = float.NegativeInfinity, sum = 0;
            for (int key = from; key < to; key++) best = IntrinsicMath.Max(best, scores[at + key]);
            for (int key = from; key < to; key++)
            {
                float weight = XMath.Exp(scores[at + key] - best);
                scores[at + key] = weight;
                sum += weight;
            }
            about[2 * i] = best;
            about[2 * i + 1] = sum;
        }
    }

    /// <summary>partial[row, head, chunk, element] = Σ weight · value over the chunk's keys; a lane for four elements.</summary>
    public static void AddValues<TKv>(
        AttentionShape a, ArrayView<int> step, ArrayView<int> starts, ArrayView<int> tables, ArrayView<uint> pool, ArrayView<float> weights, ArrayView<float> partial)
        where TKv : struct, IKvElements
    {
        ArrayView<Four> output = partial.Cast<Four>();
        int n = a.HeadDim / 4, chunks = a.Span / Chunk, perKey = a.Heads / a.KvHeads;
        for (int i = Lanes.Global; i < a.Rows * a.Heads * chunks * n; i += Lanes.Count)
        {
            int part = i / n, row = a.FirstRow + part / (a.Heads * chunks), kv = part / chunks % a.Heads / perKey;
            int position = step[row * IlgpuStep.RowInts + 1], slice = step[row * IlgpuStep.RowInts + 2];
            int low = Low(a, position), high = High(a, position), first = (low / Chunk + part % chunks) * Chunk;
            int key = IntrinsicMath.Max(low, first), to = IntrinsicMath.Min(high, first + Chunk), at = part * Chunk - first;
            long offset = (long)a.KvHeads * KeyFours(a) * a.TokensPerPage + (long)kv * a.TokensPerPage * n + i % n;
            Four sum = default;
            while (key < to)
            {
                int token = key % a.TokensPerPage, end = IntrinsicMath.Min(to, key - token + a.TokensPerPage);
                long v = Page(a, starts, tables, slice, key) + offset + (long)token * n;
                for (; key + 3 < end; key += 4, v += 4 * n)
                {
                    Four v0 = TKv.Load(pool, v), v1 = TKv.Load(pool, v + n), v2 = TKv.Load(pool, v + 2 * n), v3 = TKv.Load(pool, v + 3 * n);
                    sum = sum.Add(v0, weights[at + key]).Add(v1, weights[at + key + 1]).Add(v2, weights[at + key + 2]).Add(v3, weights[at + key + 3]);
                }
                for (; key < end; key++, v += n) sum = sum.Add(TKv.Load(pool, v), weights[at + key]);
            }
            output[i] = sum;
        }
    }

    /// <summary>heads = Σ over chunks, in ascending order, divided by the weights' sum; zeros where a row sees no key.</summary>
    public static void Merge(AttentionShape a, ArrayView<float> about, ArrayView<float> partial, ArrayView<float> heads)
    {
        ArrayView<Four> input = partial.Cast<Four>(), output = heads.Cast<Four>();
        int n = a.HeadDim / 4, chunks = a.Span / Chunk;
        for (int i = Lanes.Global; i < a.Rows * a.Heads * n; i += Lanes.Count)
        {
            int query = i / n, element = i % n, row = a.FirstRow + query / a.Heads, head = query % a.Heads;
            float best = float.NegativeInfinity, total = 0;
            for (int c = 0; c < chunks; c++) best = IntrinsicMath.Max(best, about[2 * (query * chunks + c)]);
            Four sum = default;
            for (int c = 0; c < chunks; c++)
            {
                float chunkBest = about[2 * (query * chunks + c)];
                if (chunkBest > float.NegativeInfinity)
                {
                    float factor = XMath.Exp(chunkBest - best);
                    total += about[2 * (query * chunks + c) + 1] * factor;
                    sum = sum.Add(input[(query * chunks + c) * n + element], factor);
                }
            }
            output[row * (a.HeadsStride / 4) + head * n + element] = sum.Times(total > 0 ? 1f / total : 0f);
        }
    }

    /// <summary>First key that a row sees.</summary>
    private static int Low(AttentionShape a, int position) => a.Window == 0 ? 0 : IntrinsicMath.Max(0, position - a.Window + 1);

    /// <summary>After the last.</summary>
    private static int High(AttentionShape a, int position) => a.PastOnly != 0 ? position : position + 1;

    private static int KeyFours(AttentionShape a) => (a.IsCompact != 0 ? 2 * a.Pairs : a.HeadDim) / 4;

    /// <summary>The layer's part of the page that holds a position.</summary>
    private static long Page(AttentionShape a, ArrayView<int> starts, ArrayView<int> tables, int slice, int position) =>
        tables[starts[a.TableOffset + slice] + position / a.TokensPerPage] * a.PageFours + a.LayerFours;

    private static Four Turned(Four x, Four y, Four cos, Four sin, float sign) => x.Times(cos).Add(y.Times(sin), sign);

    private static float InverseRms(ArrayView<Four> fours, int at, int n, int lanes, int lane, float epsilon, ArrayView<float> scratch)
    {
        float sum = 0;
        for (int i = lane; i < n; i += lanes) sum += fours[at + i].Dot(fours[at + i]);
        return 1f / XMath.Sqrt(Lanes.Sum(sum, lanes, scratch) / (4 * n) + epsilon);
    }
}
