namespace GemmaServer.Compute.Ilgpu;

/// <summary>Opens ILGPU's devices by the names that --device takes.</summary>
public static class IlgpuDevices
{
    /// <summary>"ilgpu" takes CUDA, else OpenCL; "ilgpu:cuda", "ilgpu:opencl" and "ilgpu:cpu" (ILGPU's simulator, for tests) only that.</summary>
    public static IReadOnlyList<string> Names { get; } = ["ilgpu", "ilgpu:cuda", "ilgpu:opencl", "ilgpu:cpu"];

    /// <summary>Opens a device.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="options">How it computes.</param>
    /// <exception cref="IlgpuException">There is none, or kernels do not compile for it.</exception>
    /// <exception cref="ArgumentException">No such name.</exception>
    public static IComputeDevice Open(string name, IlgpuOptions options) => name switch
    {
        "ilgpu" => OpenAny(options),
        "ilgpu:cuda" => Open(IlgpuBackend.Cuda, options),
        "ilgpu:opencl" => Open(IlgpuBackend.OpenCl, options),
        "ilgpu:cpu" => Open(IlgpuBackend.Cpu, options),
        _ => throw new ArgumentException($"No ILGPU device is called {name}; there are {string.Join(", ", Names)}."),
    };

    internal static IComputeDevice Open(IlgpuBackend backend, IlgpuOptions options, LaunchShape? shape = null)
    {
        IlgpuRuntime runtime = new(backend, shape);
        try
        {
            return new IlgpuDevice(runtime, options);
        }
        catch
        {
            // A context in which a kernel failed compiles no other.
            runtime.Dispose();
            throw;
        }
    }

    private static IComputeDevice OpenAny(IlgpuOptions options)
    {
        try
        {
            return Open(IlgpuBackend.Cuda, options);
        }
        catch (IlgpuException cuda)
        {
            try
            {
                return Open(IlgpuBackend.OpenCl, options);
            }
            catch (IlgpuException openCl)
            {
                throw new IlgpuException($"No GPU for ILGPU. {cuda.Message} {openCl.Message}", cuda);
            }
        }
    }
}
