using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>64-byte aligned memory outside the managed heap; zeroed lazily by the system for large sizes.</summary>
internal sealed unsafe class NativeBuffer : IDisposable
{
    private const int Alignment = 64;

    public NativeBuffer(long bytes, bool zero = true)
    {
        Bytes = bytes;
        Pointer = (byte*)NativeMemory.AlignedAlloc((nuint)Math.Max(bytes, Alignment), Alignment);
        // Small buffers only: clearing a KV pool of gigabytes would touch every page of it at start.
        if (zero) NativeMemory.Clear(Pointer, (nuint)bytes);
    }

    ~NativeBuffer() => Free();

    public long Bytes { get; }

    public byte* Pointer { get; private set; }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        if (Pointer is null) return;
        NativeMemory.AlignedFree(Pointer);
        Pointer = null;
    }
}
