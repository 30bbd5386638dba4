using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>Scratch memory outside the managed heap, 64-byte aligned, that grows and never shrinks.</summary>
internal sealed unsafe class AlignedBuffer : IDisposable
{
    private void* _data;
    private nuint _bytes;

    ~AlignedBuffer() => Free();

    /// <summary>At least <paramref name="bytes"/> bytes; what was there before is lost when it grows.</summary>
    public byte* Ensure(long bytes)
    {
        if ((nuint)bytes > _bytes)
        {
            Free();
            _data = NativeMemory.AlignedAlloc((nuint)bytes, 64);
            _bytes = (nuint)bytes;
        }
        return (byte*)_data;
    }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        NativeMemory.AlignedFree(_data);
        _data = null;
        _bytes = 0;
    }
}
