using ILGPU;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>How 32 weights of a row are scaled.</summary>
internal struct BlockScale
{
    public float Factor, Minimum;
}

/// <summary>
/// A way in which weights lie on the device; a struct each, so that ILGPU writes one kernel body each. Rows come in panels of
/// 32, so that 32 lanes with a row each read what lies side by side:
/// <code>
/// codes   [panel][columns / 8][32 rows]     8 weights: 4 to 32 bytes
/// scales  [panel][columns / 32][32 rows]    2 bytes, where the format has them
/// supers  [panel][columns / 256][32 rows]   4 bytes, where the format has them
/// </code>
/// </summary>
internal interface IWeightFormat
{
    /// <summary>Bytes of eight weights.</summary>
    static abstract int EightBytes { get; }

    static abstract BlockScale Scale(ArrayView<ushort> scales, ArrayView<uint> supers, long block, long super);

    static abstract Eight Load(ArrayView<uint> codes, long eight, BlockScale scale);
}

/// <summary>32-bit floats.</summary>
internal readonly struct FloatFormat : IWeightFormat
{
    public static int EightBytes => 32;

    public static BlockScale Scale(ArrayView<ushort> scales, ArrayView<uint> supers, long block, long super) => default;

    public static Eight Load(ArrayView<uint> codes, long eight, BlockScale scale)
    {
        ArrayView<Four> fours = codes.Cast<Four>();
        return new Eight(fours[2 * eight], fours[2 * eight + 1]);
    }
}

/// <summary>bfloat16.</summary>
internal readonly struct BFloatFormat : IWeightFormat
{
    public static int EightBytes => 16;

    public static BlockScale Scale(ArrayView<ushort> scales, ArrayView<uint> supers, long block, long super) => default;

    public static Eight Load(ArrayView<uint> codes, long eight, BlockScale scale)
    {
        Quad q = codes.Cast<Quad>()[eight];
        return new Eight(new Four(Low(q.X), High(q.X), Low(q.Y), High(q.Y)), new Four(Low(q.Z), High(q.Z), Low(q.W), High(q.W)));
    }

    private static float Low(uint word) => Interop.IntAsFloat(word << 16);

    private static float High(uint word) => Interop.IntAsFloat(word & 0xFFFF0000u);
}

/// <summary>Q8_0: bytes that count from −128, and a half for each 32.</summary>
internal readonly struct Q8Format : IWeightFormat
{
    public static int EightBytes => 8;

    public static BlockScale Scale(ArrayView<ushort> scales, ArrayView<uint> supers, long block, long super) =>
        new() { Factor = Lanes.HalfToFloat(scales[block]) };

    public static Eight Load(ArrayView<uint> codes, long eight, BlockScale scale)
    {
        Pair p = codes.Cast<Pair>()[eight];
        return new Eight(Decode(p.X, scale.Factor), Decode(p.Y, scale.Factor));
    }

    private static Four Decode(uint word, float factor) => new(
        (Lanes.Small(word & 255u) - 128f) * factor, (Lanes.Small(word >> 8 & 255u) - 128f) * factor,
        (Lanes.Small(word >> 16 & 255u) - 128f) * factor, (Lanes.Small(word >> 24) - 128f) * factor);
}

/// <summary>Q4_0: four bits that count from −8, and a half for each 32. The i-th weight of eight is in bits 4i … 4i + 3.</summary>
internal readonly struct Q4Format : IWeightFormat
{
    public static int EightBytes => 4;

    public static BlockScale Scale(ArrayView<ushort> scales, ArrayView<uint> supers, long block, long super)
    {
        float factor = Lanes.HalfToFloat(scales[block]);
        return new() { Factor = factor, Minimum = 8f * factor };
    }

    public static Eight Load(ArrayView<uint> codes, long eight, BlockScale scale) => Nibbles.Decode(codes[eight], scale);
}

/// <summary>Q4_K: four bits, scale and minimum of six bits for each 32 (low and high byte of scales), halves d and dmin for each 256.</summary>
internal readonly struct Q4KFormat : IWeightFormat
{
    public static int EightBytes => 4;

    public static BlockScale Scale(ArrayView<ushort> scales, ArrayView<uint> supers, long block, long super)
    {
        uint pair = scales[block], halves = supers[super];
        return new()
        {
            Factor = Lanes.HalfToFloat(halves & 0xFFFFu) * Lanes.Small(pair & 255u),
            Minimum = Lanes.HalfToFloat(halves >> 16) * Lanes.Small(pair >> 8),
        };
    }

    public static Eight Load(ArrayView<uint> codes, long eight, BlockScale scale) => Nibbles.Decode(codes[eight], scale);
}

/// <summary>Eight codes of four bits.</summary>
internal static class Nibbles
{
    public static Eight Decode(uint word, BlockScale scale) => new(
        new Four(One(word, scale), One(word >> 4, scale), One(word >> 8, scale), One(word >> 12, scale)),
        new Four(One(word >> 16, scale), One(word >> 20, scale), One(word >> 24, scale), One(word >> 28, scale)));

    private static float One(uint word, BlockScale scale) => Lanes.Small(word & 15u) * scale.Factor - scale.Minimum;
}
