using System.Globalization;
using System.Text;

namespace GemmaServer.Compute;

/// <summary>A device through OpenCL: one in-order queue.</summary>
internal sealed unsafe class OpenClContext : GpuContext
{
    private readonly nint _device, _context, _queue;
    private readonly KernelCache _cache;
    private readonly Dictionary<string, nint> _programs = [];
    private readonly Dictionary<(string Program, string Name), OpenClKernel> _kernels = [];
    private readonly MemoryArena _arena;
    private readonly nint[] _events = new nint[EventRing];
    private long _marks;
    private bool _isDisposed;

    /// <summary>Opens a device.</summary>
    /// <param name="index">Place in <see cref="OpenClDevices.All"/>.</param>
    /// <param name="cache">Where compiled programs are kept.</param>
    /// <param name="slabBytes">Slabs of the arena; 0: each buffer is the driver's own, so that a tool sees its bounds.</param>
    /// <exception cref="GpuException">There is no such device, or it cannot be opened.</exception>
    public OpenClContext(int index, KernelCache? cache = null, long slabBytes = MemoryArena.DefaultSlabBytes)
    {
        IReadOnlyList<OpenClDevices.Found> devices = OpenClDevices.All();
        if (devices.Count == 0)
        {
            throw new GpuException(DriverLibraries.TryLoad(DriverLibraries.OpenCl)
                ? "OpenCL is installed, but no driver offers a device. Install the vendor's driver (Debian: pocl-opencl-icd runs on the processor)."
                : $"OpenCL is not installed: none of {DriverLibraries.Names(DriverLibraries.OpenCl)} was found. Install the vendor's driver, or choose --device cpu.");
        }
        if (index >= devices.Count)
        {
            throw new GpuException(string.Create(CultureInfo.InvariantCulture,
                $"There is no opencl:{index}; found {string.Join(", ", devices.Select(static d => $"{d.Info.Id} ({d.Info.Name})"))}."));
        }
        OpenClDevices.Found found = devices[index];
        Info = found.Info;
        // That driver keeps a cache of its own, by group size; a program taken back from its binary would not be in it.
        _cache = found.CachesBinaries ? new KernelCache(null) : cache ?? KernelCache.Default();
        nint device = _device = found.Device;
        int error;
        _context = OpenClApi.clCreateContext(null, 1, &device, null, null, &error);
        Check(error, "open");
        _queue = OpenClApi.clCreateCommandQueue(_context, device, 0, &error);
        Check(error, "make a queue on");
        _arena = new MemoryArena(new OpenClMemory(this, _context), Math.Min(slabBytes, Info.LargestBuffer), found.Alignment);
    }

    /// <inheritdoc/>
    public override GpuInfo Info { get; }

    /// <inheritdoc/>
    public override long FreeBytes => Info.TotalBytes - UsedBytes;

    /// <inheritdoc/>
    public override long UsedBytes => _arena.UsedBytes;

    /// <inheritdoc/>
    public override GpuBuffer Allocate(long bytes, string what)
    {
        if (bytes > Info.LargestBuffer)
        {
            throw new GpuException(string.Create(CultureInfo.InvariantCulture,
                $"{Info.Id} gives no buffer of more than {Info.LargestBuffer} bytes, and {what} need one of {bytes}."));
        }
        nint piece = _arena.Allocate(bytes);
        return piece != 0 ? new GpuBuffer(piece, bytes) : throw NoMemory(what, bytes);
    }

    /// <inheritdoc/>
    public override void Free(GpuBuffer buffer)
    {
        // Queued kernels may still use it, and the arena gives it out again at once: the queue's order makes that safe.
        if (!_isDisposed && !buffer.IsNone) _arena.Free(buffer.Handle);
    }

    /// <inheritdoc/>
    public override PinnedBuffer AllocatePinned(long bytes) => new MappedBuffer(this, bytes);

    /// <inheritdoc/>
    public override void Upload(GpuBuffer to, long offset, void* from, long bytes) =>
        Check(OpenClApi.clEnqueueWriteBuffer(_queue, to.Handle, 1, (nuint)offset, (nuint)bytes, from, 0, null, null), "copy to");

    /// <inheritdoc/>
    public override void Download(void* to, GpuBuffer from, long offset, long bytes) =>
        Check(OpenClApi.clEnqueueReadBuffer(_queue, from.Handle, 1, (nuint)offset, (nuint)bytes, to, 0, null, null), "copy from");

    /// <inheritdoc/>
    public override void Write(GpuBuffer to, long offset, PinnedBuffer from, long fromOffset, long bytes) =>
        Check(OpenClApi.clEnqueueWriteBuffer(_queue, to.Handle, 0, (nuint)offset, (nuint)bytes, from.Pointer + fromOffset, 0, null, null), "copy to");

    /// <inheritdoc/>
    public override void Read(PinnedBuffer to, long toOffset, GpuBuffer from, long offset, long bytes) =>
        Check(OpenClApi.clEnqueueReadBuffer(_queue, from.Handle, 0, (nuint)offset, (nuint)bytes, to.Pointer + toOffset, 0, null, null), "copy from");

