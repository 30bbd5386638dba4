using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace GemmaServer.Compute;

/// <summary>Integer dot products of four bytes a lane, exact on every machine.</summary>
internal static unsafe class Dot4
{
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

    /// <summary>Even and odd bytes widened to 16 bits apart; the byte instruction would saturate.</summary>
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
