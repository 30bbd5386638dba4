using ILGPU;
using ILGPU.Algorithms;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>What kernels share. ILGPU does not unroll loops, so what should be unrolled is written out.</summary>
/// <remarks>
/// Bytes and halves are only ever seen as byte, ushort and uint: ILGPU 1.5.3 compiles casts from sbyte to byte and from short
/// to ushort to nothing, so that negative values stay negative. A test looks for such casts.
/// </remarks>
internal static class Lanes
{
    /// <summary>Most lanes that reduce a row together.</summary>
    public const int MostRowLanes = 256;

    /// <summary>This lane among all that were launched.</summary>
    public static int Global => Grid.IdxX * Group.DimX + Group.IdxX;

    /// <summary>All lanes that were launched.</summary>
    public static int Count => Grid.DimX * Group.DimX;

    /// <summary>First row of this lane: with one lane a row its own, else its group's.</summary>
    public static int FirstRow(int lanes) => lanes == 1 ? Global : Grid.IdxX;

    /// <summary>From one row to the next.</summary>
    public static int RowStep(int lanes) => lanes == 1 ? Count : Grid.DimX;

    /// <summary>Place of this lane among those of the row.</summary>
    public static int RowLane(int lanes) => lanes == 1 ? 0 : Group.IdxX;

    /// <summary>Sum over the lanes of a row, in a fixed order. With more than one all lanes of the group must come here.</summary>
    public static float Sum(float value, int lanes, ArrayView<float> scratch)
    {
        if (lanes == 1) return value;
        int lane = Group.IdxX;
        scratch[lane] = value;
        Group.Barrier();
        for (int half = lanes / 2; half > 0; half /= 2)
        {
            if (lane < half) scratch[lane] += scratch[lane + half];
            Group.Barrier();
        }
        float total = scratch[0];
        Group.Barrier();
        return total;
    }

    /// <summary>As <see cref="Sum(float, int, ArrayView{float})"/>, of whole numbers.</summary>
    public static long Sum(long value, int lanes, ArrayView<long> scratch)
    {
        if (lanes == 1) return value;
        int lane = Group.IdxX;
        scratch[lane] = value;
        Group.Barrier();
        for (int half = lanes / 2; half > 0; half /= 2)
        {
            if (lane < half) scratch[lane] += scratch[lane + half];
            Group.Barrier();
        }
        long total = scratch[0];
        Group.Barrier();
        return total;
    }

    /// <summary>The greatest of the lanes of a row.</summary>
    public static long Most(long value, int lanes, ArrayView<long> scratch)
    {
        if (lanes == 1) return value;
        int lane = Group.IdxX;
        scratch[lane] = value;
        Group.Barrier();
        for (int half = lanes / 2; half > 0; half /= 2)
        {
            if (lane < half) scratch[lane] = IntrinsicMath.Max(scratch[lane], scratch[lane + half]);
            Group.Barrier();
        }
        long most = scratch[0];
        Group.Barrier();
        return most;
    }

    /// <summary>Waits for the lanes of a row; what they wrote is seen by each.</summary>
    public static void Meet(int lanes)
    {
        if (lanes == 1) return;
        MemoryFence.GroupLevel();
        Group.Barrier();
    }

    /// <summary>A float that a table of whole numbers holds.</summary>
    public static float AsFloat(int bits) => Interop.IntAsFloat((uint)bits);

    /// <summary>A float for a table of whole numbers.</summary>
    public static int AsInt(float value) => (int)Interop.FloatAsInt(value);

    /// <summary>Of IEEE's 16 bits, exactly, subnormal ones included.</summary>
    public static float HalfToFloat(uint bits)
    {
        // Exponent and fraction in a float's place are off by 2^112.
        uint value = Interop.FloatAsInt(Interop.IntAsFloat((bits & 0x7FFFu) << 13) * Interop.IntAsFloat((127u + 112u) << 23));
        if ((bits & 0x7C00u) == 0x7C00u) value |= 0x7F800000u;
        return Interop.IntAsFloat(value | (bits & 0x8000u) << 16);
    }

    /// <summary>To the nearest, ties to even; never NaN here.</summary>
    public static uint FloatToHalf(float value)
    {
        uint bits = Interop.FloatAsInt(value), sign = bits >> 16 & 0x8000u, abs = bits & 0x7FFFFFFFu;
        uint half;
        if (abs >= 0x477FF000u) half = 0x7C00u;
        // Half's smallest steps are those of a float at 1/2.
        else if (abs < 0x38800000u) half = Interop.FloatAsInt(Interop.IntAsFloat(abs) + 0.5f) - 0x3F000000u;
        else half = (abs - 0x38000000u + 0xFFFu + (abs >> 13 & 1u)) >> 13;
        return half | sign;
    }

    /// <summary>To the nearest, ties to even; never NaN here.</summary>
    public static uint FloatToBFloat(float value)
    {
        uint bits = Interop.FloatAsInt(value);
        return (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    }

    /// <summary>A small whole number as a float, without a conversion: in the last bits of 2^23.</summary>
    public static float Small(uint number) => Interop.IntAsFloat(0x4B000000u | number) - 8388608f;

    /// <summary><c>0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))</c> as <c>x / (1 + e^(−2u))</c>.</summary>
    public static float GeluTanh(float x) => x / (1f + XMath.Exp(x * (-1.5957691216057308f - 1.5957691216057308f * 0.044715f * x * x)));

    /// <summary><c>cap · tanh(x / cap)</c>.</summary>
    public static float SoftCap(float x, float cap) => cap * (1f - 2f / (1f + XMath.Exp(2f / cap * x)));
}
