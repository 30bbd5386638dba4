namespace GemmaServer.Compute;

/// <summary>A piece of device memory: what a kernel gets for a pointer. Belongs to the arena it came from.</summary>
/// <param name="Handle">CUDA: the address; OpenCL: the memory object.</param>
/// <param name="Bytes">Length.</param>
internal readonly record struct GpuBuffer(nint Handle, long Bytes)
{
    /// <summary>A null pointer: "there is none".</summary>
    public static GpuBuffer None => default;

    public bool IsNone => Handle == 0;
}

/// <summary>Host memory that the device copies from and to without a stop on the way.</summary>
internal abstract unsafe class PinnedBuffer(long bytes) : IDisposable
{
    public long Bytes { get; } = bytes;

    public abstract byte* Pointer { get; }

    public Span<T> Span<T>() where T : unmanaged => new(Pointer, checked((int)(Bytes / sizeof(T))));

    public abstract void Dispose();
}
