using System.Globalization;
using GemmaServer.Compute;

namespace GemmaServer;

/// <summary>Kinds of devices.</summary>
internal enum DeviceKind
{
    /// <summary>The first CUDA device that can be used, else the processor.</summary>
    Auto,

    /// <summary>The processor.</summary>
    Cpu,

    /// <summary>An NVIDIA GPU through the CUDA driver.</summary>
    Cuda,

    /// <summary>Any vendor's device through OpenCL; only when asked for.</summary>
    OpenCl,

    /// <summary>The kernels in C#, in builds that have them.</summary>
    Ilgpu,
}

/// <summary>A device as the user names it: <c>auto</c>, <c>cpu</c>, <c>cuda</c>, <c>cuda:1</c>, <c>opencl</c>, <c>opencl:1</c>, <c>ilgpu:cuda</c>.</summary>
/// <param name="Kind">What comes before the colon.</param>
/// <param name="Index">Place among its kind.</param>
/// <param name="Variant">ILGPU's accelerator: what comes after its colon; empty elsewhere.</param>
internal readonly record struct DeviceName(DeviceKind Kind, int Index = 0, string Variant = "")
{
    /// <summary>Reads a name.</summary>
    /// <returns>False when it is none.</returns>
    public static bool TryParse(string text, out DeviceName name)
    {
        name = default;
        string[] parts = text.Trim().ToLowerInvariant().Split(':', 2);
        DeviceKind? kind = parts[0] switch
        {
            "auto" => DeviceKind.Auto,
            "cpu" => DeviceKind.Cpu,
            "cuda" => DeviceKind.Cuda,
            "opencl" => DeviceKind.OpenCl,
            "ilgpu" => DeviceKind.Ilgpu,
            _ => null,
        };
        if (kind is not { } known) return false;
        name = new DeviceName(known);
        if (parts.Length == 1) return true;
        if (known == DeviceKind.Ilgpu)
        {
            name = name with { Variant = parts[1] };
            return parts[1].Length > 0;
        }
        bool isNumber = int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int index);
        name = name with { Index = index };
        return isNumber && known is DeviceKind.Cuda or DeviceKind.OpenCl;
    }

    /// <summary>What is wrong with a name; null when nothing is. Whether the device is there shows when it is opened.</summary>
    public static string? Mistake(string text) =>
        TryParse(text, out _) ? null : $"'{text}' names no device; write auto, cpu, cuda, cuda:N, opencl, opencl:N or ilgpu. Here: {GpuDevices.Listing()}";
}
