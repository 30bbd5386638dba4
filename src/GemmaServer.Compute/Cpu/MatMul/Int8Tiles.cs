using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace GemmaServer.Compute;

/// <summary>Weight rows as codes: <c>q[n, k]</c>, <c>scales[n, k/16]</c>, <c>offsets[n, k/16]</c>.</summary>
internal readonly unsafe struct CodeRows(byte* q, float* scales, float* offsets, int k)
{
    public static long Bytes(int n, int k) => (long)n * k + 2L * 4 * n * (k / 16);

    public static CodeRows At(byte* memory, int n, int k)
    {
        float* scales = (float*)(memory + (long)n * k);
        return new CodeRows(memory, scales, scales + (nint)n * (k / 16), k);
    }

    public byte* Codes(int row) => q + (nint)row * k;

    public float* Scales(int row) => scales + (nint)row * (k / 16);

    public float* Offsets(int row) => offsets + (nint)row * (k / 16);
}

/// <summary>
/// <c>y[m, n] += Σ_b scale · Σ_(i in b) u · q</c> over blocks b of 32: integer sums are exact, so only eight lanes of
/// fused multiply-adds in ascending k round, the same on every machine. The offsets' share is a small f32 product that
/// is in y already.
/// </summary>
internal static unsafe class Int8Tiles
{
    /// <summary>All m rows against n rows of codes.</summary>
    public static void MultiplyAdd(Int8Rows x, int m, CodeRows w, int n, int k, float* y, nint yStride)
    {
        int i = 0;
        for (; i <= m - 4; i += 4)
        {
            int j = 0;
            for (; j <= n - 2; j += 2) Tile4x2(x, i, w, j, k, y + i * yStride + j, yStride);
            for (; j < n; j++)
            {
                for (int r = i; r < i + 4; r++) Tile1x1(x, r, w, j, k, y + r * yStride + j);
            }
        }
        for (; i < m; i++)
        {
            int j = 0;
            for (; j <= n - 4; j += 4) Tile1x4(x, i, w, j, k, y + i * yStride + j);
            for (; j < n; j++) Tile1x1(x, i, w, j, k, y + i * yStride + j);
        }
    }

    private static void Tile4x2(Int8Rows x, int i, CodeRows w, int j, int k, float* y, nint yStride)
    {
        sbyte* x0 = x.Codes(i), x1 = x.Codes(i + 1), x2 = x.Codes(i + 2), x3 = x.Codes(i + 3);
        float* s0 = x.RowScales(i), s1 = x.RowScales(i + 1), s2 = x.RowScales(i + 2), s3 = x.RowScales(i + 3);
        byte* w0 = w.Codes(j), w1 = w.Codes(j + 1);
        float* t0 = w.Scales(j), t1 = w.Scales(j + 1);
        Vector256<float> a00 = default, a01 = default, a10 = default, a11 = default;
        Vector256<float> a20 = default, a21 = default, a30 = default, a31 = default;
        for (int b = 0; b < k / 32; b++)
        {
            Vector256<byte> u0 = Vector256.Load(w0 + 32 * b), u1 = Vector256.Load(w1 + 32 * b);
            Vector256<float> v0 = Scales(t0 + 2 * b), v1 = Scales(t1 + 2 * b);
            Vector256<sbyte> q = Vector256.Load(x0 + 32 * b);
            a00 = Step(u0, q, v0, s0[b], a00);
            a01 = Step(u1, q, v1, s0[b], a01);
            q = Vector256.Load(x1 + 32 * b);
            a10 = Step(u0, q, v0, s1[b], a10);
            a11 = Step(u1, q, v1, s1[b], a11);
            q = Vector256.Load(x2 + 32 * b);
            a20 = Step(u0, q, v0, s2[b], a20);
            a21 = Step(u1, q, v1, s2[b], a21);
            q = Vector256.Load(x3 + 32 * b);
            a30 = Step(u0, q, v0, s3[b], a30);
            a31 = Step(u1, q, v1, s3[b], a31);
        }
        y[0] += Lanes.Sum(a00);
        y[1] += Lanes.Sum(a01);
        y[yStride] += Lanes.Sum(a10);
        y[yStride + 1] += Lanes.Sum(a11);
        y[2 * yStride] += Lanes.Sum(a20);
        y[2 * yStride + 1] += Lanes.Sum(a21);
        y[3 * yStride] += Lanes.Sum(a30);
        y[3 * yStride + 1] += Lanes.Sum(a31);
    }

