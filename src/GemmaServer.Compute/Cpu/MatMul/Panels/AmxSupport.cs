using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace GemmaServer.Compute;

/// <summary>What the search for AMX asks the machine.</summary>
/// <param name="IsLinux">64-bit Linux on x86: the kernels' calling convention, and the request below.</param>
/// <param name="HasWideVectors">Whether the runtime uses AVX-512 BW.</param>
/// <param name="CpuId">Leaf and sub-leaf to eax, ebx, ecx, edx.</param>
/// <param name="EnabledState">XGETBV(0): the register sets that the system saves.</param>
/// <param name="RequestTiles">Asks the system for tile registers; 0, or the error number.</param>
internal sealed record AmxMachine(
    bool IsLinux, bool HasWideVectors, Func<int, int, (int Eax, int Ebx, int Ecx, int Edx)> CpuId, Func<ulong> EnabledState, Func<int> RequestTiles);

/// <summary>
/// Whether AMX kernels may run. Everything is asked before the first of their instructions, because a process does not outlive
/// one that its processor or its system refuses.
/// </summary>
internal static unsafe partial class AmxSupport
{
    private const int ArchPrctl = 158;                                          // x86-64's number of the system call
    private const int RequestPermission = 0x1023, TileData = 18;                // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    private const ulong TileStates = 1ul << 17 | 1ul << TileData, WideStates = 0xE6;      // of XCR0

    private static readonly Lazy<string?> s_refusal = new(FindOut);

    /// <summary>Whether the kernels may run; the first question assembles and checks them.</summary>
    public static bool IsUsable => Refusal is null;

    /// <summary>Why they may not, as the end of a sentence; null where they may.</summary>
    public static string? Refusal => s_refusal.Value;

    /// <summary>Whether this processor has AMX for bytes, usable or not.</summary>
    public static bool IsInProcessor => X86Base.IsSupported && HasTiles(X86Base.CpuId);

    /// <summary>Why a machine cannot run the kernels; null where it can, and then the system has granted tile registers.</summary>
    internal static string? Missing(AmxMachine machine)
    {
        if (!machine.IsLinux) return "it is used on 64-bit x86 Linux only";
        if (!HasTiles(machine.CpuId)) return "the processor has none";
        if (!machine.HasWideVectors) return "the runtime does not use AVX-512";
        bool savesState = (machine.CpuId(1, 0).Ecx & 1 << 27) != 0;                      // OSXSAVE: XGETBV may be asked
        if (!savesState || (machine.EnabledState() & (TileStates | WideStates)) != (TileStates | WideStates)) return "the system does not save tile registers";

        // Palette 1: bytes of a tile and of all, tiles and bytes of a row, rows; then the multiplier's depth and width in bytes.
        (int eax, int ebx, int ecx, _) = machine.CpuId(0x1D, 1);
        int multiplier = machine.CpuId(0x1E, 0).Ebx;
        if (machine.CpuId(0x1D, 0).Eax < 1 || eax >>> 16 < 1024 || (eax & 0xFFFF) < 8 * 1024 || ebx >>> 16 < 8 || (ebx & 0xFFFF) < 64 || (ecx & 0xFFFF) < 16
            || (multiplier & 0xFF) < 8 || (multiplier >> 8 & 0xFFFF) < 64)
            return "the processor's tiles have another size";

        int error = machine.RequestTiles();
        return error == 0 ? null : $"the system refuses tile registers (error {error})";
    }

    private static bool HasTiles(Func<int, int, (int Eax, int Ebx, int Ecx, int Edx)> cpuId)
    {
        const int tile = 1 << 24, int8 = 1 << 25;
        return cpuId(0, 0).Eax >= 0x1E && (cpuId(7, 0).Edx & (tile | int8)) == (tile | int8);
    }

    private static string? FindOut()
    {
        AmxMachine machine = new(
            OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == Architecture.X64, Avx512BW.IsSupported,
            X86Base.IsSupported ? X86Base.CpuId : static (_, _) => default, EnabledState, RequestTiles);
        if (Missing(machine) is { } reason) return reason;
        if (!AmxTiles.Load()) return "the system refuses executable memory";
        return AmxSelfCheck.Run(AmxTiles.Run);
    }

    private static int RequestTiles() => SystemCall(ArchPrctl, RequestPermission, TileData) == 0 ? 0 : Marshal.GetLastPInvokeError();

    private static ulong EnabledState()
    {
        Assembler a = new(64);
        a.xor(ecx, ecx);
        a.xgetbv();
        a.shl(rdx, 32);
        a.or(rax, rdx);
        a.ret();
        nint routine = ExecutableMemory.Load(a);
        return routine == 0 ? 0 : ((delegate* unmanaged<ulong>)routine)();
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint SystemCall(nint number, nint code, nint argument);
}
