using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace GemmaServer.Compute;

/// <summary>Widening and summing, the same on every register width.</summary>
internal static class Lanes
{
    /// <summary>Sixteen unsigned bytes to floats.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Widen(Vector128<byte> v) =>
        Vector512.ConvertToSingle(Widen(Vector256.WidenLower(v.ToVector256Unsafe())).AsInt32());

    /// <summary>Sixteen unsigned bytes to ints.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<int> WidenToInt(Vector128<byte> v) => Avx512F.IsSupported
        ? Avx512F.ConvertToVector512Int32(v)
        : Avx2.IsSupported ? Vector512.Create(Avx2.ConvertToVector256Int32(v), Avx2.ConvertToVector256Int32(Sse2.ShiftRightLogical128BitLane(v, 8)))
        : Widen(Vector256.WidenLower(v.ToVector256Unsafe())).AsInt32();

    /// <summary>Sixteen signed bytes to ints.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<int> WidenToInt(Vector128<sbyte> v) => Avx512F.IsSupported
        ? Avx512F.ConvertToVector512Int32(v)
        : Avx2.IsSupported ? Vector512.Create(Avx2.ConvertToVector256Int32(v), Avx2.ConvertToVector256Int32(Sse2.ShiftRightLogical128BitLane(v, 8)))
        : Vector512.WidenLower(Vector256.WidenLower(v.ToVector256Unsafe()).ToVector512Unsafe());

    /// <summary>Sixteen unsigned shorts to ints.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Widen(Vector256<ushort> v) => Vector512.WidenLower(v.ToVector512Unsafe());

    /// <summary>Sixteen IEEE halves to floats, exactly, subnormals included.</summary>
    /// <remarks>
    /// Exponent and fraction moved into a float's place are off by 2^112, for subnormals too; infinity and NaN (exponent
    /// 31) get the float's full exponent.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> HalfToSingle(Vector256<ushort> h)
    {
        // Halves by name where they are: the JIT inlines only so many operations on two of them.
        if (!Vector512.IsHardwareAccelerated) return Vector512.Create(EightHalves(h.GetLower()), EightHalves(h.GetUpper()));
        Vector512<uint> bits = Widen(h);
        Vector512<uint> sign = (bits & Vector512.Create(0x8000u)) << 16;
        Vector512<uint> special = Vector512.GreaterThanOrEqual(bits & Vector512.Create(0x7C00u), Vector512.Create(0x7C00u));
        Vector512<float> scaled = ((bits & Vector512.Create(0x7FFFu)) << 13).AsSingle() * BitConverter.UInt32BitsToSingle((127u + 112) << 23);
        return (scaled.AsUInt32() | (special & Vector512.Create(0x7F800000u)) | sign).AsSingle();
    }

    /// <summary>Eight IEEE halves to floats, likewise.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> EightHalves(Vector128<ushort> h)
    {
        Vector256<uint> bits = Avx2.IsSupported ? Avx2.ConvertToVector256Int32(h).AsUInt32() : Vector256.WidenLower(h.ToVector256Unsafe());
        Vector256<uint> sign = (bits & Vector256.Create(0x8000u)) << 16;
        Vector256<uint> special = Vector256.GreaterThan((bits & Vector256.Create(0x7C00u)).AsInt32(), Vector256.Create(0x7BFF)).AsUInt32();
        Vector256<float> scaled = ((bits & Vector256.Create(0x7FFFu)) << 13).AsSingle() * BitConverter.UInt32BitsToSingle((127u + 112) << 23);
        return (scaled.AsUInt32() | (special & Vector256.Create(0x7F800000u)) | sign).AsSingle();
    }

    /// <summary>Sum of sixteen lanes by halving, in this order on every machine.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector512<float> v) => Sum(v.GetLower() + v.GetUpper());

    /// <summary>Sum of eight lanes by halving, in this order on every machine.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector256<float> v)
    {
        Vector128<float> four = v.GetLower() + v.GetUpper();
        Vector128<float> two = four + Vector128.Shuffle(four, Vector128.Create(2, 3, 0, 1));
        return two.ToScalar() + two.GetElement(1);
    }
}
