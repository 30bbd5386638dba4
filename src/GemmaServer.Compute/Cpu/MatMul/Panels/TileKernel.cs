using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

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

/// <summary>The kernel in C#, for machines without an assembled one.</summary>
internal static unsafe class TileKernel
{
    /// <summary>Adds <c>tile · panelᵀ</c> to the sums, in the order that <see cref="PanelFormat"/> states.</summary>
    public static void Run(in TileArguments a, int tileRows, PanelFormat format)
    {
        for (int row = 0; row < tileRows; row++)
        {
            Panel(a, a.W0, a.Y0 + 16 * row, row, tileRows, format);
            if (a.Y1 != a.Y0) Panel(a, a.W1, a.Y1 + 16 * row, row, tileRows, format);
        }
    }

    private static void Panel(in TileArguments a, byte* w, float* y, int row, int tileRows, PanelFormat format)
    {
        if (format.Unit == 32) Halves32(a, w, y, row, tileRows, format.UnpackedBytes, format.HasOffset);
        else Halves16(a, w, y, row, tileRows, format.UnpackedBytes, format.HasOffset);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Halves32(in TileArguments a, byte* w, float* y, int row, int tileRows, int stride, bool hasOffset)
    {
        byte* x = a.X + 32 * row, behind = a.X + 32 * tileRows + 4 * row;
        Vector256<float> low = default, high = default;
        if (a.GoOn != 0) (low, high) = (Vector256.Load(y), Vector256.Load(y + 8));
        for (nint b = 0; b < a.Blocks; b++, w += stride, x += QuantisedRows.BlockBytes * tileRows, behind += QuantisedRows.BlockBytes * tileRows)
        {
            Vector256<int> d = Vector256.Load((int*)(w + 512)), e = Vector256.Load((int*)(w + 544));
            for (int q = 0; q < 8; q++)
            {
                Vector256<byte> u = Vector256.Create(*(int*)(x + 4 * q)).AsByte();
                d = Dot4.Add(u, Vector256.Load((sbyte*)w + 64 * q), d);
                e = Dot4.Add(u, Vector256.Load((sbyte*)w + 64 * q + 32), e);
            }
            byte* sums = behind + 4 * tileRows;
            Finish(w + 512, d, e, hasOffset, *(short*)sums + *(short*)(sums + 2), *(float*)behind, ref low, ref high);
        }
        low.Store(y);
        high.Store(y + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Halves16(in TileArguments a, byte* w, float* y, int row, int tileRows, int stride, bool hasOffset)
    {
        byte* x = a.X + 32 * row, behind = a.X + 32 * tileRows + 4 * row;
        Vector256<float> low = default, high = default;
        if (a.GoOn != 0) (low, high) = (Vector256.Load(y), Vector256.Load(y + 8));
        for (nint b = 0; b < a.Blocks; b++, w += stride, x += QuantisedRows.BlockBytes * tileRows, behind += QuantisedRows.BlockBytes * tileRows)
        {
            byte* unit = w + 512, sums = behind + 4 * tileRows;
            for (int half = 0; half < 2; half++, unit += hasOffset ? 192 : 128)
            {
                Vector256<int> d = Vector256.Load((int*)unit), e = Vector256.Load((int*)(unit + 32));
                for (int q = 4 * half; q < 4 * half + 4; q++)
                {
                    Vector256<byte> u = Vector256.Create(*(int*)(x + 4 * q)).AsByte();
                    d = Dot4.Add(u, Vector256.Load((sbyte*)w + 64 * q), d);
                    e = Dot4.Add(u, Vector256.Load((sbyte*)w + 64 * q + 32), e);
                }
                Finish(unit, d, e, hasOffset, *(short*)(sums + 2 * half), *(float*)behind, ref low, ref high);
            }
        }
        low.Store(y);
        high.Store(y + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Finish(
        byte* unit, Vector256<int> d, Vector256<int> e, bool hasOffset, int inputs, float inputScale, ref Vector256<float> low, ref Vector256<float> high)
    {
        float* scale = (float*)(unit + 64);
        Vector256<float> t = Vector256.ConvertToSingle(d) * Vector256.Load(scale), v = Vector256.ConvertToSingle(e) * Vector256.Load(scale + 8);
        if (hasOffset)
        {
            Vector256<float> sum = Vector256.Create((float)inputs);
            t = Vector256.FusedMultiplyAdd(Vector256.Load(scale + 16), sum, t);
            v = Vector256.FusedMultiplyAdd(Vector256.Load(scale + 24), sum, v);
        }
        low = Vector256.FusedMultiplyAdd(t, Vector256.Create(inputScale), low);
        high = Vector256.FusedMultiplyAdd(v, Vector256.Create(inputScale), high);
    }
}
