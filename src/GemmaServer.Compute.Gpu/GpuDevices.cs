using System.Globalization;

namespace GemmaServer.Compute;

/// <summary>Which GPUs are there, and the way to open one.</summary>
public static class GpuDevices
{
    /// <summary>Every device that a driver offers, CUDA's first.</summary>
    public static IReadOnlyList<GpuInfo> All() => [.. Cuda(), .. OpenClDevices.All().Select(static d => d.Info)];

    /// <summary>What is there in one line, for messages: "cpu, cuda:0 (NVIDIA H200, 139.8 GiB)".</summary>
    public static string Listing() => string.Join(", ", All().Select(Describe).Prepend("cpu"));

    /// <summary>"cuda:0 (NVIDIA H200, 139.8 GiB)".</summary>
    public static string Describe(GpuInfo info) =>
        string.Create(CultureInfo.InvariantCulture, $"{info.Id} ({info.Name}, {info.TotalBytes / (double)(1L << 30):0.0} GiB)");

    /// <summary>Why no CUDA device can be used; null where one can.</summary>
    public static string? CudaMissing()
    {
        if (!DriverLibraries.TryLoad(DriverLibraries.Cuda)) return $"there is no NVIDIA driver ({DriverLibraries.Names(DriverLibraries.Cuda)})";
        if (!DriverLibraries.TryLoad(DriverLibraries.Nvrtc))
            return $"the kernel compiler NVRTC is missing (one of {DriverLibraries.Names(DriverLibraries.Nvrtc)}; part of the CUDA toolkit, or pip's nvidia-cuda-nvrtc)";
        try
        {
            return Cuda().Count > 0 ? null : "the NVIDIA driver shows no device";
        }
        catch (GpuException e)
        {
            return e.Message;
        }
    }

    /// <summary>Opens a device; nothing is on it yet but the driver's own.</summary>
    /// <exception cref="GpuException">It is not there or cannot be opened; the message lists what is.</exception>
    internal static GpuContext Open(GpuApi api, int index)
    {
        IReadOnlyList<GpuInfo> all = All();
        if (api == GpuApi.Cuda && CudaMissing() is { } missing) throw new GpuException($"cuda:{index} cannot be used: {missing}. Here: {Listing()}.");
        if (all.Count > 0 && !all.Any(d => d.Api == api && d.Index == index))
            throw new GpuException(string.Create(CultureInfo.InvariantCulture, $"There is no {(api == GpuApi.Cuda ? "cuda" : "opencl")}:{index}. Here: {Listing()}."));
        // Without any device the context's own message says which driver to install.
        return api == GpuApi.Cuda ? OpenCuda(index) : new OpenClContext(index);
    }

    private static IReadOnlyList<GpuInfo> Cuda() => [];

    private static GpuContext OpenCuda(int index) => throw new GpuException($"cuda:{index} is not there.");
}
