using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace GemmaServer.Compute;

/// <summary>What a stored block holds, taken apart but not yet multiplied out.</summary>
internal unsafe struct BlockFields
{
    /// <summary>d and dmin (or m) as stored: bits of halves.</summary>
    public ushort D, M;

    /// <summary>Scales and minima of sub-blocks, a byte each.</summary>
    public fixed byte Scales[16], Minima[16];

    /// <summary>Raw codes; indices where a table follows.</summary>
    public fixed byte Codes[256];
}

/// <summary>Reads a stored block for packing.</summary>
internal unsafe interface IBlockReader
{
    /// <summary>The code that stands for zero; 0 where units have offsets.</summary>
    static abstract int Zero { get; }

    /// <summary>The block's codes and scales.</summary>
    static abstract void Read(byte* block, ref BlockFields fields);
}

internal readonly unsafe struct Q4_0Reader : IBlockReader
{
    public static int Zero => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref Q4_0Block b = ref *(Q4_0Block*)block;
        fields.D = BitConverter.HalfToUInt16Bits(b.D);
        fixed (byte* codes = fields.Codes) BlockParts.Nibbles(b.Qs, new(codes, 32));
    }
}

internal readonly unsafe struct Q4_1Reader : IBlockReader
{
    public static int Zero => 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref Q4_1Block b = ref *(Q4_1Block*)block;
        (fields.D, fields.M) = (BitConverter.HalfToUInt16Bits(b.D), BitConverter.HalfToUInt16Bits(b.M));
        fixed (byte* codes = fields.Codes) BlockParts.Nibbles(b.Qs, new(codes, 32));
    }
}

internal readonly unsafe struct Q5_0Reader : IBlockReader
{
    public static int Zero => 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref Q5_0Block b = ref *(Q5_0Block*)block;
        fields.D = BitConverter.HalfToUInt16Bits(b.D);
        fixed (byte* codes = fields.Codes)
        {
            BlockParts.Nibbles(b.Qs, new(codes, 32));
            BlockParts.AddFifthBit(BinaryPrimitives.ReadUInt32LittleEndian(b.Qh), new(codes, 32));
        }
    }
}

internal readonly unsafe struct Q5_1Reader : IBlockReader
{
    public static int Zero => 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref Q5_1Block b = ref *(Q5_1Block*)block;
        (fields.D, fields.M) = (BitConverter.HalfToUInt16Bits(b.D), BitConverter.HalfToUInt16Bits(b.M));
        fixed (byte* codes = fields.Codes)
        {
            BlockParts.Nibbles(b.Qs, new(codes, 32));
            BlockParts.AddFifthBit(BinaryPrimitives.ReadUInt32LittleEndian(b.Qh), new(codes, 32));
        }
    }
}

internal readonly unsafe struct Q8_0Reader : IBlockReader
{
    public static int Zero => 128;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        fields.D = *(ushort*)block;
        fixed (byte* codes = fields.Codes) BlockCodes.Of<Q8_0Block>(block, codes);
    }
}

internal readonly unsafe struct IQ4_NLReader : IBlockReader
{
    public static int Zero => 128;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref IQ4_NLBlock b = ref *(IQ4_NLBlock*)block;
        fields.D = BitConverter.HalfToUInt16Bits(b.D);
        fixed (byte* codes = fields.Codes) BlockParts.Nibbles(b.Qs, new(codes, 32));
    }
}

internal readonly unsafe struct MXFP4Reader : IBlockReader
{
    public static int Zero => 12;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref MXFP4Block b = ref *(MXFP4Block*)block;
        fields.Scales[0] = b.E;
        fixed (byte* codes = fields.Codes) BlockParts.Nibbles(b.Qs, new(codes, 32));
    }
}

internal readonly unsafe struct Q2_KReader : IBlockReader
{
    public static int Zero => 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref Q2_KBlock b = ref *(Q2_KBlock*)block;
        (fields.D, fields.M) = (BitConverter.HalfToUInt16Bits(b.D), BitConverter.HalfToUInt16Bits(b.Dmin));
        for (int g = 0; g < 16; g++) (fields.Scales[g], fields.Minima[g]) = ((byte)(b.Scales[g] & 15), (byte)(b.Scales[g] >> 4));
        fixed (byte* codes = fields.Codes) BlockCodes.Of<Q2_KBlock>(block, codes);
    }
}

