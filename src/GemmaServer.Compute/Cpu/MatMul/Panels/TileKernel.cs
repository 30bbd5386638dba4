using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace GemmaServer.Compute;

/// <summary>Two unpacked panels times a tile of input rows, over some blocks.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct TileArguments
{
    /// <summary>The tile, at the first block; see <see cref="QuantisedRows"/>.</summary>
    public byte* X;

    /// <summary>Unpacked blocks of either panel; see <see cref="PanelFormat.Unpack"/>.</summary>
    public byte* W0, W1;

    /// <summary>Sums, 16 floats a row, one row after the other.</summary>
    public float* Y0, Y1;

    /// <summary>How many blocks.</summary>
    public nint Blocks;

    /// <summary>Nonzero where the sums go on from what Y0 and Y1 hold, zero where they begin.</summary>
    public nint GoOn;

    /// <summary>How many tiles, and bytes from one to the next. Only AMX takes more than one; their sums follow each other.</summary>
    public nint Tiles, TileStride;
}

/// <summary>
/// The tile kernel for registers of 256 bits: up to three input rows × the two halves of a panel, six integer sums and six
/// float ones, so that a weight is loaded once for three rows and an input once for two halves.
/// </summary>
internal static unsafe class TileKernel<TShape> where TShape : struct, ITileShape
{
    // Constants to the JIT, which compiles the methods that read them once this class has been initialised; as properties they
    // would use up what it is willing to inline.
    private static readonly int s_unit, s_unitBytes, s_blockBytes, s_shorts;
    private static readonly bool s_hasOffset, s_signed;

    static TileKernel()
    {
        (s_unit, s_hasOffset) = (TShape.Unit, TShape.HasOffset);
        s_unitBytes = s_hasOffset ? 192 : 128;
        s_blockBytes = 512 + 32 / s_unit * s_unitBytes;
        // Quads of a unit whose pairs are summed in 16 bits: 0 where other instructions are used. Inputs go up to 255.
        s_shorts = Dot4.HasOnlyPairs ? Math.Min(s_unit / 4, Dot4.QuadsInShorts(255, TShape.LargestWeight) & ~1) : 0;
        s_signed = Dot4.HasOnlyPairs && s_shorts == 0;
    }

    /// <summary>Adds <c>tile · panelᵀ</c> to the sums, in the order that <see cref="PanelFormat"/> states.</summary>
    public static void Run(in TileArguments a, int tileRows)
    {
        Panel(a, a.W0, a.Y0, tileRows);
        if (a.Y1 != a.Y0) Panel(a, a.W1, a.Y1, tileRows);
    }

