using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace GemmaServer.Compute;

/// <summary>
/// The tile kernel for AVX-512 VNNI, which .NET has no intrinsics for: assembled when first wanted. Twelve sums of 16 lanes
/// (two panels × six input rows) stay in registers; an input quad is broadcast once for both panels.
/// </summary>
internal static unsafe class AssembledTiles
{
    /// <summary>Rows of a tile: with two panels their sums fill the registers.</summary>
    public const int MostRows = 6;

    // In a kernel's place where the system allows no executable memory: it is asked once.
    private const nint Refused = -1;

    private static readonly object s_gate = new();
    private static readonly nint[] s_kernels = new nint[4 * (MostRows + 1)];

    /// <summary>Whether this machine has the instructions, and its runtime may use 512-bit registers.</summary>
    public static bool IsSupported { get; } = OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == Architecture.X64
        && Avx512BW.IsSupported && HasVnni();

    /// <summary>The kernel for tiles of so many rows; null where there is none.</summary>
    public static delegate* unmanaged[SuppressGCTransition]<TileArguments*, void> For(PanelFormat format, int tileRows)
    {
        if (!IsSupported) return null;
        int index = tileRows * 4 + (format.Unit == 16 ? 2 : 0) + (format.HasOffset ? 1 : 0);
        nint kernel = Volatile.Read(ref s_kernels[index]);
        if (kernel == 0)
        {
            lock (s_gate)
            {
                kernel = s_kernels[index];
                if (kernel == 0)
                {
                    kernel = ExecutableMemory.Load(Assemble(tileRows, format.Unit, format.HasOffset));
                    Volatile.Write(ref s_kernels[index], kernel == 0 ? Refused : kernel);
                }
            }
        }
        return kernel == Refused ? null : (delegate* unmanaged[SuppressGCTransition]<TileArguments*, void>)kernel;
    }

    /// <summary>Register use: zmm0 … zmm7 weights, inputs and constants; 8 … 19 sums; 20 … 31 integer sums of a unit.</summary>
    private static Assembler Assemble(int rows, int unit, bool hasOffset)
    {
        Assembler a = new(64);
        AssemblerRegister64 x = rax, w0 = rdx, w1 = rcx, y0 = rsi, y1 = r8, blocks = r9;
        a.mov(x, __qword_ptr[rdi]);
        a.mov(w0, __qword_ptr[rdi + 8]);
        a.mov(w1, __qword_ptr[rdi + 16]);
        a.mov(y0, __qword_ptr[rdi + 24]);
        a.mov(y1, __qword_ptr[rdi + 32]);
        a.mov(blocks, __qword_ptr[rdi + 40]);
        a.mov(r10, __qword_ptr[rdi + 48]);

        Label begin = a.CreateLabel(), loop = a.CreateLabel();
        for (int i = 0; i < 2 * rows; i++) a.vpxord(Sum(i), Sum(i), Sum(i));
        a.test(r10, r10);
        a.je(begin);
        for (int r = 0; r < rows; r++)
        {
            a.vmovups(Sum(2 * r), __zmmword_ptr[y0 + 64 * r]);
            a.vmovups(Sum(2 * r + 1), __zmmword_ptr[y1 + 64 * r]);
        }
        a.Label(ref begin);
        a.nop();
        a.Label(ref loop);

        int unitBytes = hasOffset ? 192 : 128, units = 32 / unit;
        for (int u = 0; u < units; u++)
        {
            int at = 512 + u * unitBytes;
            a.vmovdqu32(Dot(0), __zmmword_ptr[w0 + at]);
            a.vmovdqu32(Dot(1), __zmmword_ptr[w1 + at]);
            for (int r = 1; r < rows; r++)
            {
                a.vmovdqa32(Dot(2 * r), Dot(0));
                a.vmovdqa32(Dot(2 * r + 1), Dot(1));
            }
            for (int q = u * unit / 4; q < (u + 1) * unit / 4; q++)
            {
                AssemblerRegisterZMM p0 = q % 2 == 0 ? zmm0 : zmm2, p1 = q % 2 == 0 ? zmm1 : zmm3;
                a.vmovdqu32(p0, __zmmword_ptr[w0 + 64 * q]);
                a.vmovdqu32(p1, __zmmword_ptr[w1 + 64 * q]);
                for (int r = 0; r < rows; r++)
                {
                    AssemblerRegisterZMM input = r % 2 == 0 ? zmm4 : zmm5;
                    a.vpbroadcastd(input, __dword_ptr[x + (32 * r + 4 * q)]);
                    a.vpdpbusd(Dot(2 * r), input, p0);
                    a.vpdpbusd(Dot(2 * r + 1), input, p1);
                }
            }
            a.vmovups(zmm0, __zmmword_ptr[w0 + (at + 64)]);
            a.vmovups(zmm1, __zmmword_ptr[w1 + (at + 64)]);
            if (hasOffset)
            {
                a.vmovups(zmm2, __zmmword_ptr[w0 + (at + 128)]);
                a.vmovups(zmm3, __zmmword_ptr[w1 + (at + 128)]);
                // Which of the two shorts count: both for 32 columns.
                a.mov(r11d, unit == 32 ? 0x00010001 : u == 0 ? 1 : 0x00010000);
                a.vpbroadcastd(zmm6, r11d);
            }
            for (int r = 0; r < rows; r++)
            {
                a.vcvtdq2ps(Dot(2 * r), Dot(2 * r));
                a.vcvtdq2ps(Dot(2 * r + 1), Dot(2 * r + 1));
                a.vmulps(Dot(2 * r), Dot(2 * r), zmm0);
                a.vmulps(Dot(2 * r + 1), Dot(2 * r + 1), zmm1);
                if (hasOffset)
                {
                    a.vpxord(zmm7, zmm7, zmm7);
                    a.vpdpwssd(zmm7, zmm6, __dword_bcst[x + (36 * rows + 4 * r)]);
                    a.vcvtdq2ps(zmm7, zmm7);
                    a.vfmadd231ps(Dot(2 * r), zmm2, zmm7);
                    a.vfmadd231ps(Dot(2 * r + 1), zmm3, zmm7);
                }
                a.vbroadcastss(zmm4, __dword_ptr[x + (32 * rows + 4 * r)]);
                a.vfmadd231ps(Sum(2 * r), Dot(2 * r), zmm4);
                a.vfmadd231ps(Sum(2 * r + 1), Dot(2 * r + 1), zmm4);
            }
        }
        a.add(x, QuantisedRows.BlockBytes * rows);
        a.add(w0, 512 + units * unitBytes);
        a.add(w1, 512 + units * unitBytes);
        a.dec(blocks);
        a.jne(loop);
        for (int r = 0; r < rows; r++)
        {
            a.vmovups(__zmmword_ptr[y0 + 64 * r], Sum(2 * r));
            a.vmovups(__zmmword_ptr[y1 + 64 * r], Sum(2 * r + 1));
        }
        a.vzeroupper();
        a.ret();
        return a;
    }

    private static AssemblerRegisterZMM Sum(int i) => new((Register)((int)Register.ZMM8 + i));

    private static AssemblerRegisterZMM Dot(int i) => new((Register)((int)Register.ZMM20 + i));

    private static bool HasVnni() => X86Base.IsSupported && X86Base.CpuId(0, 0).Eax >= 7 && (X86Base.CpuId(7, 0).Ecx & (1 << 11)) != 0;
}
