using System.Globalization;
using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer;

/// <summary>Opens the device and puts the checkpoint on it.</summary>
internal static class RunnerMaker
{
    /// <summary>A <see cref="RunnerFactory"/>: the place where device and runner are chosen by the options.</summary>
    /// <exception cref="MemoryPlanException">It does not fit into memory; the message says what would.</exception>
    /// <exception cref="ArgumentException">Threads cannot be placed as wanted.</exception>
    public static (IModelRunner Runner, int MaxModelLength) Make(Checkpoint checkpoint, Checkpoint? drafter, ServerOptions options, Action<string> log)
    {
        RunnerPlan plan = Plan(checkpoint, drafter, options);
        CpuDevice device = new(Placement(options, log), Activations(options.Activations), checkpoint.Config.RmsEpsilon, options.Amx == AmxChoice.Auto);
        try
        {
            log($"Device: {device.Name}");
            if (device.Remark is { } remark) log(remark);
            foreach (string line in plan.Lines()) log(line);
            ModelRunner runner = new(device, checkpoint, plan, drafter, Speculation.MaxDrafts(options, checkpoint.Config));
            log(string.Create(CultureInfo.InvariantCulture, $"Weights loaded in {runner.LoadTime.TotalSeconds:0.00} s, {runner.DeviceWeightBytes / 1e9:0.00} GB of them packed for the device"));
            return (runner, plan.MaxModelLength);
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }

    /// <summary>The memory plan, made before anything is allocated.</summary>
    public static RunnerPlan Plan(Checkpoint checkpoint, Checkpoint? drafter, ServerOptions options)
    {
        long weights = checkpoint.StoredTensors.Sum(static t => t.Bytes);
        RunnerOptions wanted = new(
            KvType(options.KvCacheDtype), options.BlockSize, options.KvCacheMemory, options.MaxModelLen,
            Math.Min(options.MaxNumSeqs, options.MaxNumBatchedTokens), options.MaxNumBatchedTokens);
        // What the container or machine gives the process, as the runtime sees it.
        return RunnerPlan.Make(checkpoint.Config, weights, wanted, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes, drafter);
    }

    private static WorkerPlacement Placement(ServerOptions options, Action<string> log)
    {
        bool pins = WorkerPlacement.IsList(options.CpuAffinity);
        if (!pins || ThreadAffinity.IsSupported)
            return WorkerPlacement.Make(options.Threads, options.CpuAffinity, CpuTopology.OfThisMachine(), Environment.ProcessorCount);
        log($"--cpu-affinity {options.CpuAffinity} is left out: threads are pinned on Linux only.");
        return WorkerPlacement.Free(options.Threads);
    }

    // On the CPU the fast choices are bytes for activations and halves for the cache, as in llama.cpp.
    private static ActivationType Activations(ActivationChoice choice) =>
        choice == ActivationChoice.F32 ? ActivationType.F32 : ActivationType.Int8;

    private static KvCacheType KvType(KvCacheChoice choice) => choice switch
    {
        KvCacheChoice.F32 => KvCacheType.F32,
        KvCacheChoice.BF16 => KvCacheType.BF16,
        KvCacheChoice.Q8_0 => KvCacheType.Q8_0,
        _ => KvCacheType.F16,
    };
}
