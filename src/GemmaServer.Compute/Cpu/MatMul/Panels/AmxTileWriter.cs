using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace GemmaServer.Compute;

/// <summary>
/// Writes the pieces of <see cref="AmxTiles"/>' kernel. The stack frame, from rsp on:
/// <code>| integer sums, even steps [2 panels][rows][16] | odd steps | Σ q of either kind of step, float [2][16] |</code>
/// </summary>
internal sealed class AmxTileWriter(Assembler a, int rows, int unit, bool hasOffset)
{
    /// <summary>Blocks left.</summary>
    public static readonly AssemblerRegister64 Blocks = r9;

    private static readonly AssemblerRegister64 s_arguments = rdi, s_x = rax, s_w0 = rdx, s_w1 = rcx, s_y0 = rsi, s_y1 = r8;

    // Bytes from one row to the next: 32 of inputs; weights and sums take it twice.
    private static readonly AssemblerRegister64 s_stride = r10;

    private static readonly AssemblerRegister64 s_tilesLeft = rbx, s_tileX = r12;

    private readonly int _unitBytes = hasOffset ? 192 : 128;
    private Label _configuration;

    private int BlockBytes => 512 + 32 / unit * _unitBytes;

    private int SumsAt(int parity, int panel) => (2 * parity + panel) * 64 * rows;

    private int InputSumsAt(int parity) => SumsAt(2, 0) + 64 * parity;

    /// <summary>Frame, tile configuration and what stays in registers.</summary>
    public void Enter()
    {
        a.push(rbp);
        a.mov(rbp, rsp);
        a.push(rbx);
        a.push(r12);
        a.sub(rsp, InputSumsAt(2));
        a.and(rsp, -64);
        _configuration = a.CreateLabel();
        a.ldtilecfg(__zmmword_ptr[_configuration]);
        a.mov(s_tilesLeft, __qword_ptr[s_arguments + 56]);
        a.mov(s_tileX, __qword_ptr[s_arguments]);
        a.mov(s_y0, __qword_ptr[s_arguments + 24]);
        a.mov(s_y1, __qword_ptr[s_arguments + 32]);
        a.mov(r10d, 32);
        if (!hasOffset) return;
        a.mov(r11d, (1 << rows) - 1);
        a.kmovd(k1, r11d);
    }

    /// <summary>Pointers to a tile's first block, and its sums.</summary>
    public void BeginTile()
    {
        Label fresh = a.CreateLabel(), ready = a.CreateLabel();
        a.mov(s_x, s_tileX);
        a.mov(s_w0, __qword_ptr[s_arguments + 8]);
        a.mov(s_w1, __qword_ptr[s_arguments + 16]);
        a.mov(Blocks, __qword_ptr[s_arguments + 40]);
        a.mov(r11, __qword_ptr[s_arguments + 48]);
        a.test(r11, r11);
        a.je(fresh);
        for (int r = 0; r < rows; r++)
        {
            a.vmovups(Sum(2 * r), __zmmword_ptr[s_y0 + 64 * r]);
            a.vmovups(Sum(2 * r + 1), __zmmword_ptr[s_y1 + 64 * r]);
        }
        a.jmp(ready);
        a.Label(ref fresh);
        for (int i = 0; i < 2 * rows; i++) a.vpxord(Sum(i), Sum(i), Sum(i));
        a.Label(ref ready);
        // Which of an input sum's two shorts count: both for 32 columns.
        if (hasOffset && unit == 32) a.mov(r11d, 0x00010001);
        else a.nop();
    }

    /// <summary>Integer sums of a step into the frame.</summary>
    /// <param name="parity">Which half of the frame, and which tiles.</param>
    /// <param name="blockAhead">How many blocks after the present one.</param>
    /// <param name="firstColumn">0 or 16: where in the block.</param>
    public void Multiply(int parity, int blockAhead, int firstColumn)
    {
        AssemblerRegisterTMM sum0 = Tile(2 * parity), sum1 = Tile(2 * parity + 1), x = Tile(4 + parity);
        int weights = blockAhead * BlockBytes + 16 * firstColumn;
        a.tilezero(sum0);
        a.tilezero(sum1);
        a.tileloadd(x, __[s_x + s_stride * 1 + (blockAhead * QuantisedRows.BlockBytes * rows + firstColumn)]);
        a.tileloadd(tmm6, __[s_w0 + s_stride * 2 + weights]);
        a.tdpbssd(sum0, x, tmm6);
        a.tileloadd(tmm7, __[s_w1 + s_stride * 2 + weights]);
        a.tdpbssd(sum1, x, tmm7);
        a.tilestored(__[rsp + s_stride * 2 + SumsAt(parity, 0)], sum0);
        a.tilestored(__[rsp + s_stride * 2 + SumsAt(parity, 1)], sum1);
    }

