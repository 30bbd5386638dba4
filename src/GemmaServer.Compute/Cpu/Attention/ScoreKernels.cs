using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace GemmaServer.Compute;

/// <summary>Scores = Q · Kᵀ, four queries and four keys at a time, the sums in registers.</summary>
/// <remarks>
/// A score is sixteen running sums over the elements in order, then their sum by halving: the same bits from every kernel here.
/// </remarks>
internal static unsafe class ScoreKernels
{
    /// <summary>Bytes that a run over a whole tile asks for.</summary>
    public static int AheadBytes(int width) => AttentionTiles.KeyTile * width;

    /// <summary>Scores of some queries against some keys; both counts may be any.</summary>
    /// <param name="q">Queries, <c>[queries][qStride]</c>.</param>
    /// <param name="queries">How many.</param>
    /// <param name="width">Elements of a row, a multiple of 16.</param>
    /// <param name="qStride">Distance of two queries.</param>
    /// <param name="keys">Keys, as many pointers as <paramref name="count"/> rounded up to a multiple of four.</param>
    /// <param name="count">Keys that are wanted; scores of the rest up to a multiple of four are written too.</param>
    /// <param name="scores">Output, <c>[queries][stride]</c>.</param>
    /// <param name="stride">Distance of two queries' scores.</param>
    /// <param name="ahead">What is read from memory next: the kernels ask for a cache line every few products, so that it comes
    /// while they compute. Null for nothing.</param>
    public static void Run(float* q, int queries, int width, nint qStride, float** keys, int count, float* scores, int stride, byte* ahead)
    {
        if (ahead == null) Run<AskNothing>(q, queries, width, qStride, keys, count, scores, stride, ahead);
        else Run<AskAhead>(q, queries, width, qStride, keys, count, scores, stride, ahead);
    }

    private static void Run<TAhead>(float* q, int queries, int width, nint qStride, float** keys, int count, float* scores, int stride, byte* ahead)
        where TAhead : struct, IAhead
    {
        int i = 0;
        // Sixteen sums need 32 registers.
        if (Vector512.IsHardwareAccelerated && Avx512F.IsSupported)
        {
            for (; i + 4 <= queries; i += 4)
                for (int k = 0; k < count; k += 4) Tile4x4<TAhead>(q + i * qStride, width, qStride, keys + k, scores + i * stride + k, stride, ahead + k * width);
            for (; i + 2 <= queries; i += 2)
                for (int k = 0; k < count; k += 4) Tile2x4<TAhead>(q + i * qStride, width, qStride, keys + k, scores + i * stride + k, stride, ahead + k * width);
        }
        for (; i < queries; i++)
            for (int k = 0; k < count; k += 4) Tile1x4(q + i * qStride, width, keys + k, scores + i * stride + k);
    }

    private static void Tile4x4<TAhead>(float* q, nint width, nint qStride, float** keys, float* scores, nint stride, byte* ahead)
        where TAhead : struct, IAhead
    {
        float* q1 = q + qStride, q2 = q1 + qStride, q3 = q2 + qStride, k0 = keys[0], k1 = keys[1], k2 = keys[2], k3 = keys[3];
        Vector512<float> s00 = default, s01 = default, s02 = default, s03 = default;
        Vector512<float> s10 = default, s11 = default, s12 = default, s13 = default;
        Vector512<float> s20 = default, s21 = default, s22 = default, s23 = default;
        Vector512<float> s30 = default, s31 = default, s32 = default, s33 = default;
        for (nint i = 0; i < width; i += 16)
        {
            if (TAhead.Ask) Sse.Prefetch1(ahead + i * sizeof(float));
            Vector512<float> b0 = Vector512.Load(k0 + i), b1 = Vector512.Load(k1 + i), b2 = Vector512.Load(k2 + i), b3 = Vector512.Load(k3 + i);
            Vector512<float> a = Vector512.Load(q + i);
            s00 = Vector512.FusedMultiplyAdd(a, b0, s00);
            s01 = Vector512.FusedMultiplyAdd(a, b1, s01);
            s02 = Vector512.FusedMultiplyAdd(a, b2, s02);
            s03 = Vector512.FusedMultiplyAdd(a, b3, s03);
            a = Vector512.Load(q1 + i);
            s10 = Vector512.FusedMultiplyAdd(a, b0, s10);
            s11 = Vector512.FusedMultiplyAdd(a, b1, s11);
            s12 = Vector512.FusedMultiplyAdd(a, b2, s12);
            s13 = Vector512.FusedMultiplyAdd(a, b3, s13);
            a = Vector512.Load(q2 + i);
            s20 = Vector512.FusedMultiplyAdd(a, b0, s20);
            s21 = Vector512.FusedMultiplyAdd(a, b1, s21);
            s22 = Vector512.FusedMultiplyAdd(a, b2, s22);
            s23 = Vector512.FusedMultiplyAdd(a, b3, s23);
            a = Vector512.Load(q3 + i);
            s30 = Vector512.FusedMultiplyAdd(a, b0, s30);
            s31 = Vector512.FusedMultiplyAdd(a, b1, s31);
            s32 = Vector512.FusedMultiplyAdd(a, b2, s32);
            s33 = Vector512.FusedMultiplyAdd(a, b3, s33);
        }
        // Four lanes of four: lanes 4n and on hold query n's four keys.
        Vector512<float> sums = SumAll(
            Quarter(s00, s10, s20, s30), Quarter(s01, s11, s21, s31), Quarter(s02, s12, s22, s32), Quarter(s03, s13, s23, s33));
        sums.GetLower().GetLower().Store(scores);
        sums.GetLower().GetUpper().Store(scores + stride);
        sums.GetUpper().GetLower().Store(scores + 2 * stride);
        sums.GetUpper().GetUpper().Store(scores + 3 * stride);
    }

