using ILGPU;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>How four elements of a key or value lie in the pool; a struct each, so that ILGPU writes one kernel body each.</summary>
internal interface IKvElements
{
    /// <param name="pool">All pages.</param>
    /// <param name="four">Which four, of all in the pool.</param>
    /// <param name="scale">Which scale, counted in halves from the pool's begin; read where there are scales.</param>
    static abstract Four Load(ArrayView<uint> pool, long four, long scale);
}

/// <summary>Elements that are stored alone: no scale is shared.</summary>
internal interface IKvStore : IKvElements
{
    static abstract void Store(ArrayView<uint> pool, long four, Four value);
}

/// <summary>32-bit floats.</summary>
internal readonly struct KvFloats : IKvStore
{
    public static Four Load(ArrayView<uint> pool, long four, long scale) => pool.Cast<Four>()[four];

    public static void Store(ArrayView<uint> pool, long four, Four value) => pool.Cast<Four>()[four] = value;
}

/// <summary>IEEE half.</summary>
internal readonly struct KvHalves : IKvStore
{
    public static Four Load(ArrayView<uint> pool, long four, long scale)
    {
        Pair p = pool.Cast<Pair>()[four];
        return new Four(Lanes.HalfToFloat(p.X & 0xFFFFu), Lanes.HalfToFloat(p.X >> 16), Lanes.HalfToFloat(p.Y & 0xFFFFu), Lanes.HalfToFloat(p.Y >> 16));
    }

    public static void Store(ArrayView<uint> pool, long four, Four value) => pool.Cast<Pair>()[four] = new Pair
    {
        X = Lanes.FloatToHalf(value.X) | Lanes.FloatToHalf(value.Y) << 16,
        Y = Lanes.FloatToHalf(value.Z) | Lanes.FloatToHalf(value.W) << 16,
    };
}

/// <summary>bfloat16.</summary>
internal readonly struct KvBFloats : IKvStore
{
    public static Four Load(ArrayView<uint> pool, long four, long scale)
    {
        Pair p = pool.Cast<Pair>()[four];
        return new Four(
            Interop.IntAsFloat(p.X << 16), Interop.IntAsFloat(p.X & 0xFFFF0000u), Interop.IntAsFloat(p.Y << 16), Interop.IntAsFloat(p.Y & 0xFFFF0000u));
    }

    public static void Store(ArrayView<uint> pool, long four, Four value) => pool.Cast<Pair>()[four] = new Pair
    {
        X = Lanes.FloatToBFloat(value.X) | Lanes.FloatToBFloat(value.Y) << 16,
        Y = Lanes.FloatToBFloat(value.Z) | Lanes.FloatToBFloat(value.W) << 16,
    };
}

/// <summary>Bytes that count from −128, and a half for each 32 behind all pages' bytes.</summary>
internal readonly struct KvBytes : IKvElements
{
    public static Four Load(ArrayView<uint> pool, long four, long scale)
    {
        uint word = pool[four];
        float factor = Lanes.HalfToFloat(pool.Cast<ushort>()[scale]);
        return new Four(
            (Lanes.Small(word & 255u) - 128f) * factor, (Lanes.Small(word >> 8 & 255u) - 128f) * factor,
            (Lanes.Small(word >> 16 & 255u) - 128f) * factor, (Lanes.Small(word >> 24) - 128f) * factor);
    }
}
