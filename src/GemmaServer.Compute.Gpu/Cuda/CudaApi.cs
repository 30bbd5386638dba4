using System.Globalization;
using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>The functions of the CUDA driver API that are used, under the names the library exports, versions included.</summary>
/// <remarks>Signatures and values are cuda.h's; a device address is 64 bits, handles are pointers.</remarks>
internal static unsafe partial class CudaApi
{
    private const string Library = DriverLibraries.Cuda;

    public const int
        Success = 0, InvalidValue = 1, OutOfMemory = 2, NotInitialized = 3, Deinitialized = 4, StubLibrary = 34, NoDevice = 100,
        InvalidImage = 200, NoBinaryForGpu = 209, EccUncorrectable = 214, InvalidPtx = 218, UnsupportedPtxVersion = 222, IllegalAddress = 700,
        LaunchOutOfResources = 701, LaunchTimeout = 702, Assert = 710, HardwareStackError = 714, InvalidPc = 718, LaunchFailed = 719,
        SystemDriverMismatch = 803, CompatNotSupportedOnDevice = 804, Unknown = 999;

    // CUdevice_attribute
    public const int
        MaxThreadsPerBlock = 1, MaxSharedMemoryPerBlock = 8, WarpSize = 10, MultiprocessorCount = 16, ComputeCapabilityMajor = 75,
        ComputeCapabilityMinor = 76, MaxSharedMemoryPerBlockOptin = 97;

    // CUfunction_attribute
    public const int FunctionSharedSizeBytes = 1, FunctionLocalSizeBytes = 3, FunctionRegisters = 4, FunctionMaxDynamicSharedSizeBytes = 8;

    // CUjit_option
    public const int JitErrorLogBuffer = 5, JitErrorLogBufferSizeBytes = 6;

    public const uint StreamNonBlocking = 1, EventDisableTiming = 2, MemHostAllocPortable = 1;
    public const int StreamCaptureModeThreadLocal = 1;

    [LibraryImport(Library)]
    public static partial int cuInit(uint flags);

    [LibraryImport(Library)]
    public static partial int cuDriverGetVersion(int* version);

    [LibraryImport(Library)]
    public static partial int cuGetErrorName(int error, byte** name);

    [LibraryImport(Library)]
    public static partial int cuGetErrorString(int error, byte** text);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetCount(int* count);

    [LibraryImport(Library)]
    public static partial int cuDeviceGet(int* device, int ordinal);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetName(byte* name, int length, int device);

    [LibraryImport(Library)]
    public static partial int cuDeviceTotalMem_v2(nuint* bytes, int device);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetAttribute(int* value, int attribute, int device);

    [LibraryImport(Library)]
    public static partial int cuDevicePrimaryCtxRetain(nint* context, int device);

    [LibraryImport(Library)]
    public static partial int cuDevicePrimaryCtxRelease_v2(int device);

    [LibraryImport(Library)]
    public static partial int cuCtxSetCurrent(nint context);

    [LibraryImport(Library)]
    public static partial int cuMemGetInfo_v2(nuint* free, nuint* total);

    [LibraryImport(Library)]
    public static partial int cuMemAlloc_v2(nint* address, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cuMemFree_v2(nint address);

    [LibraryImport(Library)]
    public static partial int cuMemHostAlloc(void** pointer, nuint bytes, uint flags);

    [LibraryImport(Library)]
    public static partial int cuMemFreeHost(void* pointer);

    [LibraryImport(Library)]
    public static partial int cuMemcpyHtoDAsync_v2(nint to, void* from, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial int cuMemcpyDtoHAsync_v2(void* to, nint from, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial int cuMemcpyDtoDAsync_v2(nint to, nint from, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial int cuMemsetD8Async(nint to, byte value, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial int cuStreamCreate(nint* stream, uint flags);

    [LibraryImport(Library)]
    public static partial int cuStreamDestroy_v2(nint stream);

    [LibraryImport(Library)]
    public static partial int cuStreamSynchronize(nint stream);

    [LibraryImport(Library)]
    public static partial int cuEventCreate(nint* mark, uint flags);

    [LibraryImport(Library)]
    public static partial int cuEventRecord(nint mark, nint stream);

    [LibraryImport(Library)]
    public static partial int cuEventSynchronize(nint mark);

    [LibraryImport(Library)]
    public static partial int cuEventDestroy_v2(nint mark);

    [LibraryImport(Library)]
    public static partial int cuModuleLoadDataEx(nint* module, void* image, uint count, int* options, void** values);

    [LibraryImport(Library)]
    public static partial int cuModuleUnload(nint module);

    [LibraryImport(Library)]
    public static partial int cuModuleGetFunction(nint* function, nint module, byte* name);

    [LibraryImport(Library)]
    public static partial int cuFuncGetAttribute(int* value, int attribute, nint function);

    [LibraryImport(Library)]
    public static partial int cuFuncSetAttribute(nint function, int attribute, int value);

    [LibraryImport(Library)]
    public static partial int cuLaunchKernel(
        nint function, uint gridX, uint gridY, uint gridZ, uint blockX, uint blockY, uint blockZ, uint sharedBytes, nint stream, void** arguments, void** extra);

    [LibraryImport(Library)]
    public static partial int cuStreamBeginCapture_v2(nint stream, int mode);

    [LibraryImport(Library)]
    public static partial int cuStreamEndCapture(nint stream, nint* graph);

    [LibraryImport(Library)]
    public static partial int cuGraphInstantiateWithFlags(nint* executable, nint graph, ulong flags);

    [LibraryImport(Library)]
    public static partial int cuGraphLaunch(nint executable, nint stream);

    [LibraryImport(Library)]
    public static partial int cuGraphDestroy(nint graph);

    [LibraryImport(Library)]
    public static partial int cuGraphExecDestroy(nint executable);

    /// <summary>An error's name and text, as the driver gives them: "CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected".</summary>
    public static string Describe(int error)
    {
        byte* name = null, text = null;
        _ = cuGetErrorName(error, &name);
        _ = cuGetErrorString(error, &text);
        return string.Create(CultureInfo.InvariantCulture,
            $"{Marshal.PtrToStringUTF8((nint)name) ?? "an error that this driver has no name for"} ({error}): {Marshal.PtrToStringUTF8((nint)text) ?? "no text"}");
    }

    /// <summary>Whether every later call fails too: the context is lost with everything in it.</summary>
    public static bool IsSticky(int error) =>
        error is EccUncorrectable or IllegalAddress or LaunchTimeout or Assert or (>= HardwareStackError and <= LaunchFailed) or Unknown;
}
