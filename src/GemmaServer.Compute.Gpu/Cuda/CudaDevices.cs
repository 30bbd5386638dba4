using System.Globalization;
using System.Text;

namespace GemmaServer.Compute;

/// <summary>Looks for NVIDIA GPUs, in the driver's order.</summary>
internal static unsafe class CudaDevices
{
    /// <summary>Graphs are made by <c>cuGraphInstantiateWithFlags</c>, which came with 11.4.</summary>
    private const int OldestDriver = 11040;

    /// <summary>All devices; empty without a driver, without a device, or where the driver is too old: <see cref="Missing"/> says which.</summary>
    public static IReadOnlyList<GpuInfo> All() => Find().Devices;

    /// <summary>Why there is no device, and what to do about it; null where there is one.</summary>
    public static string? Missing() => Find().Missing;

    /// <summary>"12.4" of 12040.</summary>
    public static string Version(int number) => string.Create(CultureInfo.InvariantCulture, $"{number / 1000}.{number % 1000 / 10}");

    private static (IReadOnlyList<GpuInfo> Devices, string? Missing) Find()
    {
        if (!DriverLibraries.TryLoad(DriverLibraries.Cuda))
        {
            return ([], $"CUDA's driver is not installed: none of {DriverLibraries.Names(DriverLibraries.Cuda)} was found. Install NVIDIA's driver; start a container with --gpus all; or choose --device cpu.");
        }
        int version = 0, count = 0, error;
        try
        {
            error = CudaApi.cuInit(0);
            if (error == CudaApi.Success) error = CudaApi.cuDriverGetVersion(&version);
            if (error == CudaApi.Success && version < OldestDriver)
                return ([], $"NVIDIA's driver is too old: it knows CUDA {Version(version)}, and {Version(OldestDriver)} is needed. Update the driver.");
            if (error == CudaApi.Success) error = CudaApi.cuDeviceGetCount(&count);
        }
        catch (EntryPointNotFoundException e)
        {
            return ([], $"NVIDIA's driver is too old for this server ({e.Message}): update the driver.");
        }
        if (error != CudaApi.Success || count == 0) return ([], $"CUDA's driver offers no device: {Advice(error == CudaApi.Success ? CudaApi.NoDevice : error)}");
        GpuInfo[] devices = new GpuInfo[count];
        for (int i = 0; i < count; i++) devices[i] = Describe(i, version);
        return (devices, null);
    }

    private static string Advice(int error) => CudaApi.Describe(error) + ". " + error switch
    {
        CudaApi.NoDevice => "Is there an NVIDIA GPU, does CUDA_VISIBLE_DEVICES hide it, was the container started with --gpus all? nvidia-smi shows what the driver sees.",
        CudaApi.SystemDriverMismatch => "The library and the kernel module are of different versions: restart the machine after a driver's update.",
        CudaApi.CompatNotSupportedOnDevice => "The forward compatibility package does not support this GPU: remove it or update the driver.",
        CudaApi.StubLibrary => "The toolkit's stub was found in place of the driver: take its folder out of LD_LIBRARY_PATH.",
        _ => "nvidia-smi shows whether the driver works.",
    };

    private static GpuInfo Describe(int index, int version)
    {
        int device;
        Check(CudaApi.cuDeviceGet(&device, index), index);
        byte* name = stackalloc byte[256];
        Check(CudaApi.cuDeviceGetName(name, 256, device), index);
        nuint bytes;
        Check(CudaApi.cuDeviceTotalMem_v2(&bytes, device), index);
        int architecture = 10 * Attribute(device, CudaApi.ComputeCapabilityMajor) + Attribute(device, CudaApi.ComputeCapabilityMinor);
        int shared = Math.Max(Attribute(device, CudaApi.MaxSharedMemoryPerBlock), Attribute(device, CudaApi.MaxSharedMemoryPerBlockOptin));
        return new GpuInfo(
            GpuApi.Cuda, index, Encoding.UTF8.GetString(new ReadOnlySpan<byte>(name, 256).SliceAtNull()), $"CUDA driver {Version(version)}", (long)bytes, (long)bytes,
            shared, Attribute(device, CudaApi.MultiprocessorCount), Attribute(device, CudaApi.MaxThreadsPerBlock), architecture);
    }

    private static int Attribute(int device, int attribute)
    {
        int value;
        Check(CudaApi.cuDeviceGetAttribute(&value, attribute, device), device);
        return value;
    }

    private static ReadOnlySpan<byte> SliceAtNull(this ReadOnlySpan<byte> text) => text.IndexOf((byte)0) is >= 0 and int end ? text[..end] : text;

    private static void Check(int error, int index)
    {
        if (error != CudaApi.Success) throw new GpuException(string.Create(CultureInfo.InvariantCulture, $"Could not ask about cuda:{index}: {Advice(error)}"));
    }
}
