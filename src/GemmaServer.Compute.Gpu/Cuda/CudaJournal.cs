using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>
/// Commands in the order they were given, arguments included, in native memory: what a graph is made of, and what it is held
/// against when it is run again.
/// </summary>
internal sealed unsafe class CudaJournal : IDisposable
{
    private byte* _bytes;
    private nuint _capacity, _length;

    // Eight bytes, so that a command has no padding: journals are compared byte for byte.
    private enum Kind : long
    {
        Launch,
        ToDevice,
        ToHost,
        Clear,
    }

    public int Count { get; private set; }

    public void Reset() => (Count, _length) = (0, 0);

    public void Launch(in CudaLaunch launch, ulong* arguments)
    {
        ulong* at = Add(new Command { Kind = Kind.Launch, Launch = launch }, launch.Arguments);
        for (int i = 0; i < launch.Arguments; i++) at[i] = arguments[i];
    }

    public void ToDevice(nint to, nint from, nuint bytes) => Add(new Command { Kind = Kind.ToDevice, To = to, From = from, Bytes = bytes }, 0);

    public void ToHost(nint to, nint from, nuint bytes) => Add(new Command { Kind = Kind.ToHost, To = to, From = from, Bytes = bytes }, 0);

    public void Clear(nint to, nuint bytes) => Add(new Command { Kind = Kind.Clear, To = to, Bytes = bytes }, 0);

    /// <summary>Whether both say the same, byte for byte.</summary>
    public bool IsSameAs(CudaJournal other) =>
        new ReadOnlySpan<byte>(_bytes, checked((int)_length)).SequenceEqual(new ReadOnlySpan<byte>(other._bytes, checked((int)other._length)));

    /// <summary>Gives the commands to a stream; stops at the first that is refused.</summary>
    public int Play(nint stream)
    {
        void** arguments = stackalloc void*[CudaKernel.MaxArguments];
        byte* at = _bytes;
        for (int i = 0; i < Count; i++)
        {
            Command* c = (Command*)at;
            at += sizeof(Command);
            ulong* values = (ulong*)at;
            int error = c->Kind switch
            {
                Kind.ToDevice => CudaApi.cuMemcpyHtoDAsync_v2(c->To, (void*)c->From, c->Bytes, stream),
                Kind.ToHost => CudaApi.cuMemcpyDtoHAsync_v2((void*)c->To, c->From, c->Bytes, stream),
                Kind.Clear => CudaApi.cuMemsetD8Async(c->To, 0, c->Bytes, stream),
                _ => c->Launch.Run(values, arguments, stream),
            };
            if (error != CudaApi.Success) return error;
            at += c->Launch.Arguments * sizeof(ulong);
        }
        return CudaApi.Success;
    }

    public void Dispose()
    {
        NativeMemory.Free(_bytes);
        _bytes = null;
        (Count, _capacity, _length) = (0, 0, 0);
    }

    private ulong* Add(in Command command, int arguments)
    {
        nuint needed = _length + (nuint)(sizeof(Command) + arguments * sizeof(ulong));
        if (needed > _capacity)
        {
            _capacity = nuint.Max(2 * needed, 1 << 14);
            _bytes = (byte*)NativeMemory.Realloc(_bytes, _capacity);
        }
        *(Command*)(_bytes + _length) = command;
        ulong* values = (ulong*)(_bytes + _length + sizeof(Command));
        _length = needed;
        Count++;
        return values;
    }

    private struct Command
    {
        public nint To, From;
        public nuint Bytes;
        public CudaLaunch Launch;
        public Kind Kind;
    }
}

/// <summary>A kernel, its grid and the memory it asks for; its arguments lie elsewhere.</summary>
internal struct CudaLaunch
{
    public nint Function;
    public int X, Y, Z, GroupSize, SharedBytes, Arguments;

    /// <summary>Queues it.</summary>
    /// <param name="values">The arguments, 8 bytes each.</param>
    /// <param name="pointers">Room for as many pointers.</param>
    /// <param name="stream">Where.</param>
    public readonly unsafe int Run(ulong* values, void** pointers, nint stream)
    {
        for (int i = 0; i < Arguments; i++) pointers[i] = values + i;
        return CudaApi.cuLaunchKernel(Function, (uint)X, (uint)Y, (uint)Z, (uint)GroupSize, 1, 1, (uint)SharedBytes, stream, pointers, null);
    }
}
