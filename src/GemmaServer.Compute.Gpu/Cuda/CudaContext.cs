using System.Globalization;

namespace GemmaServer.Compute;

/// <summary>A device through the CUDA driver API: its primary context and one stream.</summary>
internal sealed unsafe class CudaContext : GpuContext
{
    /// <summary>Whose context the thread has: asking the driver at each call would cost more than the call.</summary>
    [ThreadStatic]
    private static CudaContext? t_current;

    private readonly int _device;
    private readonly nint _context;
    private readonly MemoryArena _arena;
    private readonly CudaModules _modules;
    private readonly CudaStaging _staging;
    private readonly CudaGraphs _graphs;
    private readonly nint[] _events = new nint[EventRing];
    private readonly HashSet<CudaPinnedBuffer> _pinned = [];
    private long _marks;
    private bool _isDisposed;

    /// <summary>Opens a device.</summary>
    /// <param name="index">Place in <see cref="CudaDevices.All"/>.</param>
    /// <param name="cache">Where compiled programs are kept.</param>
    /// <param name="slabBytes">Slabs of the arena; 0: each buffer is the driver's own, so that a tool sees its bounds.</param>
    /// <exception cref="GpuException">There is no such device, or it cannot be opened.</exception>
    public CudaContext(int index, KernelCache? cache = null, long slabBytes = MemoryArena.DefaultSlabBytes)
    {
        if (CudaDevices.Missing() is string missing) throw new GpuException(missing);
        IReadOnlyList<GpuInfo> devices = CudaDevices.All();
        if (index >= devices.Count)
        {
            throw new GpuException(string.Create(CultureInfo.InvariantCulture,
                $"There is no cuda:{index}; found {string.Join(", ", devices.Select(static d => $"{d.Id} ({d.Name})"))}."));
        }
        Info = devices[index];
        int device;
        Check(CudaApi.cuDeviceGet(&device, index), "open");
        nint context, stream;
        Check(CudaApi.cuDevicePrimaryCtxRetain(&context, device), "open");
        (_device, _context) = (device, context);
        Enter();
        Check(CudaApi.cuStreamCreate(&stream, CudaApi.StreamNonBlocking), "make a stream on");
        Stream = stream;
        _arena = new MemoryArena(new CudaMemory(this), slabBytes);
        _modules = new CudaModules(this, cache ?? KernelCache.Default());
        _staging = new CudaStaging(this);
        _graphs = new CudaGraphs(stream);
        for (int i = 0; i < EventRing; i++)
        {
            nint mark;
            Check(CudaApi.cuEventCreate(&mark, CudaApi.EventDisableTiming), "make an event of");
            _events[i] = mark;
        }
    }

    /// <inheritdoc/>
    public override GpuInfo Info { get; }

    /// <inheritdoc/>
    public override long FreeBytes
    {
        get
        {
            Enter();
            nuint free, total;
            Check(CudaApi.cuMemGetInfo_v2(&free, &total), "ask for the free memory of");
            return (long)free + _arena.ReservedBytes - _arena.UsedBytes;
        }
    }

    /// <inheritdoc/>
    public override long UsedBytes => _arena.UsedBytes;

    /// <summary>The recorded graphs, for tests and logs.</summary>
    public CudaGraphs Graphs => _graphs;

    internal nint Stream { get; }

    /// <inheritdoc/>
    public override GpuBuffer Allocate(long bytes, string what)
    {
        Outside();
        nint address = _arena.Allocate(bytes);
        if (address != 0) return new GpuBuffer(address, bytes);
        throw new GpuException(string.Create(CultureInfo.InvariantCulture,
            $"{Info.Id} ({Info.Name}) has no {bytes} bytes left for {what}: {UsedBytes} are taken, {FreeBytes} of {Info.TotalBytes} are free. Lower --gpu-memory-utilization, --max-model-len or --max-num-batched-tokens, or end what else uses the GPU (nvidia-smi shows it)."));
    }

    /// <inheritdoc/>
    public override void Free(GpuBuffer buffer)
    {
        if (_isDisposed || buffer.IsNone) return;
        Outside();
        // Queued kernels may still use it, and the arena gives it out again at once: the stream's order makes that safe for what
        // is queued later. What goes back to the driver waits there.
        _arena.Free(buffer.Handle);
    }

    /// <inheritdoc/>
    public override PinnedBuffer AllocatePinned(long bytes)
    {
        Outside();
        return new CudaPinnedBuffer(this, bytes);
    }

    /// <inheritdoc/>
    public override void Upload(GpuBuffer to, long offset, void* from, long bytes)
    {
        Outside();
        _staging.Send(to.Handle + (nint)offset, (byte*)from, bytes);
    }

    /// <inheritdoc/>
    public override void Download(void* to, GpuBuffer from, long offset, long bytes)
    {
        Outside();
        Check(CudaApi.cuMemcpyDtoHAsync_v2(to, from.Handle + (nint)offset, (nuint)bytes, Stream), "copy from");
        Check(CudaApi.cuStreamSynchronize(Stream), "run the kernels on");
    }

    /// <inheritdoc/>
    public override void Write(GpuBuffer to, long offset, PinnedBuffer from, long fromOffset, long bytes)
    {
        if (_graphs.IsRecording)
        {
            _graphs.Journal.ToDevice(to.Handle + (nint)offset, (nint)(from.Pointer + fromOffset), (nuint)bytes);
            return;
        }
        Enter();
        Check(CudaApi.cuMemcpyHtoDAsync_v2(to.Handle + (nint)offset, from.Pointer + fromOffset, (nuint)bytes, Stream), "copy to");
    }

