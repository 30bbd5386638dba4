using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace GemmaServer.Compute;

/// <summary>
/// The codes of a panel: 16 weight rows × 32 columns, column quads apart. Quad v (columns 4v … 4v + 3) is 64 bytes, four for
/// each row in turn, so that one integer dot product with four inputs, repeated in all lanes, adds to a sum per row.
/// </summary>
internal unsafe interface IPanelCodes
{
    /// <summary>Bytes for 16 × 32 codes.</summary>
    static abstract int Bytes { get; }

    /// <summary>The largest u that <see cref="Load"/> gives.</summary>
    static abstract int Largest { get; }

    /// <summary>Writes eight quads of raw codes, <c>[8][16][4]</c>, in stored form.</summary>
    static abstract void Store(byte* quads, byte* block);

    /// <summary>The unsigned codes u of eight rows: the first (<paramref name="half"/> 0) or the last (32) half of each quad.</summary>
    static abstract void Load(
        byte* block, int half,
        out Vector256<byte> c0, out Vector256<byte> c1, out Vector256<byte> c2, out Vector256<byte> c3,
        out Vector256<byte> c4, out Vector256<byte> c5, out Vector256<byte> c6, out Vector256<byte> c7);
}

/// <summary>Four bits: quad v in the low nibbles of plane v, quad v + 4 in its high ones.</summary>
internal readonly unsafe struct NibbleCodes : IPanelCodes
{
    public static int Bytes => 256;

    public static int Largest => 15;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* quads, byte* block)
    {
        for (int i = 0; i < 256; i += 32)
        {
            Vector256<byte> low = Vector256.Load(quads + i) & Vector256.Create((byte)15), high = Vector256.Load(quads + 256 + i) & Vector256.Create((byte)15);
            (low | (high << 4)).Store(block + i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(
        byte* block, int half,
        out Vector256<byte> c0, out Vector256<byte> c1, out Vector256<byte> c2, out Vector256<byte> c3,
        out Vector256<byte> c4, out Vector256<byte> c5, out Vector256<byte> c6, out Vector256<byte> c7)
    {
        Vector256<byte> fifteen = Vector256.Create((byte)15);
        Vector256<byte> p0 = Vector256.Load(block + half), p1 = Vector256.Load(block + 64 + half);
        Vector256<byte> p2 = Vector256.Load(block + 128 + half), p3 = Vector256.Load(block + 192 + half);
        c0 = p0 & fifteen;
        c1 = p1 & fifteen;
        c2 = p2 & fifteen;
        c3 = p3 & fifteen;
        c4 = (p0.AsUInt16() >>> 4).AsByte() & fifteen;
        c5 = (p1.AsUInt16() >>> 4).AsByte() & fifteen;
        c6 = (p2.AsUInt16() >>> 4).AsByte() & fifteen;
        c7 = (p3.AsUInt16() >>> 4).AsByte() & fifteen;
    }
}

/// <summary>Five bits: nibbles, then a plane whose bit v is the fifth of quad v.</summary>
internal readonly unsafe struct FiveBitCodes : IPanelCodes
{
    public static int Bytes => 320;

    public static int Largest => 31;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* quads, byte* block)
    {
        NibbleCodes.Store(quads, block);
        for (int i = 0; i < 64; i += 32)
        {
            Vector256<byte> bits = default;
            for (int v = 7; v >= 0; v--) bits = (bits << 1) | ((Vector256.Load(quads + 64 * v + i) >>> 4) & Vector256<byte>.One);
            bits.Store(block + 256 + i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(
        byte* block, int half,
        out Vector256<byte> c0, out Vector256<byte> c1, out Vector256<byte> c2, out Vector256<byte> c3,
        out Vector256<byte> c4, out Vector256<byte> c5, out Vector256<byte> c6, out Vector256<byte> c7)
    {
        NibbleCodes.Load(block, half, out c0, out c1, out c2, out c3, out c4, out c5, out c6, out c7);
        // In 16-bit lanes: what crosses into the neighbour is masked away.
        Vector256<ushort> bits = Vector256.Load(block + 256 + half).AsUInt16();
        Vector256<byte> sixteen = Vector256.Create((byte)16);
        c0 |= (bits << 4).AsByte() & sixteen;
        c1 |= (bits << 3).AsByte() & sixteen;
        c2 |= (bits << 2).AsByte() & sixteen;
        c3 |= (bits << 1).AsByte() & sixteen;
        c4 |= bits.AsByte() & sixteen;
        c5 |= (bits >>> 1).AsByte() & sixteen;
        c6 |= (bits >>> 2).AsByte() & sixteen;
        c7 |= (bits >>> 3).AsByte() & sixteen;
    }
}

/// <summary>Six bits: nibbles, then two planes with the upper bits of quads 0 … 3 and 4 … 7, two bits each.</summary>
internal readonly unsafe struct SixBitCodes : IPanelCodes
{
    public static int Bytes => 384;

    public static int Largest => 63;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* quads, byte* block)
    {
        NibbleCodes.Store(quads, block);
        for (int i = 0; i < 128; i += 32)
        {
            byte* first = quads + i / 64 * 256 + i % 64;
            Vector256<byte> bits = default;
            for (int v = 3; v >= 0; v--) bits = (bits << 2) | ((Vector256.Load(first + 64 * v) >>> 4) & Vector256.Create((byte)3));
            bits.Store(block + 256 + i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(
        byte* block, int half,
        out Vector256<byte> c0, out Vector256<byte> c1, out Vector256<byte> c2, out Vector256<byte> c3,
        out Vector256<byte> c4, out Vector256<byte> c5, out Vector256<byte> c6, out Vector256<byte> c7)
    {
        NibbleCodes.Load(block, half, out c0, out c1, out c2, out c3, out c4, out c5, out c6, out c7);
        Vector256<ushort> a = Vector256.Load(block + 256 + half).AsUInt16(), b = Vector256.Load(block + 320 + half).AsUInt16();
        Vector256<byte> upper = Vector256.Create((byte)0x30);
        c0 |= (a << 4).AsByte() & upper;
        c1 |= (a << 2).AsByte() & upper;
        c2 |= a.AsByte() & upper;
        c3 |= (a >>> 2).AsByte() & upper;
        c4 |= (b << 4).AsByte() & upper;
        c5 |= (b << 2).AsByte() & upper;
        c6 |= b.AsByte() & upper;
        c7 |= (b >>> 2).AsByte() & upper;
    }
}

/// <summary>Eight bits, as they are.</summary>
internal readonly unsafe struct ByteCodes : IPanelCodes
{
    public static int Bytes => 512;

    public static int Largest => 255;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* quads, byte* block) => Buffer.MemoryCopy(quads, block, 512, 512);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(
        byte* block, int half,
        out Vector256<byte> c0, out Vector256<byte> c1, out Vector256<byte> c2, out Vector256<byte> c3,
        out Vector256<byte> c4, out Vector256<byte> c5, out Vector256<byte> c6, out Vector256<byte> c7)
    {
        c0 = Vector256.Load(block + half);
        c1 = Vector256.Load(block + 64 + half);
        c2 = Vector256.Load(block + 128 + half);
        c3 = Vector256.Load(block + 192 + half);
        c4 = Vector256.Load(block + 256 + half);
        c5 = Vector256.Load(block + 320 + half);
        c6 = Vector256.Load(block + 384 + half);
        c7 = Vector256.Load(block + 448 + half);
    }
}

/// <summary>The sixteen codes that nibbles stand for.</summary>
internal interface ICodeTable
{
    static abstract Vector128<byte> Codes { get; }

    /// <summary>The largest of them.</summary>
    static abstract int Largest { get; }
}

/// <summary>IQ4_NL's and IQ4_XS's table.</summary>
internal readonly struct Iq4Table : ICodeTable
{
    public static Vector128<byte> Codes => BlockParts.Iq4Codes;

    public static int Largest => 241;
}

/// <summary>MXFP4's table.</summary>
internal readonly struct Mxfp4Table : ICodeTable
{
    public static Vector128<byte> Codes => BlockParts.Mxfp4Codes;

    public static int Largest => 24;
}

/// <summary>Nibbles that stand for a table's codes.</summary>
internal readonly unsafe struct TableCodes<TTable> : IPanelCodes where TTable : struct, ICodeTable
{
    public static int Bytes => 256;

    public static int Largest => TTable.Largest;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* quads, byte* block) => NibbleCodes.Store(quads, block);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(
        byte* block, int half,
        out Vector256<byte> c0, out Vector256<byte> c1, out Vector256<byte> c2, out Vector256<byte> c3,
        out Vector256<byte> c4, out Vector256<byte> c5, out Vector256<byte> c6, out Vector256<byte> c7)
    {
        NibbleCodes.Load(block, half, out c0, out c1, out c2, out c3, out c4, out c5, out c6, out c7);
        Vector256<byte> table = Vector256.Create(TTable.Codes, TTable.Codes);
        c0 = Through(table, c0);
        c1 = Through(table, c1);
        c2 = Through(table, c2);
        c3 = Through(table, c3);
        c4 = Through(table, c4);
        c5 = Through(table, c5);
        c6 = Through(table, c6);
        c7 = Through(table, c7);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<byte> Through(Vector256<byte> table, Vector256<byte> codes) => Avx2.IsSupported
        ? Avx2.Shuffle(table, codes)
        : Vector256.Create(Vector128.Shuffle(table.GetLower(), codes.GetLower()), Vector128.Shuffle(table.GetLower(), codes.GetUpper()));
}
