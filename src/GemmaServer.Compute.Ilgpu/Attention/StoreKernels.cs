using ILGPU;
using ILGPU.Algorithms;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Queries, keys and values of a step's rows: norms, rotation, and the way into the pages.</summary>
internal static class StoreKernels
{
    /// <summary>q = rope(RMS(q)) in place; k = rope(RMS(k)) and v = RMS(v) to their pages. Rows of the launch are row · head.</summary>
    public static void NormRopeStore<TKv>(
        AttentionShape a, RowShape shape, ArrayView<int> step, ArrayView<int> starts, ArrayView<int> tables, ArrayView<float> turns,
        ArrayView<float> qNorm, ArrayView<float> kNorm, ArrayView<float> qkv, ArrayView<uint> pool) where TKv : struct, IKvStore
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
            if (!isKey) Query(a, fours, cosines, at, turn, lane, lanes, inverse, qNorm.Cast<Four>(), kNorm.Cast<Four>());
            else
            {
                int kv = head - a.Heads, position = step[row * IlgpuStep.RowInts + 1], slice = step[row * IlgpuStep.RowInts + 2];
                int token = position % a.TokensPerPage, valueAt = a.ValueIsKey != 0 ? at : at + a.KvHeads * n;
                long page = AttentionKernels.Page(a, starts, tables, slice, position);
                long keys = page + (long)kv * AttentionKernels.KeyFours(a) * a.TokensPerPage + token;
                long values = page + (long)a.KvHeads * AttentionKernels.KeyFours(a) * a.TokensPerPage + ((long)kv * a.TokensPerPage + token) * n;
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

    /// <summary>
    /// As <see cref="NormRopeStore{TKv}"/>, into <see cref="KvBytes"/>: scale = max|x| / 127 of 32 neighbours, bytes rounded to the
    /// nearest, ties away from zero. A lane has a block, and makes its elements twice: for the scale and for the bytes.
    /// </summary>
    public static void NormRopeQuantise(
        AttentionShape a, RowShape shape, ArrayView<int> step, ArrayView<int> starts, ArrayView<int> tables, ArrayView<float> turns,
        ArrayView<float> qNorm, ArrayView<float> kNorm, ArrayView<float> qkv, ArrayView<uint> pool)
    {
        ArrayView<float> scratch = SharedMemory.Allocate<float>(Lanes.MostRowLanes);
        ArrayView<Four> fours = qkv.Cast<Four>(), cosines = turns.Cast<Four>(), norm = kNorm.Cast<Four>();
        int lanes = shape.Lanes, lane = Lanes.RowLane(lanes), advance = Lanes.RowStep(lanes), n = a.HeadDim / 4, pairs = a.Pairs / 4;
        int all = a.OwnsKv != 0 ? a.Heads + a.KvHeads : a.Heads, keyFours = AttentionKernels.KeyFours(a);
        for (int item = Lanes.FirstRow(lanes); item < shape.Rows; item += advance)
        {
            int row = item / all, head = item % all, at = row * (a.QkvStride / 4) + head * n, turn = row * 2 * pairs;
            bool isKey = head >= a.Heads;
            float inverse = InverseRms(fours, at, n, lanes, lane, shape.Epsilon, scratch);
            if (!isKey) Query(a, fours, cosines, at, turn, lane, lanes, inverse, qNorm.Cast<Four>(), norm);
            else
            {
                int kv = head - a.Heads, position = step[row * IlgpuStep.RowInts + 1], slice = step[row * IlgpuStep.RowInts + 2];
                int token = position % a.TokensPerPage, valueAt = a.ValueIsKey != 0 ? at : at + a.KvHeads * n;
                long page = AttentionKernels.Page(a, starts, tables, slice, position);
                long keys = page + (long)kv * keyFours * a.TokensPerPage;
                long values = page + (long)a.KvHeads * keyFours * a.TokensPerPage + ((long)kv * a.TokensPerPage + token) * n;
                float inverseValue = a.ValueIsKey != 0 ? inverse : InverseRms(fours, valueAt, n, lanes, lane, shape.Epsilon, scratch);
                for (int block = lane; block < keyFours / 8; block += lanes)
                {
                    float most = 0;
                    for (int c = 8 * block; c < 8 * block + 8; c++)
                        most = IntrinsicMath.Max(most, Key(a, fours, cosines, norm, at, turn, inverse, c).Most);
                    float scale = most / 127f, factor = scale == 0f ? 0f : 1f / scale;
                    pool.Cast<ushort>()[a.Scales + keys / 8 + (long)block * a.TokensPerPage + token] = (ushort)Lanes.FloatToHalf(scale);
                    for (int c = 8 * block; c < 8 * block + 8; c++)
                        pool[keys + (long)c * a.TokensPerPage + token] = Bytes(Key(a, fours, cosines, norm, at, turn, inverse, c).Times(factor));
                }
                for (int block = lane; block < n / 8; block += lanes)
                {
                    float most = 0;
                    for (int c = 8 * block; c < 8 * block + 8; c++) most = IntrinsicMath.Max(most, fours[valueAt + ValueAt(a, c)].Times(inverseValue).Most);
                    float scale = most / 127f, factor = scale == 0f ? 0f : 1f / scale;
                    pool.Cast<ushort>()[a.Scales + values / 8 + block] = (ushort)Lanes.FloatToHalf(scale);
                    for (int c = 8 * block; c < 8 * block + 8; c++)
                    {
                        int i = ValueAt(a, c);
                        pool[values + i] = Bytes(fours[valueAt + i].Times(inverseValue).Times(factor));
                    }
                }
            }
        }
    }

    /// <summary>A query, in place.</summary>
    private static void Query(
        AttentionShape a, ArrayView<Four> fours, ArrayView<Four> cosines, int at, int turn, int lane, int lanes, float inverse,
        ArrayView<Four> norm, ArrayView<Four> keyNorm)
    {
        int half = a.HeadDim / 8, pairs = a.Pairs / 4;
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

    /// <summary>A four of a key as it is stored: normalised, rotated, and where it is compact only of what rotates.</summary>
    private static Four Key(
        AttentionShape a, ArrayView<Four> fours, ArrayView<Four> cosines, ArrayView<Four> norm, int at, int turn, float inverse, int stored)
    {
        int half = a.HeadDim / 8, pairs = a.Pairs / 4, width = a.IsCompact != 0 ? pairs : half;
        bool isSecond = stored >= width;
        int i = isSecond ? stored - width : stored;
        Four x = fours[at + i].Times(inverse).Times(norm[i]), y = fours[at + half + i].Times(inverse).Times(norm[half + i]);
        if (i >= pairs) return isSecond ? y : x;
        Four c = cosines[turn + i], s = cosines[turn + pairs + i];
        return isSecond ? Turned(y, x, c, s, 1f) : Turned(x, y, c, s, -1f);
    }

    /// <summary>The other way round than <see cref="AttentionKernels.ValuePlace"/>: the four that stands at a place.</summary>
    private static int ValueAt(AttentionShape a, int place)
    {
        int half = a.HeadDim / 8, pairs = a.Pairs / 4, still = half - pairs;
        if (a.IsCompact == 0) return place;
        if (place < 2 * still) return place < still ? place + pairs : place + 2 * pairs;
        return place < 2 * still + pairs ? place - 2 * still : place - 2 * still + still;
    }

    private static uint Bytes(Four x) => Byte(x.X) | Byte(x.Y) << 8 | Byte(x.Z) << 16 | Byte(x.W) << 24;

    /// <summary>Counted from −128, so that nothing here has a sign.</summary>
    private static uint Byte(float x)
    {
        uint whole = (uint)(int)(IntrinsicMath.Abs(x) + 0.5f);
        return (x < 0 ? 128u - whole : 128u + whole) & 255u;
    }

    private static Four Turned(Four x, Four y, Four cos, Four sin, float sign) => x.Times(cos).Add(y.Times(sin), sign);

    private static float InverseRms(ArrayView<Four> fours, int at, int n, int lanes, int lane, float epsilon, ArrayView<float> scratch)
    {
        float sum = 0;
        for (int i = lane; i < n; i += lanes) sum += fours[at + i].Dot(fours[at + i]);
        return 1f / XMath.Sqrt(Lanes.Sum(sum, lanes, scratch) / (4 * n) + epsilon);
    }
}
