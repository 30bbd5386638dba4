namespace GemmaServer.Compute;

/// <summary>
/// One device through one driver: memory, kernels and a queue in which everything runs in order. Every error of the driver
/// becomes a <see cref="GpuException"/>. Used from one thread.
/// </summary>
internal abstract unsafe class GpuContext : IDisposable
{
    /// <summary>The device.</summary>
    public abstract GpuInfo Info { get; }

    /// <summary>Bytes that are free on the device now; its whole memory where the driver does not tell.</summary>
    public abstract long FreeBytes { get; }

    /// <summary>Bytes taken so far.</summary>
    public abstract long UsedBytes { get; }

    /// <summary>Device memory, 256-byte aligned, not cleared; given back with the context or by <see cref="Free"/>.</summary>
    /// <param name="bytes">More than 0.</param>
    /// <param name="what">For the message when there is not enough.</param>
    public abstract GpuBuffer Allocate(long bytes, string what);

    /// <summary>Gives a buffer back.</summary>
    public abstract void Free(GpuBuffer buffer);

    /// <summary>Host memory for copies that do not wait.</summary>
    public abstract PinnedBuffer AllocatePinned(long bytes);

    /// <summary>Copies to the device; the source may change as soon as this returns. For loading: it may wait.</summary>
    public abstract void Upload(GpuBuffer to, long offset, void* from, long bytes);

    /// <summary>Copies from the device and waits for it. For tests and start-up.</summary>
    public abstract void Download(void* to, GpuBuffer from, long offset, long bytes);

    /// <summary>Queues a copy to the device; the source stays as it is until a later event is reached.</summary>
    public abstract void Write(GpuBuffer to, long offset, PinnedBuffer from, long fromOffset, long bytes);

    /// <summary>Queues a copy from the device.</summary>
    public abstract void Read(PinnedBuffer to, long toOffset, GpuBuffer from, long offset, long bytes);

    /// <summary>Queues zeros.</summary>
    public abstract void Clear(GpuBuffer buffer, long bytes);

    /// <summary>Compiles (or takes from the cache) a program and gives one of its kernels.</summary>
    /// <exception cref="GpuException">It does not compile; the message holds the compiler's log.</exception>
    public abstract GpuKernel Kernel(KernelSource source, string name);

    /// <summary>Marks this place in the queue; events are reused in a ring of <see cref="EventRing"/>.</summary>
    public abstract GpuEvent Record();

    /// <summary>Waits until the queue has passed a mark.</summary>
    public abstract void Wait(GpuEvent mark);

    /// <summary>Waits for everything queued. For tests and start-up.</summary>
    public abstract void Finish();

    /// <summary>
    /// Begins to record what is launched under <paramref name="key"/>, or, where that was recorded already, to leave it out because
    /// <see cref="EndGraph"/> replays it. Where the driver has no graphs, it simply runs.
    /// </summary>
    /// <remarks>
    /// Between the two may stand kernels, <see cref="Write"/>, <see cref="Read"/> and <see cref="Clear"/>, and their order, grids,
    /// arguments and addresses are the same each time under one key: a replay uses those of the recording, only what the addresses
    /// hold is new. So copies from buffers that take turns (<see cref="StagedInts"/>) come before it. What waits or allocates
    /// (<see cref="Upload"/>, <see cref="Download"/>, <see cref="Record"/>, <see cref="Wait"/>, <see cref="Finish"/>,
    /// <see cref="Allocate"/>, <see cref="Free"/>) stands outside: it ends the recording, and the rest runs as it comes.
    /// </remarks>
    public virtual void BeginGraph(long key)
    {
    }

    /// <summary>Ends what <see cref="BeginGraph"/> began and, with graphs, runs it.</summary>
    public virtual void EndGraph()
    {
    }

    /// <summary>Forgets what <see cref="BeginGraph"/> began, if that was not ended: the step failed half way.</summary>
    public virtual void DropGraph()
    {
    }

    /// <summary>Kernels that were compiled or taken from the cache so far.</summary>
    public abstract int KernelCount { get; }

    /// <summary>How many events may be waited for at a time.</summary>
    public const int EventRing = 16;

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>A mark in the queue.</summary>
internal readonly record struct GpuEvent(long Number);
