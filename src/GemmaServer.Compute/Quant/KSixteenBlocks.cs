using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

// Blocks of 256 elements whose scales hold for 16 elements. All three lie as two halves n of 128 elements; in a half,
// group g of 32 takes bits 2g, 2g + 1 of 32 bytes (Q2_K, Q3_K), or of ql and qh together (Q6_K).

/// <summary>Q2_K: <c>d · (sc &amp; 15) · q − dmin · (sc >> 4)</c>. 84 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Q2_KBlock : IQuantBlock<Q2_KBlock>
{
    internal Bytes16 Scales;
    internal Bytes64 Qs;
    internal Half D;
    internal Half Dmin;

    /// <inheritdoc/>
    public static int Length => 256;

    /// <inheritdoc/>
    public static int Zero => -1;

    /// <inheritdoc/>
    public static void Dequantize(in Q2_KBlock block, Span<float> dst)
    {
        float d = (float)block.D, dmin = (float)block.Dmin;
        for (int i = 0; i < 256; i++)
        {
            int n = i / 128, g = i / 32 % 4;
            int sc = block.Scales[i / 16];
            int q = block.Qs[32 * n + i % 32] >> 2 * g & 3;
            dst[i] = d * (sc & 15) * q - dmin * (sc >> 4);
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in Q2_KBlock block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        TwoBits(block.Qs, q);
        float d = BlockParts.ToSingle(block.D), dmin = BlockParts.ToSingle(block.Dmin);
        for (int g = 0; g < 16; g++)
        {
            scale[g] = d * (block.Scales[g] & 15);
            offset[g] = -(dmin * (block.Scales[g] >> 4));
        }
    }

    /// <summary>The 256 two-bit codes; Q3_K has them too.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void TwoBits(ReadOnlySpan<byte> qs, Span<byte> q)
    {
        for (int n = 0; n < 2; n++)
        {
            Vector256<byte> v = Vector256.Create(qs[(32 * n)..]);
            for (int g = 0; g < 4; g++)
            {
                (v & Vector256.Create((byte)3)).CopyTo(q[(128 * n + 32 * g)..]);
                v >>>= 2;
            }
        }
    }
}

/// <summary>Q3_K: <c>d · (sc − 32) · (q − 4)</c>; the third bit of q is bit 4n + g of hmask. 110 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Q3_KBlock : IQuantBlock<Q3_KBlock>
{
    internal Bytes32 Hmask;
    internal Bytes64 Qs;
    internal Bytes12 Scales;
    internal Half D;

    /// <inheritdoc/>
    public static int Length => 256;

    /// <inheritdoc/>
    public static int Zero => 4;

    /// <summary>Six-bit scale of group <paramref name="g"/>: a nibble of bytes 0…7, two bits of bytes 8…11.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static int Scale(ReadOnlySpan<byte> s, int g) => (s[g & 7] >> (g >> 3) * 4 & 15) | (s[8 + (g & 3)] >> (g >> 2) * 2 & 3) << 4;

    /// <inheritdoc/>
    public static void Dequantize(in Q3_KBlock block, Span<float> dst)
    {
        for (int i = 0; i < 256; i++)
        {
            int n = i / 128, g = i / 32 % 4;
            float scale = (float)block.D * (Scale(block.Scales, i / 16) - 32);
            int q = block.Qs[32 * n + i % 32] >> 2 * g & 3;
            bool high = (block.Hmask[i % 32] >> (4 * n + g) & 1) != 0;
            dst[i] = scale * (high ? q : q - 4);
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in Q3_KBlock block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        Q2_KBlock.TwoBits(block.Qs, q);
        Vector256<byte> high = Vector256.Create<byte>(block.Hmask);
        for (int j = 0; j < 8; j++)
        {
            Span<byte> group = q.Slice(32 * j, 32);
            (Vector256.Create<byte>(group) | ((high & Vector256<byte>.One) << 2)).CopyTo(group);
            high >>>= 1;
        }
        float d = BlockParts.ToSingle(block.D);
        for (int g = 0; g < 16; g++)
        {
            scale[g] = d * (Scale(block.Scales, g) - 32);
            offset[g] = -4 * scale[g];
        }
    }
}

/// <summary>Q6_K: <c>d · sc · (q − 32)</c>, sc signed bytes. 210 bytes.</summary>
/// <remarks>
/// In each half, group g of 32 has its low four bits in ql[0…31] (g = 0, 2) or ql[32…63] (g = 1, 3), low nibbles for
/// g = 0, 1 and high ones for g = 2, 3; its upper two are bits 2g, 2g + 1 of qh[0…31].
/// </remarks>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Q6_KBlock : IQuantBlock<Q6_KBlock>
{
    internal Bytes128 Ql;
    internal Bytes64 Qh;
    internal Bytes16 Scales;
    internal Half D;

    /// <inheritdoc/>
    public static int Length => 256;

    /// <inheritdoc/>
    public static int Zero => 32;

    /// <inheritdoc/>
    public static void Dequantize(in Q6_KBlock block, Span<float> dst)
    {
        for (int i = 0; i < 256; i++)
        {
            int n = i / 128, g = i / 32 % 4, l = i % 32;
            int low = block.Ql[64 * n + 32 * (g & 1) + l] >> (g >> 1) * 4 & 15;
            int high = block.Qh[32 * n + l] >> 2 * g & 3;
            dst[i] = (float)block.D * (sbyte)block.Scales[i / 16] * ((low | high << 4) - 32);
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Unpack(in Q6_KBlock block, Span<byte> q, Span<float> scale, Span<float> offset)
    {
        ReadOnlySpan<byte> ql = block.Ql, qh = block.Qh;
        Vector256<byte> fifteen = Vector256.Create((byte)15), upper = Vector256.Create((byte)0x30);
        for (int n = 0; n < 2; n++)
        {
            Vector256<byte> a = Vector256.Create(ql[(64 * n)..]);
            Vector256<byte> b = Vector256.Create(ql[(64 * n + 32)..]);
            Vector256<byte> h = Vector256.Create(qh[(32 * n)..]);
            Span<byte> half = q.Slice(128 * n, 128);
            ((a & fifteen) | ((h << 4) & upper)).CopyTo(half);
            ((b & fifteen) | ((h << 2) & upper)).CopyTo(half[32..]);
            ((a >>> 4) | (h & upper)).CopyTo(half[64..]);
            ((b >>> 4) | ((h >>> 2) & upper)).CopyTo(half[96..]);
        }
        float d = BlockParts.ToSingle(block.D);
        for (int g = 0; g < 16; g++)
        {
            scale[g] = d * (sbyte)block.Scales[g];
            offset[g] = -32 * scale[g];
        }
    }
}