    /// <inheritdoc/>
    public override void Clear(GpuBuffer buffer, long bytes)
    {
        byte zero = 0;
        Check(OpenClApi.clEnqueueFillBuffer(_queue, buffer.Handle, &zero, 1, 0, (nuint)bytes, 0, null, null), "clear memory of");
    }

    /// <inheritdoc/>
    public override GpuKernel Kernel(KernelSource source, string name)
    {
        string text = source.Text(GpuApi.OpenCl);
        if (_kernels.TryGetValue((text, name), out OpenClKernel? kernel)) return kernel;
        if (!_programs.TryGetValue(text, out nint program)) _programs.Add(text, program = Program(source.File, text));
        int error;
        nint handle;
        fixed (byte* utf8 = Encoding.UTF8.GetBytes(name + '\0')) handle = OpenClApi.clCreateKernel(program, utf8, &error);
        Check(error, $"find kernel {name} of {source.File} for");
        return _kernels[(text, name)] = new OpenClKernel(this, handle, name);
    }

    /// <inheritdoc/>
    public override int KernelCount => _kernels.Count;

    /// <inheritdoc/>
    public override GpuEvent Record()
    {
        int place = (int)(_marks % EventRing);
        if (_events[place] != 0) Check(OpenClApi.clReleaseEvent(_events[place]), "release an event of");
        nint mark;
        Check(OpenClApi.clEnqueueMarkerWithWaitList(_queue, 0, null, &mark), "mark the queue of");
        _events[place] = mark;
        Check(OpenClApi.clFlush(_queue), "start the queue of");
        return new GpuEvent(_marks++);
    }

    /// <inheritdoc/>
    public override void Wait(GpuEvent mark)
    {
        if (mark.Number < _marks - EventRing) throw new ArgumentException("Too many events were recorded since.", nameof(mark));
        nint handle = _events[mark.Number % EventRing];
        Check(OpenClApi.clWaitForEvents(1, &handle), "run the kernels on");
    }

