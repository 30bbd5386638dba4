using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>
/// The scales of a group, behind its codes, for 16 rows. A unit is what one scale holds for, 32 or 16 columns:
/// <c>value = scale · (u − Zero)</c>, or <c>scale · u + offset</c> where there are offsets.
/// </summary>
internal unsafe interface IPanelScales
{
    /// <summary>Columns of a unit: 32 or 16.</summary>
    static abstract int Unit { get; }

    /// <summary>Whether units have an offset of their own.</summary>
    static abstract bool HasOffset { get; }

    /// <summary>Bytes for so many units of 16 rows.</summary>
    static abstract int Bytes(int units);

    /// <summary>Writes one row's stored block.</summary>
    /// <param name="fields">What the block holds.</param>
    /// <param name="area">The group's scales.</param>
    /// <param name="units">Units of a row in the group.</param>
    /// <param name="unit">The block's first.</param>
    /// <param name="row">0 … 15.</param>
    static abstract void Store(in BlockFields fields, byte* area, int units, int unit, int row);

    /// <summary>What holds for the whole group, by row: factors of all scales and of all offsets.</summary>
    static abstract void Begin(byte* area, int units, out Vector512<float> d, out Vector512<float> m);

    /// <summary>Scales and offsets of 16 rows, exact in f32.</summary>
    static abstract void Load(byte* area, int unit, Vector512<float> d, Vector512<float> m, out Vector512<float> scale, out Vector512<float> offset);
}

/// <summary>One half for 32 columns.</summary>
internal readonly unsafe struct HalfScales : IPanelScales
{
    public static int Unit => 32;

    public static bool HasOffset => false;

    public static int Bytes(int units) => 32 * units;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(in BlockFields fields, byte* area, int units, int unit, int row) => ((ushort*)area)[16 * unit + row] = fields.D;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Begin(byte* area, int units, out Vector512<float> d, out Vector512<float> m) => d = m = default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(byte* area, int unit, Vector512<float> d, Vector512<float> m, out Vector512<float> scale, out Vector512<float> offset)
    {
        scale = Lanes.HalfToSingle(Vector256.Load((ushort*)area + 16 * unit));
        offset = default;
    }
}

/// <summary>A half and the minimum, also a half, for 32 columns.</summary>
internal readonly unsafe struct HalfPairs : IPanelScales
{
    public static int Unit => 32;

    public static bool HasOffset => true;

    public static int Bytes(int units) => 64 * units;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(in BlockFields fields, byte* area, int units, int unit, int row)
    {
        ((ushort*)area)[32 * unit + row] = fields.D;
        ((ushort*)area)[32 * unit + 16 + row] = fields.M;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Begin(byte* area, int units, out Vector512<float> d, out Vector512<float> m) => d = m = default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(byte* area, int unit, Vector512<float> d, Vector512<float> m, out Vector512<float> scale, out Vector512<float> offset)
    {
        scale = Lanes.HalfToSingle(Vector256.Load((ushort*)area + 32 * unit));
        offset = Lanes.HalfToSingle(Vector256.Load((ushort*)area + 32 * unit + 16));
    }
}

/// <summary>An exponent byte for 32 columns: 2^(e − 128), MXFP4.</summary>
internal readonly unsafe struct ExponentScales : IPanelScales
{
    public static int Unit => 32;

    public static bool HasOffset => false;

    public static int Bytes(int units) => 16 * units;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(in BlockFields fields, byte* area, int units, int unit, int row) => area[16 * unit + row] = fields.Scales[0];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Begin(byte* area, int units, out Vector512<float> d, out Vector512<float> m) => d = m = default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(byte* area, int unit, Vector512<float> d, Vector512<float> m, out Vector512<float> scale, out Vector512<float> offset)
    {
        // The two smallest are subnormal: bits 21 and 22 of the fraction.
        Vector512<int> e = Lanes.WidenToInt(Vector128.Load(area + 16 * unit));
        Vector512<int> normal = (e - Vector512<int>.One) << 23, small = Vector512.Create(0x00200000) + (Vector512.Create(0x00200000) & -e);
        scale = Vector512.ConditionalSelect(Vector512.LessThan(e, Vector512.Create(2)), small, normal).AsSingle();
        offset = default;
    }
}

/// <summary>Signed bytes for units of 32 or 16 columns, times a half for the group, which is a stored block.</summary>
internal readonly unsafe struct ByteScales<TUnit> : IPanelScales where TUnit : struct, IUnit
{
    public static int Unit => TUnit.Columns;

    public static bool HasOffset => false;

    public static int Bytes(int units) => 16 * units + 32;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(in BlockFields fields, byte* area, int units, int unit, int row)
    {
        for (int i = 0; i < units; i++) area[16 * i + row] = fields.Scales[i];
        ((ushort*)(area + 16 * units))[row] = fields.D;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Begin(byte* area, int units, out Vector512<float> d, out Vector512<float> m)
    {
        d = Lanes.HalfToSingle(Vector256.Load((ushort*)(area + 16 * units)));
        m = default;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(byte* area, int unit, Vector512<float> d, Vector512<float> m, out Vector512<float> scale, out Vector512<float> offset)
    {
        scale = d * Vector512.ConvertToSingle(Lanes.WidenToInt(Vector128.Load((sbyte*)area + 16 * unit)));
        offset = default;
    }
}

/// <summary>Columns of a unit as a type.</summary>
internal interface IUnit
{
    static abstract int Columns { get; }
}

internal readonly struct Unit32 : IUnit
{
    public static int Columns => 32;
}

internal readonly struct Unit16 : IUnit
{
    public static int Columns => 16;
}
