using System.Runtime.InteropServices;

namespace GemmaServer.Benchmarks;

/// <summary>Anonymous memory, in huge pages where the kernel gives them, so that a read is held up by memory and not by the page tables.</summary>
internal sealed unsafe partial class HugeBuffer : IDisposable
{
    private const nuint HugePage = 2 << 20;
    private const int AdviseHugePages = 14;

    private byte* _memory;

    /// <summary>Zeroed memory that is really there: every page was written to.</summary>
    public HugeBuffer(long bytes)
    {
        Bytes = bytes;
        nuint size = ((nuint)bytes + HugePage - 1) / HugePage * HugePage;
        _memory = (byte*)NativeMemory.AlignedAlloc(size, HugePage);
        // Refused advice leaves small pages, which work too.
        if (OperatingSystem.IsLinux()) _ = Advise(_memory, size, AdviseHugePages);
        // A page that was only zeroed may be the kernel's one zero page, and would be read from the cache.
        for (nuint at = 0; at < size; at += 4096) _memory[at] = 1;
    }

    public long Bytes { get; }

    public byte* Pointer => _memory;

    public Span<byte> Span(long offset, int length) => new(_memory + offset, length);

    public void Dispose()
    {
        NativeMemory.AlignedFree(_memory);
        _memory = null;
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(void* address, nuint length, int advice);
}
