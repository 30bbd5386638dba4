using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>Sixteen stored elements to floats and back, the same on every register width.</summary>
/// <remarks>.NET 10 has no conversion instructions for halves, and a cast of <see cref="Half"/> is a call: hence the arithmetic on bits.</remarks>
internal static class KvLanes
{
    /// <summary>Sixteen finite halves, subnormals included; what infinity and NaN become is of no use.</summary>
    /// <remarks>
    /// Exponent and fraction moved into a float's place are off by 2^112, for subnormals too. Widening with the sign brings
    /// the sign to its place in the same shift; three copies of it are cleared.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> FiniteHalfToSingle(Vector256<short> h)
    {
        Vector512<int> bits = (Vector512.WidenLower(h.ToVector512Unsafe()) << 13) & Vector512.Create(unchecked((int)0x8FFFE000));
        return bits.AsSingle() * BitConverter.UInt32BitsToSingle((127u + 112) << 23);
    }

    /// <summary>Rounds to halves, to nearest, ties to even; too large becomes infinity, NaN a NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<ushort> SingleToHalf(Vector512<float> x)
    {
        Vector512<uint> magnitude = x.AsUInt32() & Vector512.Create(0x7FFFFFFFu);
        // Adding the exponent of 0.5 leaves a subnormal half's fraction, rounded by the addition, in the low bits.
        Vector512<uint> half = Vector512.Create(0x3F000000u);
        Vector512<uint> small = (magnitude.AsSingle() + half.AsSingle()).AsUInt32() - half;
        // From 65,536 on all is infinity; the exponent's bias changes from 127 to 15, and what is cut off rounds to even.
        Vector512<uint> capped = Vector512.Min(magnitude, Vector512.Create(0x47800000u));
        Vector512<uint> normal = (capped + Vector512.Create(0xC8000FFFu) + ((capped >>> 13) & Vector512<uint>.One)) >>> 13;
        Vector512<uint> h = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(0x38800000u)), small, normal);
        Vector512<uint> quiet = Vector512.GreaterThan(magnitude, Vector512.Create(0x7F800000u)) & Vector512.Create(0x200u);
        return Narrow(h | quiet | ((x.AsUInt32() >>> 16) & Vector512.Create(0x8000u)));
    }

    /// <summary>To the nearest whole number, halves away from zero: what <see cref="MathF.Round(float, MidpointRounding)"/> does.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<int> RoundAway(Vector512<float> x)
    {
        // Largest float below a half: with a whole half, the number just below one half would round up.
        Vector512<float> nearHalf = Vector512.Create(0.49999997f) | (x & Vector512.Create(-0f));
        return Vector512.ConvertToInt32(x + nearHalf);
    }

    /// <summary>Largest of sixteen lanes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Max(Vector512<float> v)
    {
        Vector256<float> eight = Vector256.Max(v.GetLower(), v.GetUpper());
        Vector128<float> four = Vector128.Max(eight.GetLower(), eight.GetUpper());
        Vector128<float> two = Vector128.Max(four, Vector128.Shuffle(four, Vector128.Create(2, 3, 0, 1)));
        return MathF.Max(two.ToScalar(), two.GetElement(1));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Widen(Vector256<ushort> v) => Vector512.WidenLower(v.ToVector512Unsafe());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Widen(Vector128<sbyte> v) =>
        Vector512.ConvertToSingle(Vector512.WidenLower(Vector256.WidenLower(v.ToVector256Unsafe()).ToVector512Unsafe()));

    /// <summary>The low halves of sixteen numbers below 65,536.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<ushort> Narrow(Vector512<uint> v) => Vector256.Narrow(v.GetLower(), v.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<sbyte> NarrowToBytes(Vector512<int> low, Vector512<int> high) =>
        Vector256.Narrow(Vector256.Narrow(low.GetLower(), low.GetUpper()), Vector256.Narrow(high.GetLower(), high.GetUpper()));
}
