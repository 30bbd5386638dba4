using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>Unsigned bytes for scale and minimum of units of 32 or 16 columns, times two halves for the group, which is a stored block.</summary>
internal readonly unsafe struct BytePairs<TUnit> : IPanelScales where TUnit : struct, IUnit
{
    public static int Unit => TUnit.Columns;

    public static bool HasOffset => true;

    public static int Bytes(int units) => 32 * units + 64;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(in BlockFields fields, byte* area, int units, int unit, int row)
    {
        for (int i = 0; i < units; i++)
        {
            area[32 * i + row] = fields.Scales[i];
            area[32 * i + 16 + row] = fields.Minima[i];
        }
        ushort* halves = (ushort*)(area + 32 * units);
        halves[row] = fields.D;
        halves[16 + row] = fields.M;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Begin(byte* area, int units, out Vector512<float> d, out Vector512<float> m)
    {
        ushort* halves = (ushort*)(area + 32 * units);
        d = Lanes.HalfToSingle(Vector256.Load(halves));
        m = Lanes.HalfToSingle(Vector256.Load(halves + 16));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(byte* area, int unit, Vector512<float> d, Vector512<float> m, out Vector512<float> scale, out Vector512<float> offset)
    {
        scale = d * Vector512.ConvertToSingle(Lanes.WidenToInt(Vector128.Load(area + 32 * unit)));
        offset = -(m * Vector512.ConvertToSingle(Lanes.WidenToInt(Vector128.Load(area + 32 * unit + 16))));
    }
}

/// <summary>
/// Q4_K's and Q5_K's scales and minima of six bits, in as many bytes as the file takes: their low nibbles, [8][16], scale in the low and
/// minimum in the high one; then their upper bits, [4][16], for two units a byte: scale, minimum, next scale, next minimum.
/// </summary>
internal readonly unsafe struct SixBitPairs : IPanelScales
{
    public static int Unit => 32;

    public static bool HasOffset => true;

    public static int Bytes(int units) => 24 * units + 64;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(in BlockFields fields, byte* area, int units, int unit, int row)
    {
        byte* upper = area + 16 * units;
        for (int i = 0; i < units; i++)
        {
            int scale = fields.Scales[i], minimum = fields.Minima[i], shift = i % 2 * 4;
            area[16 * i + row] = (byte)(scale & 15 | minimum << 4);
            int bits = (scale >> 4 | minimum >> 4 << 2) << shift;
            upper[16 * (i / 2) + row] = (byte)(shift == 0 ? bits : upper[16 * (i / 2) + row] | bits);
        }
        ushort* halves = (ushort*)(area + 24 * units);
        halves[row] = fields.D;
        halves[16 + row] = fields.M;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Begin(byte* area, int units, out Vector512<float> d, out Vector512<float> m)
    {
        ushort* halves = (ushort*)(area + 24 * units);
        d = Lanes.HalfToSingle(Vector256.Load(halves));
        m = Lanes.HalfToSingle(Vector256.Load(halves + 16));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(byte* area, int unit, Vector512<float> d, Vector512<float> m, out Vector512<float> scale, out Vector512<float> offset)
    {
        // A group of these formats is a whole stored block, so there are eight units. What a shift of 16 bits brings in is masked away.
        Vector128<byte> low = Vector128.Load(area + 16 * unit), two = Vector128.Create((byte)0x30), fifteen = Vector128.Create((byte)15);
        Vector128<ushort> bits = Vector128.Load(area + 128 + unit / 2 * 16).AsUInt16() >>> (unit % 2 * 4);
        Vector128<byte> scales = (low & fifteen) | ((bits << 4).AsByte() & two);
        Vector128<byte> minima = ((low.AsUInt16() >>> 4).AsByte() & fifteen) | ((bits << 2).AsByte() & two);
        scale = d * Vector512.ConvertToSingle(Lanes.WidenToInt(scales));
        offset = -(m * Vector512.ConvertToSingle(Lanes.WidenToInt(minima)));
    }
}