internal readonly unsafe struct Q3_KReader : IBlockReader
{
    public static int Zero => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref Q3_KBlock b = ref *(Q3_KBlock*)block;
        fields.D = BitConverter.HalfToUInt16Bits(b.D);
        for (int g = 0; g < 16; g++) fields.Scales[g] = (byte)(sbyte)(Q3_KBlock.Scale(b.Scales, g) - 32);
        fixed (byte* codes = fields.Codes) BlockCodes.Of<Q3_KBlock>(block, codes);
    }
}

internal readonly unsafe struct Q4_KReader : IBlockReader
{
    public static int Zero => 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref Q4_KBlock b = ref *(Q4_KBlock*)block;
        (fields.D, fields.M) = (BitConverter.HalfToUInt16Bits(b.D), BitConverter.HalfToUInt16Bits(b.Dmin));
        fixed (byte* codes = fields.Codes) BlockCodes.Of<Q4_KBlock>(block, codes);
        BlockCodes.SixBits(b.Scales, ref fields);
    }
}

internal readonly unsafe struct Q5_KReader : IBlockReader
{
    public static int Zero => 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref Q5_KBlock b = ref *(Q5_KBlock*)block;
        (fields.D, fields.M) = (BitConverter.HalfToUInt16Bits(b.D), BitConverter.HalfToUInt16Bits(b.Dmin));
        fixed (byte* codes = fields.Codes) BlockCodes.Of<Q5_KBlock>(block, codes);
        BlockCodes.SixBits(b.Scales, ref fields);
    }
}

internal readonly unsafe struct Q6_KReader : IBlockReader
{
    public static int Zero => 32;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref Q6_KBlock b = ref *(Q6_KBlock*)block;
        fields.D = BitConverter.HalfToUInt16Bits(b.D);
        for (int g = 0; g < 16; g++) fields.Scales[g] = b.Scales[g];
        fixed (byte* codes = fields.Codes) BlockCodes.Of<Q6_KBlock>(block, codes);
    }
}

internal readonly unsafe struct IQ4_XSReader : IBlockReader
{
    public static int Zero => 128;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(byte* block, ref BlockFields fields)
    {
        ref IQ4_XSBlock b = ref *(IQ4_XSBlock*)block;
        fields.D = BitConverter.HalfToUInt16Bits(b.D);
        ReadOnlySpan<byte> qs = b.Qs;
        uint low = BinaryPrimitives.ReadUInt32LittleEndian(b.ScalesL), high = b.ScalesH;
        fixed (byte* codes = fields.Codes)
        {
            for (int j = 0; j < 8; j++)
            {
                BlockParts.Nibbles(qs.Slice(16 * j, 16), new(codes + 32 * j, 32));
                fields.Scales[j] = (byte)(sbyte)((int)((low >> 4 * j & 15) | (high >> 2 * j & 3) << 4) - 32);
            }
        }
    }
}

/// <summary>Pieces that readers share.</summary>
internal static unsafe class BlockCodes
{
    /// <summary>The codes of a block whose codes are its stored bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Of<TBlock>(byte* block, byte* codes) where TBlock : unmanaged, IQuantBlock<TBlock>
    {
        float* unused = stackalloc float[32];
        int groups = TBlock.Length / 16;
        TBlock.Unpack(in *(TBlock*)block, new(codes, TBlock.Length), new(unused, groups), new(unused + 16, groups));
    }

    /// <summary>Q4_K's and Q5_K's scales and minima.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void SixBits(ReadOnlySpan<byte> packed, ref BlockFields fields)
    {
        BlockParts.SixBitScales(packed, out ulong scales, out ulong minima);
        for (int j = 0; j < 8; j++) (fields.Scales[j], fields.Minima[j]) = ((byte)(scales >> 8 * j), (byte)(minima >> 8 * j));
    }
}
