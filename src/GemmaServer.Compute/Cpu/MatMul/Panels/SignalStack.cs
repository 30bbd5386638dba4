using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>
/// The stack on which a thread handles faults. The runtime's has 12 KiB beside its guard page; the registers of a thread that has
/// used AMX take 11 of them, so the handler of a null reference would run over its end and end the process.
/// </summary>
internal static unsafe partial class SignalStack
{
    /// <summary>Registers, and four times what the runtime has for its handler.</summary>
    public const int Bytes = 64 * 1024;

    private const int NoAccess = 0, ReadWrite = 3, PrivateAnonymousStack = 0x20022, PageBytes = 4096;     // Linux, sys/mman.h

    [ThreadStatic]
    private static bool t_isWide;

    /// <summary>Gives the calling thread a wider one, unless it has one. Freed with the thread, by the runtime, as its own would be.</summary>
    public static void Widen()
    {
        if (t_isWide) return;
        t_isWide = true;
        nint memory = Map(0, Bytes, ReadWrite, PrivateAnonymousStack, -1, 0);
        if (memory == -1) return;
        _ = Protect(memory, PageBytes, NoAccess);
        Description wide = new() { Start = memory, Bytes = Bytes };
        _ = Set(&wide, null);
    }

    /// <summary>Bytes of the calling thread's, guard page included.</summary>
    internal static long Size()
    {
        Description now = default;
        return Set(null, &now) == 0 ? (long)now.Bytes : 0;
    }

    [LibraryImport("libc", EntryPoint = "sigaltstack")]
    private static partial int Set(Description* wanted, Description* before);

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial nint Map(nint address, nuint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", EntryPoint = "mprotect")]
    private static partial int Protect(nint address, nuint length, int protection);

    /// <summary><c>stack_t</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Description
    {
        public nint Start;
        public int Flags;
        public nuint Bytes;
    }
}
