using System.Diagnostics;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace GemmaServer.Compute;

/// <summary>
/// The tile kernel for AMX: products of signed bytes in tile registers, scaled and added up in vector registers. The steps
/// (units of 32 or 16 columns) are two deep: while the vectors of one are under way, the tiles of the next are.
/// <code>
/// tmm0, tmm1   integer sums of both panels, even steps      tmm4, tmm5   inputs, even and odd steps
/// tmm2, tmm3   odd steps                                    tmm6, tmm7   weights of both panels
/// </code>
/// </summary>
/// <remarks>
/// Counted on paper for Sapphire Rapids (two 512-bit loads a cycle, one store, vector arithmetic on two ports, sixteen cycles for a
/// product of sixteen rows), cycles for a block of 32 columns, two panels and all rows of a tile:
/// <code>
///                                      arithmetic   loads   stores   tiles   for a row
/// six rows, AVX-512 VNNI                       66      37        0       0        11.0
/// sixteen rows, panel after panel              48      57       32      32         3.6
/// twelve rows, both panels (this)              36      33       24   24–32         3.0
/// the same, unsigned inputs and a bias         36      45       24   24–32         3.8
/// the same, signed, with offsets               50      41       25   24–32         4.1
/// the same, units of 16 columns                72      58       48   48–64         6.0
/// </code>
/// So a tile has as many rows as there are vector registers for the sums of both panels, not as many as a tile register has;
/// and inputs are signed here, because a bias would have to be loaded where a cleared tile costs nothing. Scales every 32
/// columns leave half of a tile register's depth unused. A call costs some 300 cycles more than its tiles (configuration, latency
/// of the first product), about 19 a block: below eight rows the gain would be little.
/// </remarks>
internal static unsafe class AmxTiles
{
    /// <summary>Rows of a tile: with two panels their sums take 24 of the 32 vector registers.</summary>
    public const int MostRows = 12;

    /// <summary>Fewer input rows than this are left to the other kernels; see the remarks.</summary>
    public const int FewestInputs = 8;

    private static readonly nint[] s_kernels = new nint[4 * (MostRows + 1)];

    /// <summary>Assembles every kernel, so that none is refused later. Not for several threads; <see cref="AmxSupport"/> calls it.</summary>
    /// <returns>False where the system refuses executable memory.</returns>
    public static bool Load()
    {
        for (int rows = 1; rows <= MostRows; rows++)
        {
            for (int variant = 0; variant < 4; variant++)
            {
                nint kernel = ExecutableMemory.Load(Assemble(rows, (variant & 2) != 0 ? 16 : 32, (variant & 1) != 0));
                if (kernel == 0) return false;
                s_kernels[rows * 4 + variant] = kernel;
            }
        }
        return true;
    }

    /// <summary>
    /// Runs the kernel for tiles of so many rows, where <see cref="AmxSupport"/> allows it. It takes several tiles in a call,
    /// which may last many microseconds: so the runtime is told of the call.
    /// </summary>
    public static void Run(PanelFormat format, int tileRows, TileArguments* arguments)
    {
        SignalStack.Widen();
        ((delegate* unmanaged<TileArguments*, void>)s_kernels[tileRows * 4 + (format.Unit == 16 ? 2 : 0) + (format.HasOffset ? 1 : 0)])(arguments);
    }

    /// <summary>The kernel's code: position-independent, called with <see cref="TileArguments"/> as System V wants it.</summary>
    internal static Assembler Assemble(int rows, int unit, bool hasOffset)
    {
        Debug.Assert(rows is >= 1 and <= MostRows && unit is 16 or 32);
        Assembler a = new(64);
        AmxTileWriter w = new(a, rows, unit, hasOffset);
        w.Enter();
        Label tile = a.CreateLabel(), loop = a.CreateLabel(), end = a.CreateLabel();
        Label[] last = [a.CreateLabel(), a.CreateLabel()];
        a.Label(ref tile);
        w.BeginTile();
        w.Multiply(parity: 0, blockAhead: 0, firstColumn: 0);
        a.Label(ref loop);
        for (int parity = 0; parity < 2; parity++)
        {
            // A block ends with every step of 32 columns, and with every other one of 16.
            bool endsBlock = unit == 32 || parity == 1;
            int column = unit == 32 ? 0 : 16 * parity;
            if (endsBlock)
            {
                a.dec(AmxTileWriter.Blocks);
                a.je(last[parity]);
            }
            w.Multiply(1 - parity, endsBlock ? 1 : 0, unit == 32 ? 0 : 16 - column);
            w.Add(parity, column);
            if (endsBlock) w.NextBlock();
        }
        a.jmp(loop);
        for (int parity = 0; parity < 2; parity++)
        {
            if (unit == 16 && parity == 0) continue;
            a.Label(ref last[parity]);
            w.Add(parity, unit == 32 ? 0 : 16);
            if (parity == 0) a.jmp(end);
        }
        a.Label(ref end);
        w.EndTile(tile);
        w.Leave();
        return a;
    }
}
