using System.Reflection;
using System.Runtime.InteropServices;
using ILGPU;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>
/// Finds the drivers for ILGPU. It imports "cuda" and "OpenCL", which the loader takes for libcuda.so and libOpenCL.so: links
/// that only development packages bring. Without them it reports no devices and no error.
/// </summary>
internal static class IlgpuLibraries
{
    // Where NVIDIA's container runtime, its CUDA images, WSL and Kubernetes device plugins put them.
    private static readonly string[] s_folders =
        ["", "/usr/local/nvidia/lib64", "/usr/local/cuda/lib64", "/usr/local/cuda/compat", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib"];

    private static readonly Lock s_lock = new();
    private static bool s_isRegistered;

    /// <summary>Versioned names of what ILGPU imports; empty for names that are left to the loader.</summary>
    internal static string[] Candidates(string import) => import switch
    {
        "cuda" => ["libcuda.so.1"],
        "OpenCL" => ["libOpenCL.so.1"],
        _ => [],
    };

    /// <summary>Must be called before the first context.</summary>
    public static void Register()
    {
        lock (s_lock)
        {
            if (s_isRegistered) return;
            NativeLibrary.SetDllImportResolver(typeof(Context).Assembly, Resolve);
            s_isRegistered = true;
        }
    }

    /// <summary>0 leaves the name to the loader, which is right on Windows and macOS.</summary>
    internal static nint Resolve(string name, Assembly assembly, DllImportSearchPath? searchPath)
    {
        foreach (string candidate in Candidates(name))
            foreach (string folder in s_folders)
                if (NativeLibrary.TryLoad(Path.Combine(folder, candidate), out nint handle)) return handle;
        return 0;
    }
}
