using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

// Blocks of 256 elements with sub-blocks of 32 that have scales of their own. Q2_K, Q3_K and Q6_K are in KSixteenBlocks.cs.

/// <summary>Q4_K: <c>d · sc · q − dmin · m</c>, sc and m of six bits for each 32 elements. 144 bytes.</summary>
/// <remarks>Sub-block 2c is in the low nibbles of qs[32c … 32c + 31], 2c + 1 in the high ones.</remarks>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Q4_KBlock : IQuantBlock<Q4_KBlock>
{
    internal Half D;
    internal Half Dmin;
    internal Bytes12 Scales;
    internal Bytes128 Qs;

    /// <inheritdoc/>
    public static int Length => 256;

    /// <inheritdoc/>
    public static int Zero => -1;

    /// <inheritdoc/>
    public static void Dequantize(in Q4_KBlock block, Span<float> dst)
    {
        float d = (float)block.D, dmin = (float)block.Dmin;
        for (int j = 0; j < 8; j++)
        {
            (int sc, int m) = BlockParts.SixBitScale(block.Scales, j);
            float scale = d * sc, minimum = dmin * m;
            for (int i = 0; i < 32; i++)
            {
                int q = block.Qs[j / 2 * 32 + i] >> (j & 1) * 4 & 15;
                dst[j * 32 + i] = scale * q - minimum;
            }
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in Q4_KBlock block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        ReadOnlySpan<byte> qs = block.Qs;
        for (int c = 0; c < 4; c++)
        {
            Vector256<byte> v = Vector256.Create(qs[(32 * c)..]);
            (v & Vector256.Create((byte)15)).CopyTo(q[(64 * c)..]);
            (v >>> 4).CopyTo(q[(64 * c + 32)..]);
        }
        ScalesAndMinima(block.Scales, BlockParts.ToSingle(block.D), BlockParts.ToSingle(block.Dmin), scale, offset);
    }

    /// <summary>The eight pairs, each for two groups of 16; Q5_K has them too.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void ScalesAndMinima(ReadOnlySpan<byte> packed, float d, float dmin, Span<float> scale, Span<float> offset)
    {
        BlockParts.SixBitScales(packed, out ulong scales, out ulong minima);
        scale = scale[..16];
        offset = offset[..16];
        for (int g = 0; g < 16; g += 2)
        {
            scale[g + 1] = scale[g] = d * (byte)scales;
            offset[g + 1] = offset[g] = -(dmin * (byte)minima);
            scales >>= 8;
            minima >>= 8;
        }
    }
}

/// <summary>Q5_K: Q4_K with a fifth bit: bit j of qh[i] belongs to element i of sub-block j. 176 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Q5_KBlock : IQuantBlock<Q5_KBlock>
{
    internal Half D;
    internal Half Dmin;
    internal Bytes12 Scales;
    internal Bytes32 Qh;
    internal Bytes128 Qs;

    /// <inheritdoc/>
    public static int Length => 256;

    /// <inheritdoc/>
    public static int Zero => -1;

    /// <inheritdoc/>
    public static void Dequantize(in Q5_KBlock block, Span<float> dst)
    {
        float d = (float)block.D, dmin = (float)block.Dmin;
        for (int j = 0; j < 8; j++)
        {
            (int sc, int m) = BlockParts.SixBitScale(block.Scales, j);
            float scale = d * sc, minimum = dmin * m;
            for (int i = 0; i < 32; i++)
            {
                int q = (block.Qs[j / 2 * 32 + i] >> (j & 1) * 4 & 15) + (block.Qh[i] >> j & 1) * 16;
                dst[j * 32 + i] = scale * q - minimum;
            }
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in Q5_KBlock block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        ReadOnlySpan<byte> qs = block.Qs;
        Vector256<byte> high = Vector256.Create<byte>(block.Qh);
        Vector256<byte> sixteen = Vector256.Create((byte)16);
        for (int c = 0; c < 4; c++)
        {
            Vector256<byte> v = Vector256.Create(qs[(32 * c)..]);
            ((v & Vector256.Create((byte)15)) | ((high << 4) & sixteen)).CopyTo(q[(64 * c)..]);
            ((v >>> 4) | ((high << 3) & sixteen)).CopyTo(q[(64 * c + 32)..]);
            high >>>= 2;
        }
        Q4_KBlock.ScalesAndMinima(block.Scales, BlockParts.ToSingle(block.D), BlockParts.ToSingle(block.Dmin), scale, offset);
    }
}

/// <summary>IQ4_XS: <c>d · (ls − 32) · T[q]</c>, IQ4_NL's table with six-bit scales for each 32 elements. 136 bytes.</summary>
/// <remarks>The low four bits of scale j are nibble j of scales_l, its upper two are bits 2j, 2j + 1 of scales_h.</remarks>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct IQ4_XSBlock : IQuantBlock<IQ4_XSBlock>
{
    internal Half D;
    internal ushort ScalesH;
    internal Bytes4 ScalesL;
    internal Bytes128 Qs;

    /// <inheritdoc/>
    public static int Length => 256;

    /// <inheritdoc/>
    public static int Zero => 128;

    /// <inheritdoc/>
    public static void Dequantize(in IQ4_XSBlock block, Span<float> dst)
    {
        for (int j = 0; j < 8; j++)
        {
            int ls = (block.ScalesL[j / 2] >> 4 * (j & 1) & 15) | (block.ScalesH >> 2 * j & 3) << 4;
            float scale = (float)block.D * (ls - 32);
            for (int i = 0; i < 16; i++)
            {
                dst[32 * j + i] = scale * BlockParts.Iq4Values[block.Qs[16 * j + i] & 15];
                dst[32 * j + 16 + i] = scale * BlockParts.Iq4Values[block.Qs[16 * j + i] >> 4];
            }
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in IQ4_XSBlock block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        ReadOnlySpan<byte> qs = block.Qs;
        float d = BlockParts.ToSingle(block.D);
        uint low = BinaryPrimitives.ReadUInt32LittleEndian(block.ScalesL), high = block.ScalesH;
        for (int j = 0; j < 8; j++)
        {
            BlockParts.NibblesThrough(BlockParts.Iq4Codes, qs.Slice(16 * j, 16), q.Slice(32 * j, 32));
            float s = d * ((int)((low & 15) | (high & 3) << 4) - 32);
            scale[2 * j + 1] = scale[2 * j] = s;
            offset[2 * j + 1] = offset[2 * j] = -128 * s;
            low >>= 4;
            high >>= 2;
        }
    }
}
