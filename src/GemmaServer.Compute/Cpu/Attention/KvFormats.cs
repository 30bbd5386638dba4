using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>How a head's key or value row lies in a page; a struct per type, so that the JIT writes one attention body each.</summary>
internal unsafe interface IKvFormat
{
    static abstract int RowBytes(int dim);

    static abstract void Store(ReadOnlySpan<float> row, byte* destination);

    /// <summary>Elements <paramref name="first"/> and on as floats: the page itself where it holds floats, else decoded into <paramref name="scratch"/>.</summary>
    /// <remarks>Stored elements are finite: RMS norms made them.</remarks>
    static abstract float* Load(byte* source, int first, int count, float* scratch);
}

internal readonly unsafe struct KvF32 : IKvFormat
{
    public static int RowBytes(int dim) => dim * sizeof(float);

    public static void Store(ReadOnlySpan<float> row, byte* destination) => row.CopyTo(new Span<float>(destination, row.Length));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float* Load(byte* source, int first, int count, float* scratch) => (float*)source + first;
}

internal readonly unsafe struct KvF16 : IKvFormat
{
    public static int RowBytes(int dim) => dim * 2;

    public static void Store(ReadOnlySpan<float> row, byte* destination)
    {
        ushort* d = (ushort*)destination;
        int i = 0;
        for (; i + 16 <= row.Length; i += 16) KvLanes.SingleToHalf(Vector512.Create(row.Slice(i, 16))).Store(d + i);
        for (; i < row.Length; i++) d[i] = BitConverter.HalfToUInt16Bits((Half)row[i]);
    }

    public static float* Load(byte* source, int first, int count, float* scratch)
    {
        short* s = (short*)source + first;
        int i = 0;
        for (; i + 16 <= count; i += 16) KvLanes.FiniteHalfToSingle(Vector256.Load(s + i)).Store(scratch + i);
        for (; i < count; i++) scratch[i] = (float)BitConverter.Int16BitsToHalf(s[i]);
        return scratch;
    }
}

internal readonly unsafe struct KvBF16 : IKvFormat
{
    public static int RowBytes(int dim) => dim * 2;

    public static void Store(ReadOnlySpan<float> row, byte* destination)
    {
        ushort* d = (ushort*)destination;
        int i = 0;
        // Round to nearest, ties to even; keys and values are normalised, so never NaN or near overflow.
        for (; i + 16 <= row.Length; i += 16)
        {
            Vector512<uint> bits = Vector512.Create(row.Slice(i, 16)).AsUInt32();
            Vector512<uint> odd = (bits >>> 16) & Vector512<uint>.One;
            KvLanes.Narrow((bits + Vector512.Create(0x7FFFu) + odd) >>> 16).Store(d + i);
        }
        for (; i < row.Length; i++)
        {
            uint bits = BitConverter.SingleToUInt32Bits(row[i]);
            d[i] = (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
        }
    }

    public static float* Load(byte* source, int first, int count, float* scratch)
    {
        ushort* s = (ushort*)source + first;
        int i = 0;
        for (; i + 16 <= count; i += 16) (KvLanes.Widen(Vector256.Load(s + i)) << 16).AsSingle().Store(scratch + i);
        for (; i < count; i++) scratch[i] = BitConverter.UInt32BitsToSingle((uint)s[i] << 16);
        return scratch;
    }
}

/// <summary>Blocks of 32 signed bytes behind one half scale: the layout of ggml's Q8_0.</summary>
internal readonly unsafe struct KvQ8 : IKvFormat
{
    private const int BlockLength = 32, BlockBytes = 34;

    public static int RowBytes(int dim) => dim / BlockLength * BlockBytes;

    public static void Store(ReadOnlySpan<float> row, byte* destination)
    {
        for (int b = 0; b < row.Length; b += BlockLength, destination += BlockBytes)
        {
            Vector512<float> x0 = Vector512.Create(row.Slice(b, 16)), x1 = Vector512.Create(row.Slice(b + 16, 16));
            float max = KvLanes.Max(Vector512.Max(Vector512.Abs(x0), Vector512.Abs(x1)));
            float scale = max / 127f, inverse = scale == 0 ? 0 : 1 / scale;
            *(Half*)destination = (Half)scale;
            KvLanes.NarrowToBytes(KvLanes.RoundAway(x0 * inverse), KvLanes.RoundAway(x1 * inverse)).Store((sbyte*)destination + 2);
        }
    }

    public static float* Load(byte* source, int first, int count, float* scratch)
    {
        source += RowBytes(first);
        for (int b = 0; b < count; b += BlockLength, source += BlockBytes)
        {
            Vector512<float> scale = Vector512.Create((float)*(Half*)source);
            sbyte* q = (sbyte*)(source + 2);
            (KvLanes.Widen(Vector128.Load(q)) * scale).Store(scratch + b);
            (KvLanes.Widen(Vector128.Load(q + 16)) * scale).Store(scratch + b + 16);
        }
        return scratch;
    }
}
