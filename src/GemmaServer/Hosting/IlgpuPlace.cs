#if ILGPU
using GemmaServer.Compute;
using GemmaServer.Compute.Ilgpu;
using GemmaServer.Model;

namespace GemmaServer;

/// <summary>ILGPU's device, in builds that have it.</summary>
internal static class IlgpuPlace
{
    /// <summary>Opens <c>ilgpu</c>, <c>ilgpu:cuda</c>, <c>ilgpu:opencl</c> or <c>ilgpu:cpu</c>.</summary>
    /// <exception cref="ArgumentException">It is not there, or cannot do what the options ask for.</exception>
    public static DevicePlace Open(DeviceName name, ServerOptions options)
    {
        IlgpuRuntime runtime;
        try
        {
            runtime = IlgpuDevices.Start(name.Variant.Length == 0 ? "ilgpu" : $"ilgpu:{name.Variant}");
        }
        catch (IlgpuException e)
        {
            throw new ArgumentException($"--device {options.Device}: {e.Message}", e);
        }
        bool isSimulator = runtime.Backend == IlgpuBackend.Cpu;
        long host = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        DeviceBudget budget = DeviceBudget.Gpu(
            isSimulator ? host : runtime.Accelerator.MemorySize, isSimulator ? host : runtime.FreeBytes, options.GpuMemoryUtilization, sharesHostMemory: isSimulator);
        return new DevicePlace(budget, epsilon => IlgpuDevices.Make(runtime, Options(options, epsilon)), runtime.Dispose);
    }

    private static IlgpuOptions Options(ServerOptions options, float epsilon) => new(Activations(options.Activations), options.BatchInvariant, epsilon);

    // As on CUDA; it also keeps weights of types without a kernel in bfloat16, which takes half the memory of floats.
    private static ActivationType Activations(ActivationChoice choice) => choice switch
    {
        ActivationChoice.F32 => ActivationType.F32,
        ActivationChoice.Int8 => ActivationType.Int8,
        _ => ActivationType.BF16,
    };
}
#endif