    private static void Tile2x4<TAhead>(float* q, nint width, nint qStride, float** keys, float* scores, nint stride, byte* ahead)
        where TAhead : struct, IAhead
    {
        float* q1 = q + qStride, k0 = keys[0], k1 = keys[1], k2 = keys[2], k3 = keys[3];
        Vector512<float> s00 = default, s01 = default, s02 = default, s03 = default;
        Vector512<float> s10 = default, s11 = default, s12 = default, s13 = default;
        for (nint i = 0; i < width; i += 16)
        {
            if (TAhead.Ask) Sse.Prefetch1(ahead + i * sizeof(float));
            Vector512<float> b0 = Vector512.Load(k0 + i), b1 = Vector512.Load(k1 + i), b2 = Vector512.Load(k2 + i), b3 = Vector512.Load(k3 + i);
            Vector512<float> a = Vector512.Load(q + i);
            s00 = Vector512.FusedMultiplyAdd(a, b0, s00);
            s01 = Vector512.FusedMultiplyAdd(a, b1, s01);
            s02 = Vector512.FusedMultiplyAdd(a, b2, s02);
            s03 = Vector512.FusedMultiplyAdd(a, b3, s03);
            a = Vector512.Load(q1 + i);
            s10 = Vector512.FusedMultiplyAdd(a, b0, s10);
            s11 = Vector512.FusedMultiplyAdd(a, b1, s11);
            s12 = Vector512.FusedMultiplyAdd(a, b2, s12);
            s13 = Vector512.FusedMultiplyAdd(a, b3, s13);
        }
        Vector512<float> sums = SumAll(Quarter(s00, s10, s00, s10), Quarter(s01, s11, s01, s11), Quarter(s02, s12, s02, s12), Quarter(s03, s13, s03, s13));
        sums.GetLower().GetLower().Store(scores);
        sums.GetLower().GetUpper().Store(scores + stride);
    }

    private static void Tile1x4(float* q, nint width, float** keys, float* scores)
    {
        float* k0 = keys[0], k1 = keys[1], k2 = keys[2], k3 = keys[3];
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default;
        for (nint i = 0; i < width; i += 16)
        {
            Vector512<float> a = Vector512.Load(q + i);
            s0 = Vector512.FusedMultiplyAdd(a, Vector512.Load(k0 + i), s0);
            s1 = Vector512.FusedMultiplyAdd(a, Vector512.Load(k1 + i), s1);
            s2 = Vector512.FusedMultiplyAdd(a, Vector512.Load(k2 + i), s2);
            s3 = Vector512.FusedMultiplyAdd(a, Vector512.Load(k3 + i), s3);
        }
        scores[0] = Lanes.Sum(s0);
        scores[1] = Lanes.Sum(s1);
        scores[2] = Lanes.Sum(s2);
        scores[3] = Lanes.Sum(s3);
    }

    /// <summary>First two halvings of four vectors' sums: lanes 4n … 4n + 3 belong to the n-th.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Quarter(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d)
    {
        Vector512<float> ab = Avx512F.Shuffle4x128(a, b, 0x44) + Avx512F.Shuffle4x128(a, b, 0xEE);
        Vector512<float> cd = Avx512F.Shuffle4x128(c, d, 0x44) + Avx512F.Shuffle4x128(c, d, 0xEE);
        return Avx512F.Shuffle4x128(ab, cd, 0x88) + Avx512F.Shuffle4x128(ab, cd, 0xDD);
    }

    /// <summary>The last two halvings: of the n-th four lanes of each, in the n-th four lanes of the result.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> SumAll(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d)
    {
        Vector512<float> ab = Avx512F.Shuffle(a, b, 0x44) + Avx512F.Shuffle(a, b, 0xEE);
        Vector512<float> cd = Avx512F.Shuffle(c, d, 0x44) + Avx512F.Shuffle(c, d, 0xEE);
        return Avx512F.Shuffle(ab, cd, 0x88) + Avx512F.Shuffle(ab, cd, 0xDD);
    }
}

/// <summary>Whether a kernel asks for what is read next; a struct, so that the kernels that need not are free of it.</summary>
internal interface IAhead
{
    static abstract bool Ask { get; }
}

internal readonly struct AskAhead : IAhead
{
    public static bool Ask => true;
}

internal readonly struct AskNothing : IAhead
{
    public static bool Ask => false;
}