    /// <inheritdoc/>
    public override void Finish() => Check(OpenClApi.clFinish(_queue), "run the kernels on");

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_isDisposed) return;
        _isDisposed = true;
        _ = OpenClApi.clFinish(_queue);
        foreach (nint mark in _events)
            if (mark != 0) _ = OpenClApi.clReleaseEvent(mark);
        foreach (OpenClKernel kernel in _kernels.Values) _ = OpenClApi.clReleaseKernel(kernel.Handle);
        foreach (nint program in _programs.Values) _ = OpenClApi.clReleaseProgram(program);
        _arena.Clear();
        _ = OpenClApi.clReleaseCommandQueue(_queue);
        _ = OpenClApi.clReleaseContext(_context);
    }

    internal void Check(int error, string what)
    {
        if (error == OpenClApi.Success) return;
        string advice = error switch
        {
            _ when OpenClApi.IsOutOfMemory(error) => " It ran out of memory: lower --gpu-memory-utilization, --max-model-len or --max-num-batched-tokens.",
            -14 => " A kernel failed on the device; restart the server, and look for the driver's own messages.",
            _ => "",
        };
        throw new GpuException(string.Create(CultureInfo.InvariantCulture, $"Could not {what} {Info.Id} ({Info.Name}): {OpenClApi.ErrorName(error)} ({error}).{advice}"));
    }

    private GpuException NoMemory(string what, long bytes) => new(string.Create(CultureInfo.InvariantCulture,
        $"{Info.Id} ({Info.Name}) has no {bytes} bytes left for {what}: {UsedBytes} of {Info.TotalBytes} are taken. Lower --gpu-memory-utilization, --max-model-len or --max-num-batched-tokens."));

    private nint Program(string file, string text)
    {
        const string Options = "-cl-std=CL1.2";
        string key = KernelCache.Key("opencl", text, Options, Info.Name, Info.Driver);
        nint device = _device;
        int error;
        if (_cache.Read(key) is { Length: > 0 } binary)
        {
            nint cached;
            fixed (byte* bytes = binary)
            {
                byte* p = bytes;
                nuint length = (nuint)binary.Length;
                int status;
                cached = OpenClApi.clCreateProgramWithBinary(_context, 1, &device, &length, &p, &status, &error);
            }
            if (error == OpenClApi.Success && OpenClApi.clBuildProgram(cached, 1, &device, null, null, null) == OpenClApi.Success) return cached;
            if (cached != 0) _ = OpenClApi.clReleaseProgram(cached);
            _cache.Remove(key);
        }

        nint program;
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        fixed (byte* source = utf8)
        {
            byte* p = source;
            nuint length = (nuint)utf8.Length;
            program = OpenClApi.clCreateProgramWithSource(_context, 1, &p, &length, &error);
        }
        Check(error, $"hand {file} to");
        fixed (byte* options = Encoding.UTF8.GetBytes(Options + '\0')) error = OpenClApi.clBuildProgram(program, 1, &device, options, null, null);
        if (error != OpenClApi.Success) throw new GpuException($"{file} does not compile for {Info.Id} ({Info.Name}, {Info.Driver}): {BuildLog(program)}");
        if (_cache.Keeps) Store(program, key);
        return program;
    }

    private string BuildLog(nint program)
    {
        nuint size = 0;
        if (OpenClApi.clGetProgramBuildInfo(program, _device, OpenClApi.ProgramBuildLog, 0, null, &size) != OpenClApi.Success) return "(no log)";
        byte[] log = new byte[size];
        fixed (byte* p = log) _ = OpenClApi.clGetProgramBuildInfo(program, _device, OpenClApi.ProgramBuildLog, size, p, null);
        return Encoding.UTF8.GetString(log).TrimEnd('\0').Trim();
    }

    private void Store(nint program, string key)
    {
        nuint size = 0;
        if (OpenClApi.clGetProgramInfo(program, OpenClApi.ProgramBinarySizes, (nuint)sizeof(nuint), &size, null) != OpenClApi.Success || size == 0) return;
        byte[] binary = new byte[size];
        fixed (byte* bytes = binary)
        {
            byte* p = bytes;
            if (OpenClApi.clGetProgramInfo(program, OpenClApi.ProgramBinaries, (nuint)sizeof(byte*), &p, null) == OpenClApi.Success) _cache.Write(key, binary);
        }
    }

    /// <summary>A kernel object: it keeps its arguments between launches.</summary>
    private sealed class OpenClKernel : GpuKernel
    {
        private readonly OpenClContext _gpu;
        private readonly uint _arguments;

        public OpenClKernel(OpenClContext gpu, nint handle, string name) : base(name)
        {
            (_gpu, Handle) = (gpu, handle);
            uint count;
            gpu.Check(OpenClApi.clGetKernelInfo(handle, OpenClApi.KernelNumArgs, sizeof(uint), &count, null), $"ask about kernel {name} on");
            _arguments = count;
        }

        public nint Handle { get; }

        public override void Set(int index, GpuBuffer buffer)
        {
            nint handle = buffer.Handle;
            Check(OpenClApi.clSetKernelArg(Handle, (uint)index, (nuint)sizeof(nint), &handle));
        }

        public override void Set(int index, int value) => Check(OpenClApi.clSetKernelArg(Handle, (uint)index, sizeof(int), &value));

        public override void Set(int index, float value) => Check(OpenClApi.clSetKernelArg(Handle, (uint)index, sizeof(float), &value));

        public override void Launch(int x, int y, int z, int groupSize, int arguments, int sharedBytes)
        {
            if (sharedBytes != 0) throw new ArgumentException($"Kernel {Name} was given dynamic shared memory, which is CUDA's alone.");
            if (arguments != _arguments) throw new ArgumentException($"Kernel {Name} takes {_arguments} arguments, not {arguments}.");
            nuint* global = stackalloc nuint[3], local = stackalloc nuint[3];
            (global[0], global[1], global[2]) = ((nuint)x * (nuint)groupSize, (nuint)y, (nuint)z);
            (local[0], local[1], local[2]) = ((nuint)groupSize, 1, 1);
            Check(OpenClApi.clEnqueueNDRangeKernel(_gpu._queue, Handle, 3, null, global, local, 0, null, null));
        }

        private void Check(int error)
        {
            if (error != OpenClApi.Success) _gpu.Check(error, $"launch {Name} on");
        }
    }

    /// <summary>Memory that the driver allocated for copies, mapped for as long as it lives.</summary>
    private sealed class MappedBuffer : PinnedBuffer
    {
        private readonly OpenClContext _gpu;
        private readonly nint _buffer;
        private byte* _mapped;

        public MappedBuffer(OpenClContext gpu, long bytes) : base(bytes)
        {
            _gpu = gpu;
            int error;
            _buffer = OpenClApi.clCreateBuffer(gpu._context, OpenClApi.MemReadWrite | OpenClApi.MemAllocHostPtr, (nuint)bytes, null, &error);
            if (OpenClApi.IsOutOfMemory(error)) throw gpu.NoMemory("staging", bytes);
            gpu.Check(error, "take staging memory of");
            _mapped = (byte*)OpenClApi.clEnqueueMapBuffer(
                gpu._queue, _buffer, 1, OpenClApi.MapRead | OpenClApi.MapWrite, 0, (nuint)bytes, 0, null, null, &error);
            gpu.Check(error, "map staging memory of");
        }

        public override byte* Pointer => _mapped;

        public override void Dispose()
        {
            if (_mapped == null || _gpu._isDisposed) return;
            _ = OpenClApi.clEnqueueUnmapMemObject(_gpu._queue, _buffer, _mapped, 0, null, null);
            _ = OpenClApi.clReleaseMemObject(_buffer);
            _mapped = null;
        }
    }
}
