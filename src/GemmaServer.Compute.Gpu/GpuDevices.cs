using System.Globalization;

namespace GemmaServer.Compute;

/// <summary>Which GPUs are there, and the way to open one.</summary>
public static class GpuDevices
{
    /// <summary>Every device that a driver offers, CUDA's first.</summary>
    public static IReadOnlyList<GpuInfo> All() => [.. CudaDevices.All(), .. OpenClDevices.All().Select(static d => d.Info)];

    /// <summary>What is there in one line, for messages: "cpu, cuda:0 (NVIDIA H200, 139.8 GiB)".</summary>
    public static string Listing() => string.Join(", ", All().Select(Describe).Prepend("cpu"));

    /// <summary>"cuda:0 (NVIDIA H200, 139.8 GiB)".</summary>
    public static string Describe(GpuInfo info) =>
        string.Create(CultureInfo.InvariantCulture, $"{info.Id} ({info.Name}, {info.TotalBytes / (double)(1L << 30):0.0} GiB)");

    /// <summary>Why <c>auto</c> takes no CUDA device; null where it takes the first.</summary>
    public static string? CudaMissing() => DriverLibraries.IsReplaced(DriverLibraries.Cuda) ? "the CUDA driver is a stand-in" : CudaDevices.Missing();

    /// <summary>Opens a device and runs a kernel on it, so that a driver or compiler that is there but does not work tells now.</summary>
    /// <exception cref="GpuException">It does not work; the message says what failed.</exception>
    internal static GpuContext OpenTried(GpuApi api, int index)
    {
        GpuContext gpu = Open(api, index);
        try
        {
            Try(gpu);
            return gpu;
        }
        catch
        {
            gpu.Dispose();
            throw;
        }
    }

    /// <summary>The step's kernel, which every start needs, over a step without rows.</summary>
    internal static void Try(GpuContext gpu)
    {
        GpuBuffer zeros = gpu.Allocate(256, "a first kernel");
        gpu.Clear(zeros, zeros.Bytes);
        gpu.Kernel(new KernelSource("step.cl"), "resolve_tokens").Begin().Add(zeros).Add(zeros).Add(zeros).Add(zeros).Run(64, 1);
        gpu.Finish();
        gpu.Free(zeros);
    }

    /// <summary>Opens a device; nothing is on it yet but the driver's own.</summary>
    /// <exception cref="GpuException">It is not there or cannot be opened; the message lists what is.</exception>
    internal static GpuContext Open(GpuApi api, int index)
    {
        // Without a driver the contexts' own messages say what to install.
        IReadOnlyList<GpuInfo> all = All();
        if (all.Any(d => d.Api == api) && !all.Any(d => d.Api == api && d.Index == index))
            throw new GpuException(string.Create(CultureInfo.InvariantCulture, $"There is no {(api == GpuApi.Cuda ? "cuda" : "opencl")}:{index}. Here: {Listing()}."));
        return api == GpuApi.Cuda ? new CudaContext(index) : new OpenClContext(index);
    }
}