    /// <summary>A step's integer sums, scaled, to the sums in registers: zmm0 … zmm3 scales and offsets, 4 and 5 products, 6 and 7 inputs.</summary>
    public void Add(int parity, int firstColumn)
    {
        int at = 512 + firstColumn / 16 * _unitBytes, behind = 32 * rows;
        a.vmovups(zmm0, __zmmword_ptr[s_w0 + (at + 64)]);
        a.vmovups(zmm1, __zmmword_ptr[s_w1 + (at + 64)]);
        if (hasOffset)
        {
            a.vmovups(zmm2, __zmmword_ptr[s_w0 + (at + 128)]);
            a.vmovups(zmm3, __zmmword_ptr[s_w1 + (at + 128)]);
            // Σ q of all rows at once; one of the two shorts for 16 columns.
            if (unit == 16) a.mov(r11d, firstColumn == 0 ? 1 : 0x00010000);
            a.vpbroadcastd(zmm4, r11d);
            a.vmovdqu32(zmm5.k1.z, __zmmword_ptr[s_x + (behind + 4 * rows)]);
            a.vpmaddwd(zmm5, zmm5, zmm4);
            a.vcvtdq2ps(zmm5, zmm5);
            a.vmovups(__zmmword_ptr[rsp + InputSumsAt(parity)], zmm5);
        }
        for (int r = 0; r < rows; r++)
        {
            a.vcvtdq2ps(zmm4, __zmmword_ptr[rsp + (SumsAt(parity, 0) + 64 * r)]);
            a.vcvtdq2ps(zmm5, __zmmword_ptr[rsp + (SumsAt(parity, 1) + 64 * r)]);
            a.vmulps(zmm4, zmm4, zmm0);
            a.vmulps(zmm5, zmm5, zmm1);
            if (hasOffset)
            {
                a.vbroadcastss(zmm6, __dword_ptr[rsp + (InputSumsAt(parity) + 4 * r)]);
                a.vfmadd231ps(zmm4, zmm2, zmm6);
                a.vfmadd231ps(zmm5, zmm3, zmm6);
            }
            a.vbroadcastss(zmm7, __dword_ptr[s_x + (behind + 4 * r)]);
            a.vfmadd231ps(Sum(2 * r), zmm4, zmm7);
            a.vfmadd231ps(Sum(2 * r + 1), zmm5, zmm7);
        }
    }

    public void NextBlock()
    {
        a.add(s_x, QuantisedRows.BlockBytes * rows);
        a.add(s_w0, BlockBytes);
        a.add(s_w1, BlockBytes);
    }

    /// <summary>Sums go out; back to <paramref name="tile"/> while there is one more.</summary>
    public void EndTile(Label tile)
    {
        for (int r = 0; r < rows; r++)
        {
            a.vmovups(__zmmword_ptr[s_y0 + 64 * r], Sum(2 * r));
            a.vmovups(__zmmword_ptr[s_y1 + 64 * r], Sum(2 * r + 1));
        }
        a.add(s_y0, 64 * rows);
        a.add(s_y1, 64 * rows);
        a.add(s_tileX, __qword_ptr[s_arguments + 64]);
        a.dec(s_tilesLeft);
        a.jne(tile);
    }

    /// <summary>Return with tiles released, so that the system need not save them; then the configuration.</summary>
    public void Leave()
    {
        a.tilerelease();
        a.vzeroupper();
        a.lea(rsp, __[rbp - 16]);
        a.pop(r12);
        a.pop(rbx);
        a.pop(rbp);
        a.ret();
        a.Label(ref _configuration);
        a.db(Configuration());
    }

    /// <summary>Palette 1: bytes of a row from byte 16 on, two for each tile; rows from 48 on, one for each.</summary>
    private byte[] Configuration()
    {
        byte[] c = new byte[64];
        c[0] = 1;
        for (int tile = 0; tile < 8; tile++)
        {
            (c[16 + 2 * tile], c[48 + tile]) = tile switch
            {
                < 4 => ((byte)64, (byte)rows),
                < 6 => ((byte)unit, (byte)rows),
                _ => ((byte)64, (byte)(unit / 4)),
            };
        }
        return c;
    }

    private static AssemblerRegisterTMM Tile(int i) => new((Register)((int)Register.TMM0 + i));

    private static AssemblerRegisterZMM Sum(int i) => new((Register)((int)Register.ZMM8 + i));
}
