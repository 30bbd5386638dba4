using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace GemmaServer.Compute;

/// <summary>A kernel of a loaded module; its arguments stand in native memory, 8 bytes each.</summary>
internal sealed unsafe class CudaKernel : GpuKernel, IDisposable
{
    /// <summary>More than any kernel here takes.</summary>
    public const int MaxArguments = 48;

    /// <summary>What every kernel may have without asking.</summary>
    private const int SharedBytesWithoutAsking = 48 << 10;

    private readonly CudaContext _gpu;
    private readonly nint _function;
    private readonly int _parameters;
    private readonly ulong* _values;
    private readonly void** _pointers;
    private int _sharedBytes;

    /// <param name="gpu">Its context.</param>
    /// <param name="function">The driver's handle.</param>
    /// <param name="name">As in the source.</param>
    /// <param name="source">To count its parameters: the driver does not tell, and one too few would be read from wherever.</param>
    public CudaKernel(CudaContext gpu, nint function, string name, string source) : base(name)
    {
        (_gpu, _function, _parameters) = (gpu, function, Parameters(source, name));
        int shared;
        gpu.Check(CudaApi.cuFuncGetAttribute(&shared, CudaApi.FunctionSharedSizeBytes, function), "ask about a kernel of");
        // What the kernel declares counts too.
        _sharedBytes = SharedBytesWithoutAsking - shared;
        _values = (ulong*)NativeMemory.AllocZeroed(MaxArguments, sizeof(ulong) + (nuint)sizeof(void*));
        _pointers = (void**)(_values + MaxArguments);
    }

    public override void Set(int index, GpuBuffer buffer) => Place(index) = (ulong)buffer.Handle;

    public override void Set(int index, int value) => Place(index) = (uint)value;

    public override void Set(int index, float value) => Place(index) = BitConverter.SingleToUInt32Bits(value);

    public override void Launch(int x, int y, int z, int groupSize, int arguments, int sharedBytes)
    {
        if (arguments != _parameters && _parameters >= 0) throw new ArgumentException($"Kernel {Name} takes {_parameters} arguments, not {arguments}.");
        if (sharedBytes > _sharedBytes) AskForShared(sharedBytes);
        CudaLaunch launch = new() { Function = _function, X = x, Y = y, Z = z, GroupSize = groupSize, SharedBytes = sharedBytes, Arguments = arguments };
        _gpu.Run(this, launch, _values, _pointers);
    }

    public void Dispose() => NativeMemory.Free(_values);

    /// <summary>How many parameters a kernel has; −1 where the text does not show it, because a macro makes it.</summary>
    internal static int Parameters(string source, string name)
    {
        Match match = Regex.Match(source, $@"\bKERNEL\s*\([^)]*\)\s*{Regex.Escape(name)}\s*\(([^(){{}};]*)\)\s*\{{");
        if (!match.Success) return -1;
        string list = match.Groups[1].Value.Trim();
        return list.Length == 0 ? 0 : list.Count(static c => c == ',') + 1;
    }

    private ref ulong Place(int index)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)MaxArguments);
        return ref _values[index];
    }

    private void AskForShared(int bytes)
    {
        if (bytes > _gpu.Info.LocalBytes)
        {
            throw new GpuException(string.Create(CultureInfo.InvariantCulture,
                $"Kernel {Name} asks for {bytes} bytes of shared memory, and {_gpu.Info.Id} ({_gpu.Info.Name}) gives a group {_gpu.Info.LocalBytes}."));
        }
        _gpu.Check(CudaApi.cuFuncSetAttribute(_function, CudaApi.FunctionMaxDynamicSharedSizeBytes, bytes), $"give {Name} shared memory on");
        _sharedBytes = bytes;
    }
}
