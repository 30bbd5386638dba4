using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

// Blocks of 32 elements. Byte i of qs holds element i in its low nibble and element i + 16 in its high nibble.

/// <summary>Q4_0: <c>d · (q − 8)</c>. 18 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Q4_0Block : IQuantBlock<Q4_0Block>
{
    internal Half D;
    internal Bytes16 Qs;

    /// <inheritdoc/>
    public static int Length => 32;

    /// <inheritdoc/>
    public static int Zero => 8;

    /// <inheritdoc/>
    public static void Dequantize(in Q4_0Block block, Span<float> dst)
    {
        float d = (float)block.D;
        for (int i = 0; i < 16; i++)
        {
            dst[i] = ((block.Qs[i] & 15) - 8) * d;
            dst[i + 16] = ((block.Qs[i] >> 4) - 8) * d;
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in Q4_0Block block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        BlockParts.Nibbles(block.Qs, q);
        float d = BlockParts.ToSingle(block.D);
        scale[1] = scale[0] = d;
        offset[1] = offset[0] = -8 * d;
    }
}

/// <summary>Q4_1: <c>d · q + m</c>. 20 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Q4_1Block : IQuantBlock<Q4_1Block>
{
    internal Half D;
    internal Half M;
    internal Bytes16 Qs;

    /// <inheritdoc/>
    public static int Length => 32;

    /// <inheritdoc/>
    public static int Zero => -1;

    /// <inheritdoc/>
    public static void Dequantize(in Q4_1Block block, Span<float> dst)
    {
        float d = (float)block.D, m = (float)block.M;
        for (int i = 0; i < 16; i++)
        {
            dst[i] = (block.Qs[i] & 15) * d + m;
            dst[i + 16] = (block.Qs[i] >> 4) * d + m;
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in Q4_1Block block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        BlockParts.Nibbles(block.Qs, q);
        scale[1] = scale[0] = BlockParts.ToSingle(block.D);
        offset[1] = offset[0] = BlockParts.ToSingle(block.M);
    }
}

/// <summary>Q5_0: <c>d · (q − 16)</c>; bit i of qh is the fifth bit of element i. 22 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Q5_0Block : IQuantBlock<Q5_0Block>
{
    internal Half D;
    internal Bytes4 Qh;
    internal Bytes16 Qs;

    /// <inheritdoc/>
    public static int Length => 32;

    /// <inheritdoc/>
    public static int Zero => 16;

    /// <inheritdoc/>
    public static void Dequantize(in Q5_0Block block, Span<float> dst)
    {
        float d = (float)block.D;
        uint qh = BinaryPrimitives.ReadUInt32LittleEndian(block.Qh);
        for (int i = 0; i < 16; i++)
        {
            int low = (block.Qs[i] & 15) | (int)(qh >> i & 1) << 4;
            int high = block.Qs[i] >> 4 | (int)(qh >> (i + 16) & 1) << 4;
            dst[i] = (low - 16) * d;
            dst[i + 16] = (high - 16) * d;
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in Q5_0Block block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        BlockParts.Nibbles(block.Qs, q);
        BlockParts.AddFifthBit(BinaryPrimitives.ReadUInt32LittleEndian(block.Qh), q);
        float d = BlockParts.ToSingle(block.D);
        scale[1] = scale[0] = d;
        offset[1] = offset[0] = -16 * d;
    }
}

/// <summary>Q5_1: <c>d · q + m</c>; bit i of qh is the fifth bit of element i. 24 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Q5_1Block : IQuantBlock<Q5_1Block>
{
    internal Half D;
    internal Half M;
    internal Bytes4 Qh;
    internal Bytes16 Qs;

    /// <inheritdoc/>
    public static int Length => 32;

    /// <inheritdoc/>
    public static int Zero => -1;

    /// <inheritdoc/>
    public static void Dequantize(in Q5_1Block block, Span<float> dst)
    {
        float d = (float)block.D, m = (float)block.M;
        uint qh = BinaryPrimitives.ReadUInt32LittleEndian(block.Qh);
        for (int i = 0; i < 16; i++)
        {
            int low = (block.Qs[i] & 15) | (int)(qh >> i & 1) << 4;
            int high = block.Qs[i] >> 4 | (int)(qh >> (i + 16) & 1) << 4;
            dst[i] = low * d + m;
            dst[i + 16] = high * d + m;
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in Q5_1Block block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        BlockParts.Nibbles(block.Qs, q);
        BlockParts.AddFifthBit(BinaryPrimitives.ReadUInt32LittleEndian(block.Qh), q);
        scale[1] = scale[0] = BlockParts.ToSingle(block.D);
        offset[1] = offset[0] = BlockParts.ToSingle(block.M);
    }
}

/// <summary>Q8_0: <c>d · q</c>, q signed. 34 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Q8_0Block : IQuantBlock<Q8_0Block>
{
    internal Half D;
    internal Bytes32 Qs;

    /// <inheritdoc/>
    public static int Length => 32;

    /// <inheritdoc/>
    public static int Zero => 128;

    /// <inheritdoc/>
    public static void Dequantize(in Q8_0Block block, Span<float> dst)
    {
        float d = (float)block.D;
        for (int i = 0; i < 32; i++) dst[i] = (sbyte)block.Qs[i] * d;
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in Q8_0Block block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        // Flipping the sign bit adds 128.
        (Vector256.Create<byte>(block.Qs) ^ Vector256.Create((byte)0x80)).CopyTo(q);
        float d = BlockParts.ToSingle(block.D);
        scale[1] = scale[0] = d;
        offset[1] = offset[0] = -128 * d;
    }
}

/// <summary>IQ4_NL: <c>d · T[q]</c> with a table of sixteen values. 18 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct IQ4_NLBlock : IQuantBlock<IQ4_NLBlock>
{
    internal Half D;
    internal Bytes16 Qs;

    /// <inheritdoc/>
    public static int Length => 32;

    /// <inheritdoc/>
    public static int Zero => 128;

    /// <inheritdoc/>
    public static void Dequantize(in IQ4_NLBlock block, Span<float> dst)
    {
        float d = (float)block.D;
        for (int i = 0; i < 16; i++)
        {
            dst[i] = d * BlockParts.Iq4Values[block.Qs[i] & 15];
            dst[i + 16] = d * BlockParts.Iq4Values[block.Qs[i] >> 4];
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in IQ4_NLBlock block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        BlockParts.NibblesThrough(BlockParts.Iq4Codes, block.Qs, q);
        float d = BlockParts.ToSingle(block.D);
        scale[1] = scale[0] = d;
        offset[1] = offset[0] = -128 * d;
    }
}

/// <summary>MXFP4: E2M1 values with a shared power of two, <c>2^(e − 128) · M[q]</c>, M doubled to be whole. 17 bytes.</summary>
/// <remarks>OCP Microscaling Formats (MX) v1.0; the exponent byte is E8M0.</remarks>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct MXFP4Block : IQuantBlock<MXFP4Block>
{
    internal byte E;
    internal Bytes16 Qs;

    /// <inheritdoc/>
    public static int Length => 32;

    /// <inheritdoc/>
    public static int Zero => 12;

    /// <summary>2^(e − 128). The two smallest are subnormal: 2^−128 is bit 21 of the fraction, 2^−127 bit 22.</summary>
    private static float Scale(byte e) => BitConverter.UInt32BitsToSingle(e < 2 ? 0x00200000u << e : (uint)(e - 1) << 23);

    /// <inheritdoc/>
    public static void Dequantize(in MXFP4Block block, Span<float> dst)
    {
        float d = Scale(block.E);
        for (int i = 0; i < 16; i++)
        {
            dst[i] = BlockParts.Mxfp4Values[block.Qs[i] & 15] * d;
            dst[i + 16] = BlockParts.Mxfp4Values[block.Qs[i] >> 4] * d;
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in MXFP4Block block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        BlockParts.NibblesThrough(BlockParts.Mxfp4Codes, block.Qs, q);
        float d = Scale(block.E);
        scale[1] = scale[0] = d;
        offset[1] = offset[0] = -12 * d;
    }
}
