using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>Recorded graphs: what is replayed, what is recorded anew, and what happens where nothing can be recorded.</summary>
[Trait("Category", "Gpu")]
public sealed unsafe class CudaGraphTests
{
    private const string Source = "KERNEL(64) add(GLOBAL int* y, GLOBAL const int* x, const int scalar) { if (LANE < 4) y[LANE] += x[LANE] + scalar; }";

    [CudaFact]
    public void A_replay_reads_what_memory_holds_now()
    {
        using Adder adder = new();
        Assert.Equal([11, 12, 13, 14], adder.Run(1, [1, 2, 3, 4], 10));
        Assert.Equal([110, 210, 310, 410], adder.Run(1, [100, 200, 300, 400], 10));
        Assert.Equal([17, 18, 19, 20], adder.Run(1, [7, 8, 9, 10], 10));
        Assert.Equal((1, 2L, 1), (adder.Gpu.Graphs.Captures, adder.Gpu.Graphs.Replays, adder.Gpu.Graphs.Count));
        Assert.Null(adder.Gpu.Graphs.Failure);
    }

    [CudaFact]
    public void Another_scalar_under_the_same_key_is_recorded_anew()
    {
        using Adder adder = new();
        Assert.Equal([11, 12, 13, 14], adder.Run(1, [1, 2, 3, 4], 10));
        Assert.Equal([21, 22, 23, 24], adder.Run(1, [1, 2, 3, 4], 20));
        Assert.Equal([22, 23, 24, 25], adder.Run(1, [2, 3, 4, 5], 20));
        Assert.Equal((2, 1L, 1), (adder.Gpu.Graphs.Captures, adder.Gpu.Graphs.Replays, adder.Gpu.Graphs.Count));
    }

    [CudaFact]
    public void The_graphs_used_longest_ago_make_room()
    {
        using Adder adder = new();
        for (int key = 0; key < CudaGraphs.MostKept + 5; key++)
        {
            Assert.Equal([1, 1, 1, 1], adder.Run(key, [0, 0, 0, 0], 1));
            Assert.Equal([2, 2, 2, 2], adder.Run(0, [1, 1, 1, 1], 1));
        }
        Assert.Equal(CudaGraphs.MostKept, adder.Gpu.Graphs.Count);
        Assert.Equal(CudaGraphs.MostKept + 5, adder.Gpu.Graphs.Captures);
        // The first was used all the time; the second was not.
        adder.Run(0, [0, 0, 0, 0], 1);
        Assert.Equal(CudaGraphs.MostKept + 5, adder.Gpu.Graphs.Captures);
        adder.Run(1, [0, 0, 0, 0], 1);
        Assert.Equal(CudaGraphs.MostKept + 6, adder.Gpu.Graphs.Captures);
    }

    [CudaStandInFact]
    public void A_driver_that_does_not_capture_runs_the_commands_all_the_same()
    {
        using Adder adder = new();
        CudaDriver.RefuseCaptures(true);
        try
        {
            Assert.Equal([11, 12, 13, 14], adder.Run(1, [1, 2, 3, 4], 10));
            Assert.Equal([21, 22, 23, 24], adder.Run(1, [1, 2, 3, 4], 20));
        }
        finally
        {
            CudaDriver.RefuseCaptures(false);
        }
        Assert.Contains("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", adder.Gpu.Graphs.Failure);
        Assert.Equal((0, 0), (adder.Gpu.Graphs.Captures, adder.Gpu.Graphs.Count));
    }

    [CudaFact]
    public void What_waits_or_allocates_runs_what_was_recorded_and_ends_it()
    {
        using Adder adder = new();
        foreach (Action between in (Action[])[adder.Gpu.Finish, () => adder.Gpu.Allocate(1, "a test"), () => adder.Gpu.Record()])
            Assert.Equal([11, 12, 13, 14], adder.Run(1, [1, 2, 3, 4], 10, between));
        Assert.Equal((0, 0L), (adder.Gpu.Graphs.Captures, adder.Gpu.Graphs.Replays));
    }

    [CudaFact]
    public void What_a_failed_step_recorded_is_dropped()
    {
        using Adder adder = new();
        Assert.Equal([11, 12, 13, 14], adder.Run(1, [1, 2, 3, 4], 10));
        adder.Begin(1, 99);
        adder.Gpu.DropGraph();
        Assert.Equal([12, 13, 14, 15], adder.Run(1, [2, 3, 4, 5], 10));
        Assert.Equal((1, 1L), (adder.Gpu.Graphs.Captures, adder.Gpu.Graphs.Replays));
    }

    [CudaFact]
    public void Recorded_steps_allocate_nothing()
    {
        using Adder adder = new();
        for (int i = 0; i < 3; i++) adder.Launch(1, 10);
        adder.Gpu.Finish();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10; i++) adder.Launch(1, 10);
        adder.Gpu.Finish();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    /// <summary>y = x + scalar within a graph: clears, adds and copies back; x comes before it.</summary>
    private sealed class Adder : IDisposable
    {
        private readonly PinnedBuffer _host, _back;
        private readonly GpuBuffer _x, _y;
        private readonly GpuKernel _add;

        public Adder()
        {
            Gpu = CudaDriver.Open();
            (_host, _back) = (Gpu.AllocatePinned(16), Gpu.AllocatePinned(16));
            (_x, _y) = (Gpu.Allocate(16, "a test"), Gpu.Allocate(16, "a test"));
            _add = Gpu.Kernel(KernelSource.FromText("add.cl", Source), "add");
            Gpu.Clear(_x, 16);
        }

        public CudaContext Gpu { get; }

        public int[] Run(long key, int[] x, int scalar, Action? between = null)
        {
            x.CopyTo(_host.Span<int>());
            Gpu.Write(_x, 0, _host, 0, 16);
            Launch(key, scalar, between);
            Gpu.Wait(Gpu.Record());
            return _back.Span<int>().ToArray();
        }

        public void Begin(long key, int scalar)
        {
            Gpu.BeginGraph(key);
            Gpu.Clear(_y, 16);
            _add.Begin().Add(_y).Add(_x).Add(scalar).Run(64, 1);
        }

        public void Launch(long key, int scalar, Action? between = null)
        {
            Begin(key, scalar);
            between?.Invoke();
            Gpu.Read(_back, 0, _y, 0, 16);
            Gpu.EndGraph();
        }

        public void Dispose() => Gpu.Dispose();
    }
}
