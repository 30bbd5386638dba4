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
/// <param name="Scales">Where scales begin, in halves from the pool's begin; each eight fours have one.</param>
internal readonly record struct AttentionShape(
    int FirstRow, int Rows, int Heads, int KvHeads, int HeadDim, int Pairs, int IsCompact, int OwnsKv, int ValueIsKey, int PastOnly, int Window,
    int QkvStride, int HeadsStride, int Span, int TokensPerPage, int TableOffset, long PageFours, long LayerFours, long Scales);

/// <summary>
/// Attention over pages in four launches, none of which needs a barrier: scores, softmax of each chunk of keys, weighted values
/// of each chunk, and the chunks' sum. Chunks begin at multiples of <see cref="Chunk"/>, so a row's bits depend on its own keys alone.
/// A layer's part of a page:
/// <code>
/// keys     [head][keyDim / 4][tokens][4]     lanes with neighbouring keys read side by side
/// values   [head][tokens][headDim]           lanes with neighbouring elements do
/// </code>
/// Compact keys are elements i and i + headDim/2 for i &lt; pairs; the query then has the key norm on its others, and these are
/// compared with the values. Where 32 elements have a scale, these are neighbours in the order of a key; of compact values the
/// still ones come first in the count of scales, as in <see cref="CompactRow"/>.
/// </summary>
internal static class AttentionKernels
{
    /// <summary>Keys of a chunk.</summary>
    public const int Chunk = 128;

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
                long scales = a.Scales + (keys - token) / 8 + token;
                float sum = 0;
                // Two at a time: the first and second half of the head.
                for (int c = 0; c < stored; c++)
                {
                    sum += fours[q + c].Dot(TKv.Load(pool, keys + c * tokens, scales + c / 8 * tokens));
                    sum += fours[q + half + c].Dot(TKv.Load(pool, keys + (stored + c) * tokens, scales + (stored + c) / 8 * tokens));
                }
                if (a.IsCompact != 0)
                {
                    long values = page + (long)a.KvHeads * KeyFours(a) * tokens + ((long)kv * tokens + token) * n;
                    long still = a.Scales + values / 8;
                    for (int c = stored; c < half; c++)
                    {
                        sum += fours[q + c].Dot(TKv.Load(pool, values + c, still + (c - stored) / 8));
                        sum += fours[q + half + c].Dot(TKv.Load(pool, values + half + c, still + (half + c - 2 * stored) / 8));
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
            int place = ValuePlace(a, i % n);
            Four sum = default;
            while (key < to)
            {
                int token = key % a.TokensPerPage, end = IntrinsicMath.Min(to, key - token + a.TokensPerPage);
                long v = Page(a, starts, tables, slice, key) + offset + (long)token * n, s = a.Scales + (v - i % n) / 8 + place / 8;
                int eighth = n / 8;
                for (; key + 3 < end; key += 4, v += 4 * n, s += 4 * eighth)
                {
                    Four v0 = TKv.Load(pool, v, s), v1 = TKv.Load(pool, v + n, s + eighth);
                    Four v2 = TKv.Load(pool, v + 2 * n, s + 2 * eighth), v3 = TKv.Load(pool, v + 3 * n, s + 3 * eighth);
                    sum = sum.Add(v0, weights[at + key]).Add(v1, weights[at + key + 1]).Add(v2, weights[at + key + 2]).Add(v3, weights[at + key + 3]);
                }
                for (; key < end; key++, v += n, s += eighth) sum = sum.Add(TKv.Load(pool, v, s), weights[at + key]);
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

    /// <summary>Where a value's four stands in the count of scales: as it lies, or where the row is compact the still ones first.</summary>
    internal static int ValuePlace(AttentionShape a, int four)
    {
        int half = a.HeadDim / 8, pairs = a.Pairs / 4, still = half - pairs;
        if (a.IsCompact == 0) return four;
        if (four < half) return four < pairs ? 2 * still + four : four - pairs;
        return four < half + pairs ? 2 * still + four - still : four - 2 * pairs;
    }

    internal static int KeyFours(AttentionShape a) => (a.IsCompact != 0 ? 2 * a.Pairs : a.HeadDim) / 4;

    /// <summary>The layer's part of the page that holds a position.</summary>
    internal static long Page(AttentionShape a, ArrayView<int> starts, ArrayView<int> tables, int slice, int position) =>
        tables[starts[a.TableOffset + slice] + position / a.TokensPerPage] * a.PageFours + a.LayerFours;
}
