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
    public static IComputeDevice Open(string name, IlgpuOptions options) => Make(Start(name), options);

    /// <summary>Opens what a name stands for, so that its memory is known.</summary>
    /// <exception cref="IlgpuException">There is none.</exception>
    internal static IlgpuRuntime Start(string name) => name switch
    {
        "ilgpu" => StartAny(),
        "ilgpu:cuda" => new IlgpuRuntime(IlgpuBackend.Cuda),
        "ilgpu:opencl" => new IlgpuRuntime(IlgpuBackend.OpenCl),
        "ilgpu:cpu" => new IlgpuRuntime(IlgpuBackend.Cpu),
        _ => throw new IlgpuException($"No ILGPU device is called {name}; there are {string.Join(", ", Names)}."),
    };

    /// <summary>Makes the device, which owns the runtime from then on.</summary>
    /// <exception cref="IlgpuException">A kernel does not compile.</exception>
    internal static IComputeDevice Make(IlgpuRuntime runtime, IlgpuOptions options)
    {
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

    private static IlgpuRuntime StartAny()
    {
        try
        {
            return new IlgpuRuntime(IlgpuBackend.Cuda);
        }
        catch (IlgpuException cuda)
        {
            try
            {
                return new IlgpuRuntime(IlgpuBackend.OpenCl);
            }
            catch (IlgpuException openCl)
            {
                throw new IlgpuException($"no GPU for ILGPU. {cuda.Message} {openCl.Message}", cuda);
            }
        }
    }
}