    private static void Tile1x4(Int8Rows x, int i, CodeRows w, int j, int k, float* y)
    {
        sbyte* codes = x.Codes(i);
        float* scales = x.RowScales(i);
        byte* w0 = w.Codes(j), w1 = w.Codes(j + 1), w2 = w.Codes(j + 2), w3 = w.Codes(j + 3);
        float* t0 = w.Scales(j), t1 = w.Scales(j + 1), t2 = w.Scales(j + 2), t3 = w.Scales(j + 3);
        Vector256<float> a0 = default, a1 = default, a2 = default, a3 = default;
        for (int b = 0; b < k / 32; b++)
        {
            Vector256<sbyte> q = Vector256.Load(codes + 32 * b);
            float s = scales[b];
            a0 = Step(Vector256.Load(w0 + 32 * b), q, Scales(t0 + 2 * b), s, a0);
            a1 = Step(Vector256.Load(w1 + 32 * b), q, Scales(t1 + 2 * b), s, a1);
            a2 = Step(Vector256.Load(w2 + 32 * b), q, Scales(t2 + 2 * b), s, a2);
            a3 = Step(Vector256.Load(w3 + 32 * b), q, Scales(t3 + 2 * b), s, a3);
        }
        y[0] += Lanes.Sum(a0);
        y[1] += Lanes.Sum(a1);
        y[2] += Lanes.Sum(a2);
        y[3] += Lanes.Sum(a3);
    }

    private static void Tile1x1(Int8Rows x, int i, CodeRows w, int j, int k, float* y)
    {
        sbyte* codes = x.Codes(i);
        float* scales = x.RowScales(i);
        byte* row = w.Codes(j);
        float* t = w.Scales(j);
        Vector256<float> sum = default;
        for (int b = 0; b < k / 32; b++)
        {
            sum = Step(Vector256.Load(row + 32 * b), Vector256.Load(codes + 32 * b), Scales(t + 2 * b), scales[b], sum);
        }
        *y += Lanes.Sum(sum);
    }

    /// <summary>Lanes 0 … 3 are elements 0 … 15 and their scale, lanes 4 … 7 elements 16 … 31.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Scales(float* pair) => Vector256.Create(Vector128.Create(pair[0]), Vector128.Create(pair[1]));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Step(Vector256<byte> u, Vector256<sbyte> q, Vector256<float> scales, float scale, Vector256<float> sum) =>
        Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(Dot4(u, q)), scales * scale, sum);

    /// <summary>Lane i is the sum of u · q over bytes 4i … 4i + 3, exactly; at most 4 · 255 · 127.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<int> Dot4(Vector256<byte> u, Vector256<sbyte> q)
    {
        if (AvxVnni.IsSupported) return AvxVnni.MultiplyWideningAndAdd(Vector256<int>.Zero, u, q);
        if (Avx2.IsSupported) return Dot4Avx2(u, q);
        if (Vector128.IsHardwareAccelerated) return Dot4Portable(u, q);
        return Dot4Reference(u, q);
    }

    /// <summary>Even and odd bytes widened to 16 bits apart; the byte instruction would saturate.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<int> Dot4Avx2(Vector256<byte> u, Vector256<sbyte> q)
    {
        Vector256<short> evenU = u.AsInt16() & Vector256.Create((short)0xFF), oddU = u.AsInt16() >>> 8;
        Vector256<short> evenQ = (q.AsInt16() << 8) >> 8, oddQ = q.AsInt16() >> 8;
        return Avx2.MultiplyAddAdjacent(evenU, evenQ) + Avx2.MultiplyAddAdjacent(oddU, oddQ);
    }

    /// <summary>Each of a lane's four bytes widened in place.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<int> Dot4Portable(Vector256<byte> u, Vector256<sbyte> q)
    {
        Vector256<int> a = u.AsInt32(), b = q.AsInt32(), low = Vector256.Create(0xFF);
        return (a & low) * ((b << 24) >> 24)
            + ((a >>> 8) & low) * ((b << 16) >> 24)
            + ((a >>> 16) & low) * ((b << 8) >> 24)
            + (a >>> 24) * (b >> 24);
    }

    /// <summary>Plain loops: the definition.</summary>
    internal static Vector256<int> Dot4Reference(Vector256<byte> u, Vector256<sbyte> q)
    {
        byte* a = (byte*)&u;
        sbyte* b = (sbyte*)&q;
        Vector256<int> result = default;
        int* lanes = (int*)&result;
        for (int i = 0; i < 32; i++) lanes[i / 4] += a[i] * b[i];
        return result;
    }
}
