using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer;

/// <summary>
/// The device that the options name: opened, so that its memory is known, and with nothing on it yet. A new kind of device is a
/// name in <see cref="DeviceName"/> and a line in <see cref="Open"/>.
/// </summary>
/// <param name="Budget">Its memory, for the plan.</param>
/// <param name="Create">Makes the device, given the epsilon of the model's norms; it owns what was opened from then on.</param>
/// <param name="Close">Gives back what was opened, where no device was made.</param>
internal sealed record DevicePlace(DeviceBudget Budget, Func<float, IComputeDevice> Create, Action Close)
{
    /// <summary>Opens what <c>--device</c> names.</summary>
    /// <exception cref="GpuException">It is not there or cannot be used; the message says what to do.</exception>
    /// <exception cref="ArgumentException">Threads cannot be placed as wanted.</exception>
    public static DevicePlace Open(ServerOptions options, Action<string> log)
    {
        if (!DeviceName.TryParse(options.Device, out DeviceName name)) throw new ArgumentException($"--device: {DeviceName.Mistake(options.Device)}");
        return name.Kind switch
        {
            DeviceKind.Cpu => Cpu(options, log),
            DeviceKind.Cuda => Gpu(GpuDevices.Open(GpuApi.Cuda, name.Index), options),
            DeviceKind.OpenCl => Gpu(GpuDevices.Open(GpuApi.OpenCl, name.Index), options),
#if ILGPU
            DeviceKind.Ilgpu => IlgpuPlace.Open(name, options),
#else
            DeviceKind.Ilgpu => throw new ArgumentException(
                "--device ilgpu: this build has no ILGPU kernels. Build with -p:Ilgpu=true (docs/decisions/ilgpu.md), or choose --device cuda or opencl."),
#endif
            _ => Auto(options, log, GpuDevices.CudaMissing, static () => GpuDevices.OpenTried(GpuApi.Cuda, 0)),
        };
    }

    /// <summary>The first CUDA device; the CPU where there is none, or where its driver or compiler does not work.</summary>
    /// <param name="options">The server's.</param>
    /// <param name="log">Told which, and why.</param>
    /// <param name="cudaMissing">Why there is none; null where there is one.</param>
    /// <param name="openCuda">Opens it, and proves that it works.</param>
    internal static DevicePlace Auto(ServerOptions options, Action<string> log, Func<string?> cudaMissing, Func<GpuContext> openCuda)
    {
        string? why;
        try
        {
            why = cudaMissing();
            if (why is null)
            {
                DevicePlace place = Gpu(openCuda(), options);
                log("--device auto: the first CUDA device.");
                return place;
            }
        }
        // A library that lacks a function is as broken as one whose calls fail.
        catch (Exception e) when (e is GpuException or EntryPointNotFoundException or DllNotFoundException)
        {
            why = $"CUDA is there and does not work (--device cuda stops here): {e.Message}";
        }
        log($"--device auto: the CPU, because {why.TrimEnd('.')}. OpenCL is used only when asked for.");
        return Cpu(options, log);
    }

    private static DevicePlace Cpu(ServerOptions options, Action<string> log) => new(
        // What the container or machine gives the process, as the runtime sees it.
        DeviceBudget.Cpu(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes),
        epsilon => new CpuDevice(Placement(options, log), CpuActivations(options.Activations), epsilon, options.Amx == AmxChoice.Auto),
        static () => { });

    private static DevicePlace Gpu(GpuContext gpu, ServerOptions options)
    {
        GpuInfo info = gpu.Info;
        (long total, long free) = (info.TotalBytes, gpu.FreeBytes);
        if (info.SharesHostMemory) free = Math.Min(free, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
        DeviceBudget budget = DeviceBudget.Gpu(total, free, options.GpuMemoryUtilization, info.SharesHostMemory) with { LargestBuffer = info.LargestBuffer };
        return new DevicePlace(budget, epsilon => new GpuDevice(gpu, new GpuOptions(GpuActivations(info.Api, options.Activations), options.BatchInvariant, epsilon)), gpu.Dispose);
    }

    private static WorkerPlacement Placement(ServerOptions options, Action<string> log)
    {
        bool pins = WorkerPlacement.IsList(options.CpuAffinity);
        if (!pins || ThreadAffinity.IsSupported)
            return WorkerPlacement.Make(options.Threads, options.CpuAffinity, CpuTopology.OfThisMachine(), Environment.ProcessorCount);
        log($"--cpu-affinity {options.CpuAffinity} is left out: threads are pinned on Linux only.");
        return WorkerPlacement.Free(options.Threads);
    }

    // On the CPU bytes are the fast choice, as in llama.cpp.
    private static ActivationType CpuActivations(ActivationChoice choice) => choice == ActivationChoice.F32 ? ActivationType.F32 : ActivationType.Int8;

    // What the weights' own precision allows where there are tensor cores for it, as other servers do; exact where there are none.
    private static ActivationType GpuActivations(GpuApi api, ActivationChoice choice) => choice switch
    {
        ActivationChoice.Int8 => ActivationType.Int8,
        ActivationChoice.Auto when api == GpuApi.Cuda => ActivationType.BF16,
        _ => ActivationType.F32,
    };
}
