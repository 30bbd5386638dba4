using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>Rows of stored weights turned into floats or integer codes, for every type.</summary>
public static unsafe class WeightRows
{
    /// <summary>Whether rows of this type are blocks with integer codes.</summary>
    public static bool IsQuantised(TensorType type) => type is not (TensorType.F32 or TensorType.F16 or TensorType.BF16);

    /// <summary>One row of a tensor in f32.</summary>
    /// <param name="source">The tensor.</param>
    /// <param name="row">0 … Rows − 1.</param>
    /// <param name="dst">Values, <c>[Columns]</c>.</param>
    /// <exception cref="ArgumentOutOfRangeException">No such row.</exception>
    /// <exception cref="ArgumentException">The tensor's shape does not fit its bytes, or <paramref name="dst"/> is shorter than a row.</exception>
    public static void Decode(in TensorSource source, long row, Span<float> dst)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, source.Rows);
        if (dst.Length < source.Columns) throw new ArgumentException("The destination is shorter than a row.", nameof(dst));
        long rowBytes = CheckedRowBytes(source);
        fixed (float* to = dst) Dequantize(source.Type, (byte*)source.Data + row * rowBytes, source.Columns, to);
    }

    /// <summary>Bytes of a row; refuses shapes that the tensor's bytes cannot hold.</summary>
    internal static long CheckedRowBytes(in TensorSource source)
    {
        (int length, int bytes) = TensorTypes.Block(source.Type);
        if (source.Columns <= 0 || source.Columns % length != 0)
        {
            throw new ArgumentException($"{source.Name}: {source.Columns} columns are no whole number of {source.Type} blocks of {length}.");
        }
        long rowBytes = (long)source.Columns / length * bytes;
        if (source.Rows < 0 || source.Bytes < source.Rows * rowBytes)
        {
            throw new ArgumentException($"{source.Name}: {source.Rows} rows of {source.Columns} {source.Type} need {source.Rows * rowBytes} bytes, there are {source.Bytes}.");
        }
        return rowBytes;
    }

    /// <summary>A row to f32, bit for bit as ggml decodes it.</summary>
    internal static void Dequantize(TensorType type, byte* row, int columns, float* dst)
    {
        switch (type)
        {
            case TensorType.F32: Buffer.MemoryCopy(row, dst, 4L * columns, 4L * columns); break;
            case TensorType.F16: WidenF16((ushort*)row, columns, dst); break;
            case TensorType.BF16: WidenBF16((ushort*)row, columns, dst); break;
            case TensorType.Q4_0: Dequantize<Q4_0Block>(row, columns, dst); break;
            case TensorType.Q4_1: Dequantize<Q4_1Block>(row, columns, dst); break;
            case TensorType.Q5_0: Dequantize<Q5_0Block>(row, columns, dst); break;
            case TensorType.Q5_1: Dequantize<Q5_1Block>(row, columns, dst); break;
            case TensorType.Q8_0: Dequantize<Q8_0Block>(row, columns, dst); break;
            case TensorType.Q2_K: Dequantize<Q2_KBlock>(row, columns, dst); break;
            case TensorType.Q3_K: Dequantize<Q3_KBlock>(row, columns, dst); break;
            case TensorType.Q4_K: Dequantize<Q4_KBlock>(row, columns, dst); break;
            case TensorType.Q5_K: Dequantize<Q5_KBlock>(row, columns, dst); break;
            case TensorType.Q6_K: Dequantize<Q6_KBlock>(row, columns, dst); break;
            case TensorType.IQ4_NL: Dequantize<IQ4_NLBlock>(row, columns, dst); break;
            case TensorType.IQ4_XS: Dequantize<IQ4_XSBlock>(row, columns, dst); break;
            case TensorType.MXFP4: Dequantize<MXFP4Block>(row, columns, dst); break;
            default: throw Unsupported(type);
        }
    }

    private static NotSupportedException Unsupported(TensorType type) => new($"No matrix product for tensors of type {type}.");

    /// <summary>
    /// Codes first, then sixteen values at a time. Every product here has one rounding at most, so the order of factors
    /// does not matter; u − Zero comes first so that the sign of zero is ggml's.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dequantize<TBlock>(byte* row, int columns, float* dst) where TBlock : unmanaged, IQuantBlock<TBlock>
    {
        int length = TBlock.Length;
        byte* q = stackalloc byte[length];
        float* scale = stackalloc float[length / 16];
        float* offset = stackalloc float[length / 16];
        Vector512<float> zero = Vector512.Create((float)TBlock.Zero);

        TBlock* block = (TBlock*)row;
        for (int i = 0; i < columns; i += length)
        {
            TBlock.Unpack(in *block++, new Span<byte>(q, length), new Span<float>(scale, length / 16), new Span<float>(offset, length / 16));
            for (int g = 0; g < length / 16; g++, dst += 16)
            {
                Vector512<float> u = Lanes.Widen(Vector128.Load(q + 16 * g));
                Vector512<float> value = TBlock.Zero >= 0
                    ? (u - zero) * scale[g]
                    : u * scale[g] + Vector512.Create(offset[g]);
                value.Store(dst);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void WidenBF16(ushort* row, int columns, float* dst)
    {
        int i = 0;
        for (; i <= columns - 16; i += 16) (Lanes.Widen(Vector256.Load(row + i)) << 16).AsSingle().Store(dst + i);
        for (; i < columns; i++) dst[i] = BitConverter.UInt32BitsToSingle((uint)row[i] << 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void WidenF16(ushort* row, int columns, float* dst)
    {
        int i = 0;
        for (; i <= columns - 16; i += 16) Lanes.HalfToSingle(Vector256.Load(row + i)).Store(dst + i);
        for (; i < columns; i++) dst[i] = (float)BitConverter.UInt16BitsToHalf(row[i]);
    }
}
