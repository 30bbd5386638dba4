using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>
/// Memory for packed weights, cut from large pieces on huge pages: a decode step reads all of it, and with small pages would
/// spend its time on translations. What is not yet handed out costs nothing. Freed when nobody refers to it any more.
/// </summary>
internal sealed unsafe partial class WeightArena
{
    private const long PieceBytes = 256L << 20, HugePage = 2L << 20;
    private const int AdviseHugePages = 14;         // Linux, sys/mman.h: MADV_HUGEPAGE

    private readonly List<nint> _pieces = [];
    private byte* _next;
    private long _left;

    /// <summary>Bytes handed out.</summary>
    public long Used { get; private set; }

    /// <summary>Memory of so many bytes at a multiple of 64.</summary>
    public byte* Allocate(long bytes)
    {
        bytes = (bytes + 63) & ~63L;
        if (bytes > _left) AddPiece(Math.Max(bytes, PieceBytes));
        byte* memory = _next;
        _next += bytes;
        _left -= bytes;
        Used += bytes;
        return memory;
    }

    ~WeightArena()
    {
        foreach (nint piece in _pieces) NativeMemory.AlignedFree((void*)piece);
    }

    private void AddPiece(long bytes)
    {
        bytes = (bytes + HugePage - 1) / HugePage * HugePage;
        _next = (byte*)NativeMemory.AlignedAlloc((nuint)bytes, (nuint)HugePage);
        _left = bytes;
        _pieces.Add((nint)_next);
        // Only advice: where it is refused the pages are small.
        if (OperatingSystem.IsLinux()) _ = Advise(_next, (nuint)bytes, AdviseHugePages);
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(void* address, nuint length, int advice);
}
