using System.Buffers.Binary;
using System.Runtime.InteropServices;
using GemmaServer.Compute;

namespace GemmaServer;

/// <summary>Random weights in a storage type: codes are random bits, scales are set so that the values have mean 0 and a given spread.</summary>
internal static class RandomBlocks
{
    /// <summary>Where a block's scale lies, and its second half number (minimum), which must be so many scales to make the mean 0.</summary>
    private readonly record struct Layout(int Scale, int Minimum = -1, float MinimumInScales = 0);

    /// <summary>Whole blocks of about this many bytes.</summary>
    /// <param name="type">Storage type.</param>
    /// <param name="deviation">Standard deviation of the values.</param>
    /// <param name="random">Where the bits are from.</param>
    /// <param name="bytes">At least one block; rounded down.</param>
    public static byte[] Make(TensorType type, double deviation, RandomBits random, int bytes)
    {
        byte[] pool = new byte[bytes / TensorTypes.BlockBytes(type) * TensorTypes.BlockBytes(type)];
        switch (type)
        {
            case TensorType.F32:
                foreach (ref float x in MemoryMarshal.Cast<byte, float>(pool.AsSpan())) x = Even(random, deviation);
                break;
            case TensorType.F16:
                foreach (ref Half x in MemoryMarshal.Cast<byte, Half>(pool.AsSpan())) x = (Half)Even(random, deviation);
                break;
            case TensorType.BF16:
                foreach (ref ushort x in MemoryMarshal.Cast<byte, ushort>(pool.AsSpan())) x = (ushort)(BitConverter.SingleToUInt32Bits(Even(random, deviation)) >> 16);
                break;
            case TensorType.MXFP4:
                random.Fill(pool);
                // E2M1 doubled is 0, 1, 2, 3, 4, 6, 8, 12 with a sign: 5.85 in the quadratic mean.
                byte exponent = (byte)(128 + (int)Math.Round(Math.Log2(deviation / 5.85)));
                for (int at = 0; at < pool.Length; at += TensorTypes.BlockBytes(type)) pool[at] = exponent;
                break;
            default:
                random.Fill(pool);
                Arrange(type, pool);
                Scale(type, pool, deviation, random);
                break;
        }
        return pool;
    }

    private static float Even(RandomBits random, double deviation) => (float)(random.Signed() * deviation * Math.Sqrt(3));

    /// <summary>Makes the small scales and minima of a block agree, and keeps codes away that no file has.</summary>
    private static void Arrange(TensorType type, byte[] pool)
    {
        int size = TensorTypes.BlockBytes(type);
        for (int at = 0; at < pool.Length; at += size)
        {
            Span<byte> block = pool.AsSpan(at, size);
            switch (type)
            {
                case TensorType.Q4_K or TensorType.Q5_K:
                    // Twelve bytes: four scales, four minima, and the nibbles of the four other pairs.
                    block.Slice(4, 4).CopyTo(block[8..]);
                    foreach (ref byte pair in block.Slice(12, 4)) pair = (byte)((pair & 15) * 17);
                    break;
                case TensorType.Q2_K:
                    foreach (ref byte pair in block[..16]) pair = (byte)((pair & 15) * 17);
                    break;
                case TensorType.Q8_0:
                    block[2..].Replace((byte)0x80, (byte)0x81);     // −128 is never written: codes are symmetric
                    break;
            }
        }
    }

    private static void Scale(TensorType type, byte[] pool, double deviation, RandomBits random)
    {
        Layout layout = LayoutOf(type);
        int size = TensorTypes.BlockBytes(type);
        SetScale(pool, layout, size, 1f, random);
        double unit = Deviation(type, pool.AsSpan(0, Math.Min(pool.Length / size, 256) * size));
        SetScale(pool, layout, size, (float)(deviation / unit), random);
    }

    private static void SetScale(byte[] pool, Layout layout, int size, float scale, RandomBits random)
    {
        for (int at = 0; at < pool.Length; at += size)
        {
            // Codes are not quite symmetric (−8 … 7), so that a sign for the block takes the mean away.
            float d = layout.Minimum < 0 && (random.Next() & 1) != 0 ? -scale : scale;
            BinaryPrimitives.WriteHalfLittleEndian(pool.AsSpan(at + layout.Scale), (Half)d);
            if (layout.Minimum >= 0) BinaryPrimitives.WriteHalfLittleEndian(pool.AsSpan(at + layout.Minimum), (Half)(d * layout.MinimumInScales));
        }
    }

    private static Layout LayoutOf(TensorType type) => type switch
    {
        TensorType.Q4_1 => new(0, 2, -7.5f),
        TensorType.Q5_1 => new(0, 2, -15.5f),
        TensorType.Q2_K => new(80, 82, 1.5f),       // k-quants subtract their minimum
        TensorType.Q4_K => new(0, 2, 7.5f),
        TensorType.Q5_K => new(0, 2, 15.5f),
        TensorType.Q3_K => new(108),
        TensorType.Q6_K => new(208),
        _ => new(0),
    };

    private static double Deviation(TensorType type, ReadOnlySpan<byte> blocks) => type switch
    {
        TensorType.Q4_0 => Deviation<Q4_0Block>(blocks),
        TensorType.Q4_1 => Deviation<Q4_1Block>(blocks),
        TensorType.Q5_0 => Deviation<Q5_0Block>(blocks),
        TensorType.Q5_1 => Deviation<Q5_1Block>(blocks),
        TensorType.Q8_0 => Deviation<Q8_0Block>(blocks),
        TensorType.Q2_K => Deviation<Q2_KBlock>(blocks),
        TensorType.Q3_K => Deviation<Q3_KBlock>(blocks),
        TensorType.Q4_K => Deviation<Q4_KBlock>(blocks),
        TensorType.Q5_K => Deviation<Q5_KBlock>(blocks),
        TensorType.Q6_K => Deviation<Q6_KBlock>(blocks),
        TensorType.IQ4_NL => Deviation<IQ4_NLBlock>(blocks),
        TensorType.IQ4_XS => Deviation<IQ4_XSBlock>(blocks),
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "Not a block type."),
    };

    private static double Deviation<TBlock>(ReadOnlySpan<byte> bytes) where TBlock : unmanaged, IQuantBlock<TBlock>
    {
        ReadOnlySpan<TBlock> blocks = MemoryMarshal.Cast<byte, TBlock>(bytes);
        float[] values = new float[TBlock.Length];
        double squares = 0;
        foreach (ref readonly TBlock block in blocks)
        {
            TBlock.Dequantize(block, values);
            foreach (float v in values) squares += (double)v * v;
        }
        return Math.Sqrt(squares / ((long)blocks.Length * TBlock.Length));
    }
}
