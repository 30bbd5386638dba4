using System.Diagnostics;
using System.Globalization;
using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer;

/// <summary>Opens the device and puts the checkpoint on it.</summary>
internal static class RunnerMaker
{
    /// <summary>What the line starts with that names the device.</summary>
    public const string DeviceLine = "Device: ";

    /// <summary>A <see cref="RunnerFactory"/>: the place where device and runner are chosen by the options.</summary>
    /// <exception cref="MemoryPlanException">It does not fit into memory; the message says what would.</exception>
    /// <exception cref="GpuException">The device is not there, or its driver refused something.</exception>
    /// <exception cref="ArgumentException">Threads cannot be placed as wanted.</exception>
    public static (IModelRunner Runner, int MaxModelLength) Make(Checkpoint checkpoint, Checkpoint? drafter, ServerOptions options, Action<string> log)
    {
        DevicePlace place = DevicePlace.Open(options, log);
        Action giveBack = place.Close;
        try
        {
            RunnerPlan plan = Plan(checkpoint, drafter, options, place.Budget);
            IComputeDevice device = place.Create(checkpoint.Config.RmsEpsilon);
            giveBack = device.Dispose;
            log(DeviceLine + device.Name);
            if (device is CpuDevice { Remark: { } remark }) log(remark);
            foreach (string line in plan.Lines()) log(line);
            ModelRunner runner = new(device, checkpoint, plan, drafter, Speculation.MaxDrafts(options, checkpoint.Config), Progress(log));
            giveBack = runner.Dispose;
            log(string.Create(CultureInfo.InvariantCulture, $"Weights loaded in {runner.LoadTime.TotalSeconds:0.00} s, {runner.DeviceWeightBytes / 1e9:0.00} GB of them {(plan.Budget.HoldsWeights ? "on" : "packed for")} the device"));
            if (device.IsAsynchronous && options.WarmUp) log(string.Create(CultureInfo.InvariantCulture, $"Kernels ready in {runner.WarmUp().TotalSeconds:0.00} s"));
            return (runner, plan.MaxModelLength);
        }
        catch
        {
            giveBack();
            throw;
        }
    }

    /// <summary>The memory plan, made before anything is allocated, for the device that the options name.</summary>
    public static RunnerPlan Plan(Checkpoint checkpoint, Checkpoint? drafter, ServerOptions options)
    {
        DevicePlace place = DevicePlace.Open(options, static _ => { });
        try
        {
            return Plan(checkpoint, drafter, options, place.Budget);
        }
        finally
        {
            place.Close();
        }
    }

    private static RunnerPlan Plan(Checkpoint checkpoint, Checkpoint? drafter, ServerOptions options, DeviceBudget budget)
    {
        long weights = checkpoint.StoredTensors.Sum(static t => t.Bytes);
        RunnerOptions wanted = new(
            KvType(options.KvCacheDtype), options.BlockSize, options.KvCacheMemory, options.MaxModelLen,
            Math.Min(options.MaxNumSeqs, options.MaxNumBatchedTokens), options.MaxNumBatchedTokens);
        return RunnerPlan.Make(checkpoint.Config, weights, wanted, budget, drafter);
    }

    /// <summary>A line every few seconds of a long load.</summary>
    private static Action<double> Progress(Action<string> log)
    {
        long last = Stopwatch.GetTimestamp();
        return share =>
        {
            if (share >= 1 || Stopwatch.GetElapsedTime(last) < TimeSpan.FromSeconds(5)) return;
            last = Stopwatch.GetTimestamp();
            log(string.Create(CultureInfo.InvariantCulture, $"Loading weights: {100 * share:0} %"));
        };
    }

    // Halves are the fast choice on every device.
    private static KvCacheType KvType(KvCacheChoice choice) => choice switch
    {
        KvCacheChoice.F32 => KvCacheType.F32,
        KvCacheChoice.BF16 => KvCacheType.BF16,
        KvCacheChoice.Q8_0 => KvCacheType.Q8_0,
        _ => KvCacheType.F16,
    };
}
