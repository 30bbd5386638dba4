using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>
/// <c>y[m, n] = Σ_k x[m, k] · w[n, k]</c> in f32. Each sum is sixteen lanes of fused multiply-adds in ascending k, halved
/// into one number, plus the tail of k in order. A tile only decides which sums are in registers together, so a value
/// depends neither on m nor on the tile it is computed in.
/// </summary>
/// <remarks>On x86 without FMA (before 2013) the fused form is emulated: the same bits, a hundred times slower.</remarks>
internal static unsafe class FloatTiles
{
    /// <summary>All m rows against n rows of weights.</summary>
    /// <param name="x">Rows of k floats.</param>
    /// <param name="m">Input rows.</param>
    /// <param name="w">First weight row.</param>
    /// <param name="wStride">Floats between weight rows.</param>
    /// <param name="n">Weight rows.</param>
    /// <param name="k">Row length.</param>
    /// <param name="y">First result, <c>[m, n]</c>.</param>
    /// <param name="yStride">Floats between result rows.</param>
    public static void Multiply(RowPointers x, int m, float* w, nint wStride, int n, int k, float* y, nint yStride)
    {
        int i = 0;
        // Sixteen sums fill half of AVX-512's registers; in halves of 256 bits four sums do.
        if (Vector512.IsHardwareAccelerated)
        {
            for (; i <= m - 4; i += 4) Rows4(x[i], x[i + 1], x[i + 2], x[i + 3], w, wStride, n, k, y + i * yStride, yStride);
        }
        else
        {
            for (; i <= m - 2; i += 2) Rows2(x[i], x[i + 1], w, wStride, n, k, y + i * yStride, yStride);
        }
        for (; i < m; i++) Rows1(x[i], w, wStride, n, k, y + i * yStride);
    }