    /// <inheritdoc/>
    public override void Read(PinnedBuffer to, long toOffset, GpuBuffer from, long offset, long bytes)
    {
        if (_graphs.IsRecording)
        {
            _graphs.Journal.ToHost((nint)(to.Pointer + toOffset), from.Handle + (nint)offset, (nuint)bytes);
            return;
        }
        Enter();
        Check(CudaApi.cuMemcpyDtoHAsync_v2(to.Pointer + toOffset, from.Handle + (nint)offset, (nuint)bytes, Stream), "copy from");
    }

    /// <inheritdoc/>
    public override void Clear(GpuBuffer buffer, long bytes)
    {
        if (_graphs.IsRecording)
        {
            _graphs.Journal.Clear(buffer.Handle, (nuint)bytes);
            return;
        }
        Enter();
        Check(CudaApi.cuMemsetD8Async(buffer.Handle, 0, (nuint)bytes, Stream), "clear memory of");
    }

    /// <inheritdoc/>
    public override GpuKernel Kernel(KernelSource source, string name)
    {
        Outside();
        return _modules.Kernel(source, name);
    }

    /// <inheritdoc/>
    public override int KernelCount => _modules.Count;

    /// <inheritdoc/>
    public override GpuEvent Record()
    {
        Outside();
        Check(CudaApi.cuEventRecord(_events[_marks % EventRing], Stream), "mark the queue of");
        return new GpuEvent(_marks++);
    }

    /// <inheritdoc/>
    public override void Wait(GpuEvent mark)
    {
        if (mark.Number < _marks - EventRing) throw new ArgumentException("Too many events were recorded since.", nameof(mark));
        Outside();
        Check(CudaApi.cuEventSynchronize(_events[mark.Number % EventRing]), "run the kernels on");
    }

    /// <inheritdoc/>
    public override void Finish()
    {
        Outside();
        Check(CudaApi.cuStreamSynchronize(Stream), "run the kernels on");
    }

    /// <inheritdoc/>
    public override void BeginGraph(long key)
    {
        Enter();
        _graphs.Begin(key);
    }

    /// <inheritdoc/>
    public override void DropGraph() => _graphs.Drop();

    /// <inheritdoc/>
    public override void EndGraph()
    {
        Enter();
        int error = _graphs.End();
        if (error != CudaApi.Success) Check(error, "run a graph on");
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_isDisposed) return;
        Enter();
        // Nothing is checked here: after a kernel's failure every call fails, and what holds memory is the process.
        _ = CudaApi.cuStreamSynchronize(Stream);
        _graphs.Dispose();
        _modules.Dispose();
        _staging.Dispose();
        foreach (CudaPinnedBuffer buffer in _pinned.ToArray()) buffer.Dispose();
        _isDisposed = true;
        foreach (nint mark in _events) _ = CudaApi.cuEventDestroy_v2(mark);
        _arena.Clear();
        _ = CudaApi.cuStreamDestroy_v2(Stream);
        t_current = null;
        _ = CudaApi.cuDevicePrimaryCtxRelease_v2(_device);
    }

    /// <summary>Queues a kernel, or writes it down for a graph.</summary>
    internal void Run(CudaKernel kernel, in CudaLaunch launch, ulong* values, void** pointers)
    {
        if (_graphs.IsRecording)
        {
            _graphs.Journal.Launch(launch, values);
            return;
        }
        Enter();
        int error = launch.Run(values, pointers, Stream);
        if (error != CudaApi.Success) Check(error, $"launch {kernel.Name} on");
    }

    internal void Check(int error, string what)
    {
        if (error == CudaApi.Success) return;
        string advice = error switch
        {
            CudaApi.OutOfMemory => " It ran out of memory: lower --gpu-memory-utilization, --max-model-len or --max-num-batched-tokens.",
            CudaApi.LaunchOutOfResources => " The kernel wants more registers or shared memory than a multiprocessor has: please report it with the GPU's name.",
            _ when CudaApi.IsSticky(error) =>
                " An earlier kernel failed and the device's context is lost with everything in it: restart the server; nvidia-smi and the kernel's log (Xid) tell whether the hardware is at fault.",
            _ => "",
        };
        throw new GpuException(string.Create(CultureInfo.InvariantCulture, $"Could not {what} {Info.Id} ({Info.Name}): {CudaApi.Describe(error)}.{advice}"));
    }

    /// <summary>Makes the context current on the calling thread.</summary>
    private void Enter()
    {
        if (t_current == this) return;
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        Check(CudaApi.cuCtxSetCurrent(_context), "use");
        t_current = this;
    }

    /// <summary>What waits or allocates is no part of a graph: the step goes on without one.</summary>
    private void Outside()
    {
        Enter();
        Check(_graphs.Flush(), "run the kernels on");
    }

    private sealed class CudaPinnedBuffer : PinnedBuffer
    {
        private readonly CudaContext _gpu;
        private byte* _pointer;

        public CudaPinnedBuffer(CudaContext gpu, long bytes) : base(bytes)
        {
            _gpu = gpu;
            void* pointer;
            gpu.Check(CudaApi.cuMemHostAlloc(&pointer, (nuint)bytes, CudaApi.MemHostAllocPortable), "take pinned host memory for");
            _pointer = (byte*)pointer;
            gpu._pinned.Add(this);
        }

        public override byte* Pointer => _pointer;

        public override void Dispose()
        {
            if (_pointer == null) return;
            _gpu.Outside();
            // A copy may still be on its way.
            _ = CudaApi.cuStreamSynchronize(_gpu.Stream);
            _ = CudaApi.cuMemFreeHost(_pointer);
            _gpu._pinned.Remove(this);
            _pointer = null;
        }
    }
}
