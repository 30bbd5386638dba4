using System.Diagnostics;
using System.Runtime.InteropServices;
using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>A test that runs kernels through CUDA: on a GPU, or on the stand-in driver, which g++ builds here. Skipped, saying so, where neither can be had.</summary>
public sealed class CudaFactAttribute : FactAttribute
{
    public CudaFactAttribute() => Skip = CudaDriver.Missing;
}

/// <summary>As <see cref="CudaFactAttribute"/>, with data.</summary>
public sealed class CudaTheoryAttribute : TheoryAttribute
{
    public CudaTheoryAttribute() => Skip = CudaDriver.Missing;
}

/// <summary>A test of what only the stand-in driver can do: break, and tell.</summary>
public sealed class CudaStandInFactAttribute : FactAttribute
{
    public CudaStandInFactAttribute() => Skip = CudaDriver.Missing ?? (CudaDriver.IsStandIn ? null : "A real CUDA driver is installed.");
}

/// <summary>
/// CUDA for tests. Where there is no GPU, <c>tests/cuda-on-cpu</c> is built once for each version of its sources: a <c>libcuda.so.1</c> and
/// a <c>libnvrtc.so.12</c> that compile kernels with g++ and run them on the processor.
/// </summary>
internal static class CudaDriver
{
    private static readonly (string? Missing, string? Folder) s_found = Find();

    /// <summary>Why nothing can run; null where it can.</summary>
    public static string? Missing => s_found.Missing;

    public static bool IsStandIn => s_found.Folder is not null;

    /// <summary>A context; on the stand-in each buffer has guards of its own.</summary>
    public static CudaContext Open() => IsStandIn ? new CudaContext(0, new KernelCache(null), slabBytes: 0) : new CudaContext(0);

    /// <summary>Makes the stand-in refuse this thread's captures.</summary>
    public static unsafe void RefuseCaptures(bool refuse)
    {
        nint call = NativeLibrary.GetExport(DriverLibraries.Handle(DriverLibraries.Cuda), "cuda_on_cpu_refuse_captures");
        ((delegate* unmanaged<int, void>)call)(refuse ? 1 : 0);
    }

    private static (string? Missing, string? Folder) Find()
    {
        if (CudaDevices.All().Count > 0) return (null, null);
        if (DriverLibraries.TryLoad(DriverLibraries.Cuda)) return (CudaDevices.Missing(), null);
        if (!OperatingSystem.IsLinux()) return ("No CUDA device, and the stand-in driver is for Linux.", null);
        try
        {
            string sources = Path.Combine(AppContext.BaseDirectory, "cuda-on-cpu");
            if (!Directory.Exists(sources)) return ("No CUDA device.", null);
            string folder = Build(sources);
            DriverLibraries.Use(DriverLibraries.Cuda, Path.Combine(folder, "libcuda.so.1"));
            DriverLibraries.Use(DriverLibraries.Nvrtc, Path.Combine(folder, "libnvrtc.so.12"));
            if (RealNvrtc.Missing is null) CudaModules.Compiling = RealNvrtc.Check;
            return (null, folder);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return ("No CUDA device, and g++ is not installed, which builds the stand-in driver.", null);
        }
    }

    private static string Build(string sources)
    {
        string[] files = [.. Directory.GetFiles(sources).Where(static f => !f.EndsWith(".md", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        string key = KernelCache.Key([.. files.Select(File.ReadAllText)])[..16];
        string folder = Path.Combine(Path.GetTempPath(), $"gemmaserver-cuda-on-cpu-{Environment.UserName}-{key}");
        if (Directory.Exists(folder)) return folder;
        // Made whole beside it: several test processes may begin together.
        string begun = $"{folder}.{Environment.ProcessId}";
        Directory.CreateDirectory(begun);
        foreach (string header in files.Where(static f => f.EndsWith(".h", StringComparison.Ordinal))) File.Copy(header, Path.Combine(begun, Path.GetFileName(header)));
        Compile(sources, Path.Combine(begun, "libcuda.so.1"), "driver.cpp", "blocks.cpp");
        Compile(sources, Path.Combine(begun, "libnvrtc.so.12"), "nvrtc.cpp");
        try
        {
            Directory.Move(begun, folder);
        }
        catch (IOException) when (Directory.Exists(folder))
        {
            Directory.Delete(begun, recursive: true);
        }
        return folder;
    }

    private static void Compile(string sources, string library, params string[] files)
    {
        ProcessStartInfo start = new("g++") { WorkingDirectory = sources, RedirectStandardError = true };
        foreach (string argument in (string[])["-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", .. files, "-o", library, "-ldl"]) start.ArgumentList.Add(argument);
        using Process compiler = Process.Start(start)!;
        string errors = compiler.StandardError.ReadToEnd();
        compiler.WaitForExit();
        if (compiler.ExitCode != 0) throw new InvalidOperationException($"The stand-in driver does not compile: {errors}");
    }
}
