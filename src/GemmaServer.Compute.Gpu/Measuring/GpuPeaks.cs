using System.Diagnostics;

namespace GemmaServer.Compute;

/// <summary>What a device gives at most, measured: the yardstick for shares in benchmarks.</summary>
/// <param name="CopyBytesPerSecond">Read and written together, by a plain copy.</param>
/// <param name="MatrixPerSecond">Operations of bf16 matrix units through mma.sync; 0 where the driver is not CUDA's.</param>
/// <param name="FloatPerSecond">Operations of f32 multiply-adds.</param>
internal sealed record GpuPeaks(double CopyBytesPerSecond, double MatrixPerSecond, double FloatPerSecond)
{
    private const int Group = 256, Repetitions = 5;

    /// <summary>Measures; takes well below a second on a GPU.</summary>
    /// <param name="gpu">An open device.</param>
    /// <param name="copyBytes">Size of the copy: far more than its caches hold.</param>
    public static GpuPeaks Measure(GpuContext gpu, long copyBytes = 1L << 30) => new(
        Copy(gpu, Math.Min(copyBytes, gpu.Info.LargestBuffer) / 16),
        // A tile is 16 × 8 × 16 products and sums; sixteen a turn and warp.
        gpu.Info.Api == GpuApi.Cuda ? Arithmetic(gpu, "mma.cu", "mma_bf16", operationsPerTurn: 16 * 4096.0 / 32) : 0,
        Arithmetic(gpu, "multiply_add.cl", "multiply_add", operationsPerTurn: 16));

    private static double Copy(GpuContext gpu, long blocks)
    {
        GpuKernel kernel = gpu.Kernel(new KernelSource("copy.cl", default, ("GROUP", Group)), "copy_blocks");
        GpuBuffer x = gpu.Allocate(blocks * 16, "the copy"), y = gpu.Allocate(blocks * 16, "the copy");
        gpu.Clear(x, x.Bytes);
        int groups = gpu.Info.Units * 16;
        double seconds = Best(gpu, () => kernel.Begin().Add(x).Add(y).Add((int)blocks).Add(groups * Group).Run(Group, groups));
        gpu.Free(x);
        gpu.Free(y);
        return 2.0 * blocks * 16 / seconds;
    }

    private static double Arithmetic(GpuContext gpu, string file, string name, double operationsPerTurn)
    {
        GpuKernel kernel = gpu.Kernel(new KernelSource(file, default, ("GROUP", Group)), name);
        int groups = gpu.Info.Units * 8, turns = 4096;
        GpuBuffer y = gpu.Allocate((long)groups * Group * sizeof(float), "the peak");
        bool hasFactor = name == "multiply_add";
        double seconds = Best(gpu, () =>
        {
            KernelCall call = kernel.Begin().Add(y).Add(turns);
            if (hasFactor) call = call.Add(0.5f);
            call.Run(Group, groups);
        });
        gpu.Free(y);
        return (double)groups * Group * turns * operationsPerTurn / seconds;
    }

    private static double Best(GpuContext gpu, Action launch)
    {
        launch();
        gpu.Finish();
        double best = double.MaxValue;
        for (int i = 0; i < Repetitions; i++)
        {
            long start = Stopwatch.GetTimestamp();
            launch();
            gpu.Finish();
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        return best;
    }
}
