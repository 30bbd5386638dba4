using System.Reflection;
using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>
/// Finds the drivers' libraries: their names carry versions, and containers put them where no loader looks. The names in
/// <c>LibraryImport</c> are keys of this table.
/// </summary>
internal static class DriverLibraries
{
    public const string OpenCl = "OpenCL", Cuda = "cuda", Nvrtc = "nvrtc";

    // Where NVIDIA's container runtime, its CUDA images, WSL and Kubernetes device plugins put them.
    private static readonly string[] s_folders =
        ["", "/usr/local/nvidia/lib64", "/usr/local/cuda/lib64", "/usr/local/cuda/compat", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib"];

    private static readonly Dictionary<string, string[]> s_names = new()
    {
        [OpenCl] = ["libOpenCL.so.1", "OpenCL.dll", "/System/Library/Frameworks/OpenCL.framework/OpenCL"],
        [Cuda] = ["libcuda.so.1", "nvcuda.dll"],
        [Nvrtc] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "nvrtc64_130_0.dll", "nvrtc64_120_0.dll"],
    };

    private static readonly Lock s_lock = new();
    private static readonly Dictionary<string, nint> s_loaded = [];
    private static readonly HashSet<string> s_replaced = [];
    private static bool s_isRegistered;

    /// <summary>Whether a library can be loaded; from then on imports under its key go to it.</summary>
    public static bool TryLoad(string key) => Load(key) != 0;

    /// <summary>The loaded library; 0 where there is none.</summary>
    public static nint Handle(string key) => Load(key);

    /// <summary>Whether <see cref="Use"/> gave the file.</summary>
    public static bool IsReplaced(string key)
    {
        lock (s_lock) return s_replaced.Contains(key);
    }

    /// <summary>Takes this file for a key: a stand-in driver, for tests. Before the first call into the library.</summary>
    public static void Use(string key, string path)
    {
        lock (s_lock)
        {
            // Whatever is found, the resolver stands.
            Load(key);
            s_loaded[key] = NativeLibrary.Load(path);
            s_replaced.Add(key);
        }
    }

    /// <summary>The files that were looked for, for messages.</summary>
    public static string Names(string key) => string.Join(", ", s_names[key].Where(static n => n.Contains(".so", StringComparison.Ordinal)));

    private static nint Load(string key)
    {
        lock (s_lock)
        {
            if (!s_isRegistered)
            {
                NativeLibrary.SetDllImportResolver(typeof(DriverLibraries).Assembly, static (name, _, _) => s_names.ContainsKey(name) ? Load(name) : 0);
                s_isRegistered = true;
            }
            if (s_loaded.TryGetValue(key, out nint handle)) return handle;
            // One's own choice first: a folder with a newer or a stand-in driver.
            string? chosen = Environment.GetEnvironmentVariable("GEMMASERVER_DRIVER_PATH");
            foreach (string folder in chosen is null ? s_folders : [chosen, .. s_folders])
                foreach (string name in s_names[key])
                    if (NativeLibrary.TryLoad(Path.Combine(folder, name), out handle)) return s_loaded[key] = handle;
            return s_loaded[key] = 0;
        }
    }
}
