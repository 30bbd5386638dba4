using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace GemmaServer.Compute;

/// <summary>Integer dot products of four bytes a lane, exact on every machine.</summary>
/// <remarks>
/// AVX2 without VNNI multiplies unsigned by signed bytes and adds pairs of products in 16 bits, where they may saturate. Where
/// the codes of a format are small, the pairs of several quads fit in (<see cref="QuadsInShorts"/>) and are widened together; the
/// others take the product as |w| · ±q, whose pairs are at most 2 · 128 · 127 = 32,512.
/// </remarks>
internal static unsafe class Dot4
{
    /// <summary>Whether pairs of products in 16 bits are the fastest there is.</summary>
    public static bool HasOnlyPairs => Avx2.IsSupported && !AvxVnni.IsSupported;

    /// <summary>
    /// Whether weights with codes up to <paramref name="largestCode"/> meet signed inputs as signed bytes (code − 128, so that
    /// nothing is left to take off), because the instruction wants that or codes are too wide for pairs.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool TakesSigned(int largestCode) => largestCode > 127 && (HasOnlyPairs || Dp.IsSupported);

    /// <summary>
    /// How many quads' pairs fit in 16 bits, none where one does not: <c>n · 2 · a · b ≤ 32767</c> for |codes| up to a and b, as
    /// every term of a lane may have the largest size and the same sign. A power of two up to 8, a block's quads.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int QuadsInShorts(int a, int b) =>
        16 * a * b <= short.MaxValue ? 8 : 8 * a * b <= short.MaxValue ? 4 : 4 * a * b <= short.MaxValue ? 2 : 2 * a * b <= short.MaxValue ? 1 : 0;

    /// <summary>Lane i of <paramref name="sum"/> plus the sum of u · q over bytes 4i … 4i + 3.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> Add(Vector256<byte> u, Vector256<sbyte> q, Vector256<int> sum)
    {
        if (AvxVnni.IsSupported) return AvxVnni.MultiplyWideningAndAdd(sum, u, q);
        if (Avx2.IsSupported) return sum + WithAvx2(u, q);
        if (Dp.IsSupported) return WithArmDot(u, q, sum);
        if (Vector128.IsHardwareAccelerated) return sum + Portable(u, q);
        return sum + Reference(u, q);
    }

    /// <summary>The same for signed w and |q| ≤ 127.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> AddSigned(Vector256<sbyte> w, Vector256<sbyte> q, Vector256<int> sum)
    {
        if (Avx2.IsSupported) return AddPairs(Avx2.MultiplyAddAdjacent(Avx2.Abs(w), Avx2.Sign(q, w)), sum);
        if (Dp.IsSupported)
        {
            return Vector256.Create(
                Dp.DotProduct(sum.GetLower(), w.GetLower(), q.GetLower()), Dp.DotProduct(sum.GetUpper(), w.GetUpper(), q.GetUpper()));
        }
        // u · q = (u − 128) · q + 128 · q
        return Add(w.AsByte() ^ Vector256.Create((byte)0x80), q, sum) - (Add(Vector256<byte>.One, q, Vector256<int>.Zero) << 7);
    }

    /// <summary>Lane i of <paramref name="sum"/> plus shorts 2i and 2i + 1; AVX2.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> AddPairs(Vector256<short> pairs, Vector256<int> sum) =>
        sum + Avx2.MultiplyAddAdjacent(pairs, Vector256<short>.One);

    /// <summary>Even and odd bytes widened to 16 bits apart: right for all bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<int> WithAvx2(Vector256<byte> u, Vector256<sbyte> q)
    {
        Vector256<short> evenU = u.AsInt16() & Vector256.Create((short)0xFF), oddU = u.AsInt16() >>> 8;
        Vector256<short> evenQ = (q.AsInt16() << 8) >> 8, oddQ = q.AsInt16() >> 8;
        return Avx2.MultiplyAddAdjacent(evenU, evenQ) + Avx2.MultiplyAddAdjacent(oddU, oddQ);
    }

    /// <summary>The instruction takes signed bytes only: u · q = (u − 128) · q + 128 · q.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> WithArmDot(Vector256<byte> u, Vector256<sbyte> q, Vector256<int> sum)
    {
        Vector256<sbyte> s = (u ^ Vector256.Create((byte)0x80)).AsSByte();
        return Vector256.Create(Half(s.GetLower(), q.GetLower(), sum.GetLower()), Half(s.GetUpper(), q.GetUpper(), sum.GetUpper()));

        static Vector128<int> Half(Vector128<sbyte> s, Vector128<sbyte> q, Vector128<int> sum) =>
            Dp.DotProduct(sum, s, q) + (Dp.DotProduct(Vector128<int>.Zero, Vector128<sbyte>.One, q) << 7);
    }

    /// <summary>Each of a lane's four bytes widened in place.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<int> Portable(Vector256<byte> u, Vector256<sbyte> q)
    {
        Vector256<int> a = u.AsInt32(), b = q.AsInt32(), low = Vector256.Create(0xFF);
        return (a & low) * ((b << 24) >> 24)
            + ((a >>> 8) & low) * ((b << 16) >> 24)
            + ((a >>> 16) & low) * ((b << 8) >> 24)
            + (a >>> 24) * (b >> 24);
    }

    /// <summary>Plain loops: the definition.</summary>
    internal static Vector256<int> Reference(Vector256<byte> u, Vector256<sbyte> q)
    {
        byte* a = (byte*)&u;
        sbyte* b = (sbyte*)&q;
        Vector256<int> result = default;
        int* lanes = (int*)&result;
        for (int i = 0; i < 32; i++) lanes[i / 4] += a[i] * b[i];
        return result;
    }
}
