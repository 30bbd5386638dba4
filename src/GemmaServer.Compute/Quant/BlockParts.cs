using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>Pieces that several block formats share. All widths run the same Vector128 code.</summary>
internal static class BlockParts
{
    /// <summary>IQ4_NL's sixteen values, denser around zero. Source: ggml <c>kvalues_iq4nl</c>.</summary>
    public static ReadOnlySpan<sbyte> Iq4Values => [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

    /// <summary>The same plus 128.</summary>
    public static Vector128<byte> Iq4Codes => Vector128.Create((byte)1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241);

    /// <summary>Twice the E2M1 values, so that they are whole. Source: ggml <c>kvalues_mxfp4</c>.</summary>
    public static ReadOnlySpan<sbyte> Mxfp4Values => [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

    /// <summary>The same plus 12.</summary>
    public static Vector128<byte> Mxfp4Codes => Vector128.Create((byte)12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);

    /// <summary>A block's scale, exactly, in a few instructions: small blocks need one for every 32 elements.</summary>
    /// <remarks>As <see cref="Lanes.HalfToSingle"/>: exponent and fraction in a float's place are off by 2^112.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float ToSingle(Half half)
    {
        uint bits = BitConverter.HalfToUInt16Bits(half);
        uint value = BitConverter.SingleToUInt32Bits(
            BitConverter.UInt32BitsToSingle((bits & 0x7FFF) << 13) * BitConverter.UInt32BitsToSingle((127u + 112) << 23));
        if ((bits & 0x7C00) == 0x7C00) value |= 0x7F800000;     // infinity or NaN
        return BitConverter.UInt32BitsToSingle(value | (bits & 0x8000) << 16);
    }

    /// <summary>Low nibbles of 16 bytes to q[0…15], high nibbles to q[16…31].</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Nibbles(ReadOnlySpan<byte> qs, Span<byte> q)
    {
        Vector128<byte> v = Vector128.Create(qs);
        (v & Vector128.Create((byte)15)).CopyTo(q);
        (v >>> 4).CopyTo(q[16..]);
    }

    /// <summary>As <see cref="Nibbles"/>, each nibble replaced by its entry in <paramref name="codes"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void NibblesThrough(Vector128<byte> codes, ReadOnlySpan<byte> qs, Span<byte> q)
    {
        Vector128<byte> v = Vector128.Create(qs);
        Vector128.Shuffle(codes, v & Vector128.Create((byte)15)).CopyTo(q);
        Vector128.Shuffle(codes, v >>> 4).CopyTo(q[16..]);
    }

    /// <summary>Adds 16 to q[i] where bit i of <paramref name="bits"/> is set, i = 0…31.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddFifthBit(uint bits, Span<byte> q)
    {
        Vector128<byte> all = Vector128.CreateScalar(bits).AsByte();
        Vector128<byte> bit = Vector128.Create(0x8040201008040201ul).AsByte();
        Vector128<byte> low = Vector128.Shuffle(all, Vector128.Create((byte)0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
        Vector128<byte> high = Vector128.Shuffle(all, Vector128.Create((byte)2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3));
        Vector128<byte> sixteen = Vector128.Create((byte)16);
        (Vector128.Create<byte>(q) | (Vector128.Equals(low & bit, bit) & sixteen)).CopyTo(q);
        (Vector128.Create<byte>(q[16..]) | (Vector128.Equals(high & bit, bit) & sixteen)).CopyTo(q[16..]);
    }

    /// <summary>
    /// Q4_K's and Q5_K's eight scales and eight minima of six bits, one per byte of the results.
    /// </summary>
    /// <remarks>
    /// Bytes 0…3 hold scales 0…3 in their low six bits, bytes 4…7 minima 0…3, bytes 8…11 the low four bits of scales
    /// (low nibble) and minima (high nibble) 4…7, whose upper two bits are the free top bits of bytes 0…3 and 4…7.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void SixBitScales(ReadOnlySpan<byte> s, out ulong scales, out ulong minima)
    {
        uint a = BinaryPrimitives.ReadUInt32LittleEndian(s);
        uint b = BinaryPrimitives.ReadUInt32LittleEndian(s[4..]);
        uint c = BinaryPrimitives.ReadUInt32LittleEndian(s[8..]);
        scales = (a & 0x3F3F3F3F) | (ulong)((c & 0x0F0F0F0F) | (a >> 2 & 0x30303030)) << 32;
        minima = (b & 0x3F3F3F3F) | (ulong)((c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030)) << 32;
    }

    /// <summary>The scalar reading of <see cref="SixBitScales"/>, as the format describes it.</summary>
    public static (int Scale, int Minimum) SixBitScale(ReadOnlySpan<byte> s, int j) => j < 4
        ? (s[j] & 63, s[j + 4] & 63)
        : ((s[j + 4] & 15) | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4);
}
