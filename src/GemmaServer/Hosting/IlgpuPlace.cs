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
        if (options.KvCacheDtype == KvCacheChoice.Q8_0) throw new ArgumentException("--kv-cache-dtype q8_0: the ILGPU device has none; use f32, f16 or bf16.");
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

    // Types without a kernel are decoded to floats only where somebody asks for exact arithmetic: they take twice the memory of bfloat16.
    private static IlgpuOptions Options(ServerOptions options, float epsilon) => new(
        options.Activations == ActivationChoice.F32 ? ActivationType.F32 : ActivationType.Int8, options.BatchInvariant, epsilon, options.Threads ?? 0);
}
#endif
