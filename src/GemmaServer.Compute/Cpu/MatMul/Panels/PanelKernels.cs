using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace GemmaServer.Compute;

/// <summary>One type's packing and products; the JIT writes a body for each.</summary>
internal sealed unsafe class PanelFormat<TReader, TCodes, TScales>(TensorType type) : PanelFormat(type, TReader.Zero, TScales.Unit, TScales.HasOffset)
    where TReader : struct, IBlockReader
    where TCodes : struct, IPanelCodes
    where TScales : struct, IPanelScales
{
    // Far enough ahead that a line has come from memory when it is its turn, at some 20 GB/s a core.
    private const int AheadBytes = 8192;

    public override int GroupBytes { get; } = BytesOf(GroupBlocks);

    public override long PanelBytes(int columns)
    {
        int blocks = columns / Block, rest = blocks % GroupBlocks;
        return (long)(blocks / GroupBlocks) * GroupBytes + (rest > 0 ? BytesOf(rest) : 0);
    }

    // Constants to the JIT, as this class has been initialised before it compiles the methods that read them.
    private static readonly int s_bias, s_quadsInShorts;
    private static readonly bool s_signed;

    static PanelFormat()
    {
        s_signed = Dot4.TakesSigned(TCodes.Largest);
        s_bias = s_signed ? 0 : -TReader.Zero;
        s_quadsInShorts = Dot4.HasOnlyPairs ? Dot4.QuadsInShorts(TCodes.Largest, 127) : 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Pack(byte* source, long rowBytes, int rows, int columns, byte* panel)
    {
        (int length, int bytes) = TensorTypes.Block(Type);
        BlockFields fields = default;
        uint* quads = stackalloc uint[Rows * 256 / 4];      // [block of 32][quad][row]
        new Span<uint>(quads, Rows * 256 / 4).Clear();
        for (int first = 0; first < columns / Block; first += GroupBlocks, panel += GroupBytes)
        {
            int blocks = Math.Min(GroupBlocks, columns / Block - first), units = blocks * Block / TScales.Unit;
            byte* scales = panel + blocks * TCodes.Bytes;
            new Span<byte>(scales, BytesOf(blocks) - blocks * TCodes.Bytes).Clear();
            for (int column = 0; column < blocks * Block; column += length)
            {
                byte* block = source + (long)((first * Block + column) / length) * bytes;
                for (int row = 0; row < rows; row++, block += rowBytes)
                {
                    TReader.Read(block, ref fields);
                    TScales.Store(in fields, scales, units, column / TScales.Unit, row);
                    uint* codes = (uint*)fields.Codes;
                    for (int q = 0; q < length / 4; q++) quads[Rows * q + row] = codes[q];
                }
                for (int b = 0; b < length / Block; b++) TCodes.Store((byte*)quads + 512 * b, panel + (column / Block + b) * TCodes.Bytes);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Gemv(byte* panel, int columns, byte* x, float* y)
    {
        Vector256<float> low = default, high = default;
        for (int left = columns / Block; left > 0; left -= GroupBlocks)
        {
            int blocks = Math.Min(GroupBlocks, left);
            byte* codes = panel, scales = panel + blocks * TCodes.Bytes;
            panel = scales + (BytesOf(blocks) - blocks * TCodes.Bytes);
            TScales.Begin(scales, blocks * Block / TScales.Unit, out Vector512<float> d, out Vector512<float> m);
            for (int b = 0; b < blocks; b++, codes += TCodes.Bytes, x += QuantisedRows.BlockBytes)
            {
                for (int line = 0; line < TCodes.Bytes; line += 64) Ahead(codes + AheadBytes + line);
                // A group's scales are an eighth of its codes at most.
                if ((b & 1) == 0) Ahead(scales + AheadBytes + 32 * b);
                float s = *(float*)(x + 32);
                int first = *(short*)(x + 36), second = *(short*)(x + 38);
                TCodes.Load(codes, 0, out Vector256<byte> c0, out Vector256<byte> c1, out Vector256<byte> c2, out Vector256<byte> c3, out Vector256<byte> c4, out Vector256<byte> c5, out Vector256<byte> c6, out Vector256<byte> c7);
                TCodes.Load(codes, 32, out Vector256<byte> e0, out Vector256<byte> e1, out Vector256<byte> e2, out Vector256<byte> e3, out Vector256<byte> e4, out Vector256<byte> e5, out Vector256<byte> e6, out Vector256<byte> e7);
                Vector256<sbyte> x0 = Quad(x), x1 = Quad(x + 4), x2 = Quad(x + 8), x3 = Quad(x + 12);
                Vector256<sbyte> x4 = Quad(x + 16), x5 = Quad(x + 20), x6 = Quad(x + 24), x7 = Quad(x + 28);
                if (TScales.Unit == 32)
                {
                    TScales.Load(scales, b, d, m, out Vector512<float> scale, out Vector512<float> offset);
                    Vector256<int> bias = Vector256.Create(s_bias * (first + second));
                    Vector256<int> a = Dots(c0, c1, c2, c3, x0, x1, x2, x3, bias), e = Dots(e0, e1, e2, e3, x0, x1, x2, x3, bias);
                    a = Dots(c4, c5, c6, c7, x4, x5, x6, x7, a);
                    e = Dots(e4, e5, e6, e7, x4, x5, x6, x7, e);
                    low = Add(a, scale.GetLower(), offset.GetLower(), first + second, s, low);
                    high = Add(e, scale.GetUpper(), offset.GetUpper(), first + second, s, high);
                }
                else
                {
                    TScales.Load(scales, 2 * b, d, m, out Vector512<float> scale, out Vector512<float> offset);
                    Vector256<int> bias = Vector256.Create(s_bias * first);
                    low = Add(Dots(c0, c1, c2, c3, x0, x1, x2, x3, bias), scale.GetLower(), offset.GetLower(), first, s, low);
                    high = Add(Dots(e0, e1, e2, e3, x0, x1, x2, x3, bias), scale.GetUpper(), offset.GetUpper(), first, s, high);
                    TScales.Load(scales, 2 * b + 1, d, m, out scale, out offset);
                    bias = Vector256.Create(s_bias * second);
                    low = Add(Dots(c4, c5, c6, c7, x4, x5, x6, x7, bias), scale.GetLower(), offset.GetLower(), second, s, low);
                    high = Add(Dots(e4, e5, e6, e7, x4, x5, x6, x7, bias), scale.GetUpper(), offset.GetUpper(), second, s, high);
                }
            }
        }
        low.Store(y);
        high.Store(y + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Unpack(byte* panel, int columns, int firstBlock, int blocks, byte* unpacked, byte* ahead)
    {
        panel += (long)(firstBlock / GroupBlocks) * GroupBytes;
        for (int end = firstBlock + blocks; firstBlock < end; firstBlock += GroupBlocks)
        {
            // The group may go on behind what is wanted.
            int stored = Math.Min(GroupBlocks, columns / Block - firstBlock), wanted = Math.Min(stored, end - firstBlock);
            byte* codes = panel, scales = panel + stored * TCodes.Bytes;
            panel += GroupBytes;
            TScales.Begin(scales, stored * Block / TScales.Unit, out Vector512<float> d, out Vector512<float> m);
            for (int b = 0; b < wanted; b++, codes += TCodes.Bytes, unpacked += UnpackedBytes)
            {
                for (int line = 0; line < TCodes.Bytes + 64; line += 64, ahead += 64) Ahead(ahead);
                UnpackCodes(codes, 0, unpacked);
                UnpackCodes(codes, 32, unpacked);
                byte* unit = unpacked + 512;
                for (int u = 0; u < Block / TScales.Unit; u++, unit += TScales.HasOffset ? 192 : 128)
                {
                    TScales.Load(scales, b * (Block / TScales.Unit) + u, d, m, out Vector512<float> scale, out Vector512<float> offset);
                    scale.Store((float*)(unit + 64));
                    if (TScales.HasOffset) offset.Store((float*)(unit + 128));
                }
            }
        }
    }

    public override void MultiplyTile(in TileArguments a, int tileRows) => TileKernel<TileShape<TReader, TCodes, TScales>>.Run(in a, tileRows);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int BytesOf(int blocks) => (blocks * TCodes.Bytes + TScales.Bytes(blocks * Block / TScales.Unit) + 31) & ~31;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Ahead(byte* address)
    {
        if (Sse.IsSupported) Sse.Prefetch0(address);
    }

    /// <summary>Eight rows: signed codes, and the bias behind them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void UnpackCodes(byte* codes, int half, byte* unpacked)
    {
        TCodes.Load(codes, half, out Vector256<byte> c0, out Vector256<byte> c1, out Vector256<byte> c2, out Vector256<byte> c3, out Vector256<byte> c4, out Vector256<byte> c5, out Vector256<byte> c6, out Vector256<byte> c7);
        Vector256<byte> zero = Vector256.Create((byte)Zero);
        byte* to = unpacked + half, bias = unpacked + 512 + half;
        Vector256<int> a = Signed(c3, zero, to + 192, Signed(c2, zero, to + 128, Signed(c1, zero, to + 64, Signed(c0, zero, to, default))));
        Vector256<int> e = Signed(c7, zero, to + 448, Signed(c6, zero, to + 384, Signed(c5, zero, to + 320, Signed(c4, zero, to + 256, default))));
        if (TScales.Unit == 32)
        {
            ((a + e) * -128).Store((int*)bias);
            return;
        }
        (a * -128).Store((int*)bias);
        (e * -128).Store((int*)(bias + (TScales.HasOffset ? 192 : 128)));
    }

    /// <summary>Four inputs in every lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<sbyte> Quad(byte* x) => Vector256.Create(*(int*)x).AsSByte();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> Dots(
        Vector256<byte> u0, Vector256<byte> u1, Vector256<byte> u2, Vector256<byte> u3,
        Vector256<sbyte> q0, Vector256<sbyte> q1, Vector256<sbyte> q2, Vector256<sbyte> q3, Vector256<int> sum)
    {
        if (s_signed)
        {
            Vector256<byte> flip = Vector256.Create((byte)0x80);
            sum = Dot4.AddSigned((u1 ^ flip).AsSByte(), q1, Dot4.AddSigned((u0 ^ flip).AsSByte(), q0, sum));
            return Dot4.AddSigned((u3 ^ flip).AsSByte(), q3, Dot4.AddSigned((u2 ^ flip).AsSByte(), q2, sum));
        }
        if (s_quadsInShorts > 0)
        {
            Vector256<short> a = Avx2.MultiplyAddAdjacent(u0, q0) + Avx2.MultiplyAddAdjacent(u1, q1);
            Vector256<short> b = Avx2.MultiplyAddAdjacent(u2, q2) + Avx2.MultiplyAddAdjacent(u3, q3);
            return s_quadsInShorts >= 4 ? Dot4.AddPairs(a + b, sum) : Dot4.AddPairs(b, Dot4.AddPairs(a, sum));
        }
        if (Dp.IsSupported)
        {
            sum = Dot4.AddSigned(u1.AsSByte(), q1, Dot4.AddSigned(u0.AsSByte(), q0, sum));
            return Dot4.AddSigned(u3.AsSByte(), q3, Dot4.AddSigned(u2.AsSByte(), q2, sum));
        }
        return Dot4.Add(u3, q3, Dot4.Add(u2, q2, Dot4.Add(u1, q1, Dot4.Add(u0, q0, sum))));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Add(Vector256<int> dot, Vector256<float> scale, Vector256<float> offset, int inputs, float inputScale, Vector256<float> sum)
    {
        Vector256<float> t = Vector256.ConvertToSingle(dot) * scale;
        if (TScales.HasOffset) t = Vector256.FusedMultiplyAdd(offset, Vector256.Create((float)inputs), t);
        return Vector256.FusedMultiplyAdd(t, Vector256.Create(inputScale), sum);
    }

    /// <summary>Stores u − zero and adds its fours to the sums.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> Signed(Vector256<byte> u, Vector256<byte> zero, byte* to, Vector256<int> sums)
    {
        Vector256<sbyte> w = (u - zero).AsSByte();
        w.Store((sbyte*)to);
        return Dot4.Add(Vector256<byte>.One, w, sums);
    }
}
