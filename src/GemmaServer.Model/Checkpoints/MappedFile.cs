using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;

namespace GemmaServer.Model;

/// <summary>A whole file mapped read-only. The address is good until <see cref="Dispose"/>; it owns the mapping.</summary>
internal sealed unsafe partial class MappedFile : IDisposable
{
    private readonly MemoryMappedFile? _file;
    private readonly MemoryMappedViewAccessor? _view;
    private bool _disposed;

    private MappedFile(string path, long length, MemoryMappedFile? file, MemoryMappedViewAccessor? view)
    {
        Path = path;
        Length = length;
        _file = file;
        _view = view;
        if (view is null) return;
        byte* start = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
        Data = (nint)(start + view.PointerOffset);
    }

    public string Path { get; }

    /// <summary>Bytes of the file; the mapping itself is rounded up to pages, which must not be read.</summary>
    public long Length { get; }

    /// <summary>First byte; zero for an empty file, which cannot be mapped.</summary>
    public nint Data { get; }

    public static MappedFile Open(string path)
    {
        // The length is taken from the handle that is mapped, so a file that changes in between cannot fool the bounds checks.
        FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 1);
        try
        {
            long length = stream.Length;
            if (length == 0)
            {
                stream.Dispose();
                return new MappedFile(path, 0, null, null);
            }

            MemoryMappedFile file = MemoryMappedFile.CreateFromFile(
                stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
            try
            {
                return new MappedFile(path, length, file, file.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read));
            }
            catch
            {
                file.Dispose();
                throw;
            }
        }
        catch
        {
            stream.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Lets go of the pages that were read so far: they stay in the system's cache and are mapped again where they are read
    /// again. Without it a file that was copied once would count as the process's memory.
    /// </summary>
    public void ReleasePages()
    {
        const int dontNeed = 4;     // Linux, sys/mman.h: MADV_DONTNEED, which loses nothing of a file that is mapped read-only
        if (Data != 0 && OperatingSystem.IsLinux()) _ = Advise(Data, (nuint)Length, dontNeed);
    }

    public void Dispose()
    {
        if (_disposed) return;
        _disposed = true;
        _view?.SafeMemoryMappedViewHandle.ReleasePointer();
        _view?.Dispose();
        _file?.Dispose();
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(nint address, nuint length, int advice);
}