    private static void Panel(in TileArguments a, byte* w, float* y, int tileRows)
    {
        for (int row = 0; row < tileRows;)
        {
            // 6 = 3 + 3, 5 = 3 + 2, 4 = 2 + 2
            int rows = tileRows - row is 4 or 2 ? 2 : Math.Min(3, tileRows - row);
            byte* x = a.X + 32 * row, behind = a.X + 32 * tileRows + 4 * row;
            float* to = y + 16 * row;
            if (rows == 3) Rows<ThreeRows>(x, behind, tileRows, w, a.Blocks, a.GoOn != 0, to);
            else if (rows == 2) Rows<TwoRows>(x, behind, tileRows, w, a.Blocks, a.GoOn != 0, to);
            else Rows<OneRow>(x, behind, tileRows, w, a.Blocks, a.GoOn != 0, to);
            row += rows;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows<TRows>(byte* x, byte* behind, int tileRows, byte* w, nint blocks, bool goOn, float* y) where TRows : struct, IRowCount
    {
        Vector256<float> y0 = default, z0 = default, y1 = default, z1 = default, y2 = default, z2 = default;
        if (goOn)
        {
            (y0, z0) = (Vector256.Load(y), Vector256.Load(y + 8));
            if (TRows.Count > 1) (y1, z1) = (Vector256.Load(y + 16), Vector256.Load(y + 24));
            if (TRows.Count > 2) (y2, z2) = (Vector256.Load(y + 32), Vector256.Load(y + 40));
        }
        nint step = QuantisedRows.BlockBytes * tileRows;
        for (; blocks > 0; blocks--, x += step, behind += step, w += s_blockBytes)
        {
            byte* codes = w, unit = w + 512, q = x, sums = behind + 4 * tileRows;
            for (int u = 0; u < 32; u += s_unit, unit += s_unitBytes, sums += 2)
            {
                // Signed inputs leave nothing to take off.
                Vector256<int> d0 = s_signed ? default : Vector256.Load((int*)unit), e0 = s_signed ? default : Vector256.Load((int*)(unit + 32));
                Vector256<int> d1 = d0, e1 = e0, d2 = d0, e2 = e0;
                if (s_shorts > 0)
                {
                    for (int i = 0; i < s_unit / 4; i += s_shorts)
                    {
                        Vector256<short> a0 = default, b0 = default, a1 = default, b1 = default, a2 = default, b2 = default;
                        for (int j = 0; j < s_shorts; j += 2, codes += 128, q += 8)
                        {
                            Vector256<sbyte> v0 = Vector256.Load((sbyte*)codes), v1 = Vector256.Load((sbyte*)codes + 64);
                            Vector256<sbyte> w0 = Vector256.Load((sbyte*)codes + 32), w1 = Vector256.Load((sbyte*)codes + 96);
                            Vector256<byte> first = Quad(q), second = Quad(q + 4);
                            a0 += Pairs(first, v0, second, v1);
                            b0 += Pairs(first, w0, second, w1);
                            if (TRows.Count > 1)
                            {
                                (first, second) = (Quad(q + 32), Quad(q + 36));
                                a1 += Pairs(first, v0, second, v1);
                                b1 += Pairs(first, w0, second, w1);
                            }
                            if (TRows.Count > 2)
                            {
                                (first, second) = (Quad(q + 64), Quad(q + 68));
                                a2 += Pairs(first, v0, second, v1);
                                b2 += Pairs(first, w0, second, w1);
                            }
                        }
                        (d0, e0) = (Dot4.AddPairs(a0, d0), Dot4.AddPairs(b0, e0));
                        if (TRows.Count > 1) (d1, e1) = (Dot4.AddPairs(a1, d1), Dot4.AddPairs(b1, e1));
                        if (TRows.Count > 2) (d2, e2) = (Dot4.AddPairs(a2, d2), Dot4.AddPairs(b2, e2));
                    }
                }
                else
                {
                    for (int i = 0; i < s_unit / 4; i++, codes += 64, q += 4)
                    {
                        Vector256<sbyte> v = Vector256.Load((sbyte*)codes), t = Vector256.Load((sbyte*)codes + 32);
                        (d0, e0) = (Add(Quad(q), v, d0), Add(Quad(q), t, e0));
                        if (TRows.Count > 1) (d1, e1) = (Add(Quad(q + 32), v, d1), Add(Quad(q + 32), t, e1));
                        if (TRows.Count > 2) (d2, e2) = (Add(Quad(q + 64), v, d2), Add(Quad(q + 64), t, e2));
                    }
                }
                (y0, z0) = (Finish(unit, d0, behind, sums, y0), Finish(unit + 32, e0, behind, sums, z0));
                if (TRows.Count > 1) (y1, z1) = (Finish(unit, d1, behind + 4, sums + 4, y1), Finish(unit + 32, e1, behind + 4, sums + 4, z1));
                if (TRows.Count > 2) (y2, z2) = (Finish(unit, d2, behind + 8, sums + 8, y2), Finish(unit + 32, e2, behind + 8, sums + 8, z2));
            }
        }
        Store(y, y0, z0);
        if (TRows.Count > 1) Store(y + 16, y1, z1);
        if (TRows.Count > 2) Store(y + 32, y2, z2);
    }

    /// <summary>Four inputs in every lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<byte> Quad(byte* q) => Vector256.Create(*(int*)q).AsByte();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<short> Pairs(Vector256<byte> u0, Vector256<sbyte> w0, Vector256<byte> u1, Vector256<sbyte> w1) =>
        Avx2.MultiplyAddAdjacent(u0, w0) + Avx2.MultiplyAddAdjacent(u1, w1);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> Add(Vector256<byte> input, Vector256<sbyte> w, Vector256<int> sum) =>
        s_signed ? Dot4.AddSigned(w, (input ^ Vector256.Create((byte)0x80)).AsSByte(), sum) : Dot4.Add(input, w, sum);

    /// <summary>A unit's integer sum, scaled, onto the float sum.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Finish(byte* unit, Vector256<int> dot, byte* inputScale, byte* inputs, Vector256<float> sum)
    {
        Vector256<float> t = Vector256.ConvertToSingle(dot) * Vector256.Load((float*)(unit + 64));
        if (s_hasOffset)
        {
            int count = s_unit == 32 ? *(short*)inputs + *(short*)(inputs + 2) : *(short*)inputs;
            t = Vector256.FusedMultiplyAdd(Vector256.Load((float*)(unit + 128)), Vector256.Create((float)count), t);
        }
        return Vector256.FusedMultiplyAdd(t, Vector256.Create(*(float*)inputScale), sum);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* y, Vector256<float> low, Vector256<float> high)
    {
        low.Store(y);
        high.Store(y + 8);
    }
}
