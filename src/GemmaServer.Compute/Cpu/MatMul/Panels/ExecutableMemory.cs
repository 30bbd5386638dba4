using System.Runtime.InteropServices;
using Iced.Intel;

namespace GemmaServer.Compute;

/// <summary>Room for assembled code: written, then made executable and never written again. Kept until the process ends.</summary>
internal static unsafe partial class ExecutableMemory
{
    private const int Read = 1, Write = 2, Execute = 4, Private = 2, Anonymous = 0x20;      // Linux, sys/mman.h

    /// <summary>Loads a position-independent routine.</summary>
    /// <returns>Its first instruction; 0 where the system refuses executable memory.</returns>
    public static nint Load(Assembler assembler)
    {
        using MemoryStream code = new();
        assembler.Assemble(new StreamCodeWriter(code), 0);
        nuint length = ((nuint)code.Length + 4095) & ~(nuint)4095;
        nint memory = Map(0, length, Read | Write, Private | Anonymous, -1, 0);
        if (memory == -1) return 0;
        code.ToArray().CopyTo(new Span<byte>((void*)memory, (int)length));
        return Protect(memory, length, Read | Execute) == 0 ? memory : 0;
    }

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial nint Map(nint address, nuint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", EntryPoint = "mprotect")]
    private static partial int Protect(nint address, nuint length, int protection);
}