    /// <summary>
    /// As <see cref="Multiply"/> for few input rows, weights read as they are stored: to decode them first would cost more than
    /// the product.
    /// </summary>
    /// <param name="x">Rows of k floats.</param>
    /// <param name="m">Input rows.</param>
    /// <param name="w">First weight row.</param>
    /// <param name="wStride">Bytes between weight rows.</param>
    /// <param name="n">Weight rows.</param>
    /// <param name="k">Row length.</param>
    /// <param name="y">First result, <c>[m, n]</c>.</param>
    /// <param name="yStride">Floats between result rows.</param>
    public static void MultiplyStored<TRow>(RowPointers x, int m, byte* w, long wStride, int n, int k, float* y, nint yStride) where TRow : struct, IFloatRow
    {
        for (int i = 0; i < m; i++)
        {
            int j = 0;
            for (; j <= n - 4; j += 4) Stored1x4<TRow>(x[i], w + j * wStride, wStride, k, y + i * yStride + j);
            for (; j < n; j++) Stored1x1<TRow>(x[i], w + j * wStride, k, y + i * yStride + j);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Stored1x4<TRow>(float* x, byte* w, long wStride, int k, float* y) where TRow : struct, IFloatRow
    {
        byte* w0 = w, w1 = w + wStride, w2 = w + 2 * wStride, w3 = w + 3 * wStride;
        Vector512<float> a0 = default, a1 = default, a2 = default, a3 = default;
        for (int i = 0; i <= k - 16; i += 16)
        {
            Vector512<float> a = Vector512.Load(x + i);
            a0 = Vector512.FusedMultiplyAdd(a, TRow.Sixteen(w0, i), a0);
            a1 = Vector512.FusedMultiplyAdd(a, TRow.Sixteen(w1, i), a1);
            a2 = Vector512.FusedMultiplyAdd(a, TRow.Sixteen(w2, i), a2);
            a3 = Vector512.FusedMultiplyAdd(a, TRow.Sixteen(w3, i), a3);
        }
        y[0] = FinishStored<TRow>(a0, x, w0, k);
        y[1] = FinishStored<TRow>(a1, x, w1, k);
        y[2] = FinishStored<TRow>(a2, x, w2, k);
        y[3] = FinishStored<TRow>(a3, x, w3, k);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Stored1x1<TRow>(float* x, byte* w, int k, float* y) where TRow : struct, IFloatRow
    {
        Vector512<float> sum = default;
        for (int i = 0; i <= k - 16; i += 16) sum = Vector512.FusedMultiplyAdd(Vector512.Load(x + i), TRow.Sixteen(w, i), sum);
        *y = FinishStored<TRow>(sum, x, w, k);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float FinishStored<TRow>(Vector512<float> lanes, float* x, byte* w, int k) where TRow : struct, IFloatRow
    {
        float tail = 0;
        for (int i = k & ~15; i < k; i++) tail = MathF.FusedMultiplyAdd(x[i], TRow.One(w, i), tail);
        return Lanes.Sum(lanes) + tail;
    }

    private static void Rows4(float* x0, float* x1, float* x2, float* x3, float* w, nint wStride, int n, int k, float* y, nint yStride)
    {
        int j = 0;
        for (; j <= n - 4; j += 4) Tile4x4(x0, x1, x2, x3, w + j * wStride, wStride, k, y + j, yStride);
        for (; j < n; j++)
        {
            float* row = w + j * wStride;
            y[j] = Dot(x0, row, k);
            y[yStride + j] = Dot(x1, row, k);
            y[2 * yStride + j] = Dot(x2, row, k);
            y[3 * yStride + j] = Dot(x3, row, k);
        }
    }

    private static void Rows2(float* x0, float* x1, float* w, nint wStride, int n, int k, float* y, nint yStride)
    {
        int j = 0;
        for (; j <= n - 2; j += 2) Tile2x2(x0, x1, w + j * wStride, w + (j + 1) * wStride, k, y + j, yStride);
        for (; j < n; j++)
        {
            y[j] = Dot(x0, w + j * wStride, k);
            y[yStride + j] = Dot(x1, w + j * wStride, k);
        }
    }

    private static void Rows1(float* x, float* w, nint wStride, int n, int k, float* y)
    {
        int j = 0;
        for (; j <= n - 4; j += 4) Tile1x4(x, w + j * wStride, wStride, k, y + j);
        for (; j < n; j++) y[j] = Dot(x, w + j * wStride, k);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4x4(float* x0, float* x1, float* x2, float* x3, float* w, nint wStride, int k, float* y, nint yStride)
    {
        float* w0 = w, w1 = w + wStride, w2 = w + 2 * wStride, w3 = w + 3 * wStride;
        Vector512<float> a00 = default, a01 = default, a02 = default, a03 = default;
        Vector512<float> a10 = default, a11 = default, a12 = default, a13 = default;
        Vector512<float> a20 = default, a21 = default, a22 = default, a23 = default;
        Vector512<float> a30 = default, a31 = default, a32 = default, a33 = default;
        for (int i = 0; i <= k - 16; i += 16)
        {
            Vector512<float> b0 = Vector512.Load(w0 + i), b1 = Vector512.Load(w1 + i), b2 = Vector512.Load(w2 + i), b3 = Vector512.Load(w3 + i);
            Vector512<float> a = Vector512.Load(x0 + i);
            a00 = Vector512.FusedMultiplyAdd(a, b0, a00);
            a01 = Vector512.FusedMultiplyAdd(a, b1, a01);
            a02 = Vector512.FusedMultiplyAdd(a, b2, a02);
            a03 = Vector512.FusedMultiplyAdd(a, b3, a03);
            a = Vector512.Load(x1 + i);
            a10 = Vector512.FusedMultiplyAdd(a, b0, a10);
            a11 = Vector512.FusedMultiplyAdd(a, b1, a11);
            a12 = Vector512.FusedMultiplyAdd(a, b2, a12);
            a13 = Vector512.FusedMultiplyAdd(a, b3, a13);
            a = Vector512.Load(x2 + i);
            a20 = Vector512.FusedMultiplyAdd(a, b0, a20);
            a21 = Vector512.FusedMultiplyAdd(a, b1, a21);
            a22 = Vector512.FusedMultiplyAdd(a, b2, a22);
            a23 = Vector512.FusedMultiplyAdd(a, b3, a23);
            a = Vector512.Load(x3 + i);
            a30 = Vector512.FusedMultiplyAdd(a, b0, a30);
            a31 = Vector512.FusedMultiplyAdd(a, b1, a31);
            a32 = Vector512.FusedMultiplyAdd(a, b2, a32);
            a33 = Vector512.FusedMultiplyAdd(a, b3, a33);
        }
        Finish4(a00, a01, a02, a03, x0, w0, w1, w2, w3, k, y);
        Finish4(a10, a11, a12, a13, x1, w0, w1, w2, w3, k, y + yStride);
        Finish4(a20, a21, a22, a23, x2, w0, w1, w2, w3, k, y + 2 * yStride);
        Finish4(a30, a31, a32, a33, x3, w0, w1, w2, w3, k, y + 3 * yStride);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile2x2(float* x0, float* x1, float* w0, float* w1, int k, float* y, nint yStride)
    {
        Vector512<float> a00 = default, a01 = default, a10 = default, a11 = default;
        for (int i = 0; i <= k - 16; i += 16)
        {
            Vector512<float> b0 = Vector512.Load(w0 + i), b1 = Vector512.Load(w1 + i);
            Vector512<float> a = Vector512.Load(x0 + i);
            a00 = Vector512.FusedMultiplyAdd(a, b0, a00);
            a01 = Vector512.FusedMultiplyAdd(a, b1, a01);
            a = Vector512.Load(x1 + i);
            a10 = Vector512.FusedMultiplyAdd(a, b0, a10);
            a11 = Vector512.FusedMultiplyAdd(a, b1, a11);
        }
        y[0] = Finish(a00, x0, w0, k);
        y[1] = Finish(a01, x0, w1, k);
        y[yStride] = Finish(a10, x1, w0, k);
        y[yStride + 1] = Finish(a11, x1, w1, k);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1x4(float* x, float* w, nint wStride, int k, float* y)
    {
        float* w0 = w, w1 = w + wStride, w2 = w + 2 * wStride, w3 = w + 3 * wStride;
        Vector512<float> a0 = default, a1 = default, a2 = default, a3 = default;
        for (int i = 0; i <= k - 16; i += 16)
        {
            Vector512<float> a = Vector512.Load(x + i);
            a0 = Vector512.FusedMultiplyAdd(a, Vector512.Load(w0 + i), a0);
            a1 = Vector512.FusedMultiplyAdd(a, Vector512.Load(w1 + i), a1);
            a2 = Vector512.FusedMultiplyAdd(a, Vector512.Load(w2 + i), a2);
            a3 = Vector512.FusedMultiplyAdd(a, Vector512.Load(w3 + i), a3);
        }
        Finish4(a0, a1, a2, a3, x, w0, w1, w2, w3, k, y);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Dot(float* x, float* w, int k)
    {
        Vector512<float> sum = default;
        for (int i = 0; i <= k - 16; i += 16) sum = Vector512.FusedMultiplyAdd(Vector512.Load(x + i), Vector512.Load(w + i), sum);
        return Finish(sum, x, w, k);
    }

    private static void Finish4(
        Vector512<float> a0, Vector512<float> a1, Vector512<float> a2, Vector512<float> a3,
        float* x, float* w0, float* w1, float* w2, float* w3, int k, float* y)
    {
        y[0] = Finish(a0, x, w0, k);
        y[1] = Finish(a1, x, w1, k);
        y[2] = Finish(a2, x, w2, k);
        y[3] = Finish(a3, x, w3, k);
    }

    /// <summary>The lanes' sum and the tail's.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Finish(Vector512<float> lanes, float* x, float* w, int k)
    {
        float tail = 0;
        for (int i = k & ~15; i < k; i++) tail = MathF.FusedMultiplyAdd(x[i], w[i], tail);
        return Lanes.Sum(lanes) + tail;
    }

    /// <summary>The same arithmetic in plain loops: what the tiles must equal bit for bit.</summary>
    internal static float DotReference(ReadOnlySpan<float> x, ReadOnlySpan<float> w)
    {
        Span<float> lanes = stackalloc float[16];
        lanes.Clear();
        int whole = x.Length & ~15;
        for (int i = 0; i < whole; i++) lanes[i & 15] = MathF.FusedMultiplyAdd(x[i], w[i], lanes[i & 15]);
        float tail = 0;
        for (int i = whole; i < x.Length; i++) tail = MathF.FusedMultiplyAdd(x[i], w[i], tail);
        for (int width = 8; width > 0; width /= 2)
        {
            for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
        }
        return lanes[0] + tail;
    }
}

/// <summary>Weights that are floats of some width, as stored.</summary>
internal unsafe interface IFloatRow
{
    /// <summary>Elements i … i + 15.</summary>
    static abstract Vector512<float> Sixteen(byte* row, int i);

    /// <summary>Element i.</summary>
    static abstract float One(byte* row, int i);
}

internal readonly unsafe struct F16Row : IFloatRow
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Sixteen(byte* row, int i) => Lanes.HalfToSingle(Vector256.Load((ushort*)row + i));

    public static float One(byte* row, int i) => (float)((Half*)row)[i];
}

internal readonly unsafe struct BF16Row : IFloatRow
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Sixteen(byte* row, int i) => (Lanes.Widen(Vector256.Load((ushort*)row + i)) << 16).AsSingle();

    public static float One(byte* row, int i) => BitConverter.UInt32BitsToSingle((uint)((ushort*)row)[i] << 16);
}
