using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>How a head's key or value row lies in a page; a struct per type, so that the JIT writes one attention body each.</summary>
internal unsafe interface IKvFormat
{
    static abstract int RowBytes(int dim);

    static abstract void Store(ReadOnlySpan<float> row, byte* destination);

    /// <summary>The row as floats: the page itself where it holds floats, else decoded into <paramref name="scratch"/>.</summary>
    static abstract float* Load(byte* source, int dim, float* scratch);
}

internal readonly unsafe struct KvF32 : IKvFormat
{
    public static int RowBytes(int dim) => dim * sizeof(float);

    public static void Store(ReadOnlySpan<float> row, byte* destination) => row.CopyTo(new Span<float>(destination, row.Length));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float* Load(byte* source, int dim, float* scratch) => (float*)source;
}

internal readonly unsafe struct KvF16 : IKvFormat
{
    public static int RowBytes(int dim) => dim * 2;

    public static void Store(ReadOnlySpan<float> row, byte* destination)
    {
        Half* d = (Half*)destination;
        for (int i = 0; i < row.Length; i++) d[i] = (Half)row[i];
    }

    public static float* Load(byte* source, int dim, float* scratch)
    {
        HalfWidening.Widen((ushort*)source, dim, scratch);
        return scratch;
    }
}

internal readonly unsafe struct KvBF16 : IKvFormat
{
    public static int RowBytes(int dim) => dim * 2;

    public static void Store(ReadOnlySpan<float> row, byte* destination)
    {
        ushort* d = (ushort*)destination;
        for (int i = 0; i < row.Length; i++)
        {
            uint bits = BitConverter.SingleToUInt32Bits(row[i]);
            // Round to nearest, ties to even; keys and values are normalised, so never NaN or near overflow.
            d[i] = (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
        }
    }

    public static float* Load(byte* source, int dim, float* scratch)
    {
        ushort* s = (ushort*)source;
        for (int i = 0; i < dim; i++) scratch[i] = BitConverter.UInt32BitsToSingle((uint)s[i] << 16);
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
            ReadOnlySpan<float> x = row.Slice(b, BlockLength);
            float max = 0;
            foreach (float v in x) max = Math.Max(max, MathF.Abs(v));
            float scale = max / 127f, inverse = scale == 0 ? 0 : 1 / scale;
            *(Half*)destination = (Half)scale;
            sbyte* q = (sbyte*)(destination + 2);
            for (int i = 0; i < BlockLength; i++) q[i] = (sbyte)MathF.Round(x[i] * inverse, MidpointRounding.AwayFromZero);
        }
    }

    public static float* Load(byte* source, int dim, float* scratch)
    {
        for (int b = 0; b < dim; b += BlockLength, source += BlockBytes)
        {
            float scale = (float)*(Half*)source;
            sbyte* q = (sbyte*)(source + 2);
            for (int i = 0; i < BlockLength; i++) scratch[b + i] = q[i] * scale;
        }
        return scratch;
    }
}

/// <summary>Finite IEEE halves to floats: shift exponent and mantissa into place, then multiply by 2^112; exact, subnormals too.</summary>
internal static unsafe class HalfWidening
{
    public static void Widen(ushort* source, int count, float* destination)
    {
        Vector512<float> rebias = Vector512.Create(BitConverter.UInt32BitsToSingle((112 + 127) << 23));
        int i = 0;
        for (; i + Vector512<float>.Count <= count; i += Vector512<float>.Count)
        {
            Vector256<ushort> h = Vector256.Load(source + i);
            Vector512<uint> w = Vector512.Create(Vector256.WidenLower(h), Vector256.WidenUpper(h));
            Vector512<uint> magnitude = ((w & Vector512.Create(0x7FFFu)) << 13).AsSingle().Multiply(rebias);
            (magnitude | ((w & Vector512.Create(0x8000u)) << 16)).AsSingle().Store(destination + i);
        }
        for (; i < count; i++) destination[i] = (float)BitConverter.UInt16BitsToHalf(source[i]);
    }

    private static Vector512<uint> Multiply(this Vector512<float> x, Vector512<float> y) => (x * y).AsUInt32();
}
