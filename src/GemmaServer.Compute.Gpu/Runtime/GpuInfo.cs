using System.Globalization;

namespace GemmaServer.Compute;

/// <summary>The runtimes that kernels go through.</summary>
public enum GpuApi
{
    /// <summary>CUDA driver API, kernels compiled by NVRTC.</summary>
    Cuda,

    /// <summary>OpenCL 1.2 or later, kernels compiled by the driver.</summary>
    OpenCl,
}

/// <summary>What a driver tells of a device.</summary>
/// <param name="Api">The runtime.</param>
/// <param name="Index">Place among the runtime's devices: <c>cuda:1</c>.</param>
/// <param name="Name">The vendor's name of it.</param>
/// <param name="Driver">Driver and version: part of the module cache's key.</param>
/// <param name="TotalBytes">Its memory.</param>
/// <param name="LargestBuffer">Bytes that one allocation may have.</param>
/// <param name="LocalBytes">Local (shared) memory of a group.</param>
/// <param name="Units">Multiprocessors, compute units.</param>
/// <param name="LargestGroup">Work items in a group.</param>
/// <param name="Architecture">CUDA: compute capability as 80, 90; 0 elsewhere.</param>
public sealed record GpuInfo(
    GpuApi Api, int Index, string Name, string Driver, long TotalBytes, long LargestBuffer, int LocalBytes, int Units, int LargestGroup, int Architecture)
{
    /// <summary>Whether its memory is the machine's: a processor's own driver.</summary>
    public bool SharesHostMemory { get; init; }

    /// <summary>As the user names it: "cuda:0".</summary>
    public string Id => string.Create(CultureInfo.InvariantCulture, $"{(Api == GpuApi.Cuda ? "cuda" : "opencl")}:{Index}");
}
