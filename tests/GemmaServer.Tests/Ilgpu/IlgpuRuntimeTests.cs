#if ILGPU
using GemmaServer.Compute;
using GemmaServer.Compute.Ilgpu;

namespace GemmaServer.Tests.Ilgpu;

[Trait("Category", "Ilgpu")]
public sealed class IlgpuRuntimeTests
{
    [Fact]
    public void A_context_compiles_nothing_after_a_kernel_failed()
    {
        using IlgpuRuntime runtime = new(IlgpuBackend.Cpu);
        IlgpuException first = Assert.Throws<IlgpuException>(() => runtime.Load<Action>("a kernel", static _ => throw new InvalidOperationException("no such instruction")));
        Assert.Contains("a kernel", first.Message);
        Assert.Contains("no such instruction", first.Message);
        bool wasTried = false;
        Assert.Same(first, Assert.Throws<IlgpuException>(() => runtime.Load<Action>("another", _ =>
        {
            wasTried = true;
            return static () => { };
        })));
        Assert.False(wasTried);
        // A context of its own is not touched.
        using IComputeDevice device = IlgpuDevices.Open("ilgpu:cpu", new IlgpuOptions());
        Assert.StartsWith("ilgpu:cpu (", device.Name);
    }

    [Fact]
    public void Drivers_are_looked_for_by_versioned_names()
    {
        Assert.Contains("libcuda.so.1", IlgpuLibraries.Candidates("cuda"));
        Assert.Contains("libOpenCL.so.1", IlgpuLibraries.Candidates("OpenCL"));
    }

    [Fact]
    public void The_simulator_takes_groups_as_large_as_a_gpus()
    {
        using IlgpuRuntime runtime = new(IlgpuBackend.Cpu);
        Assert.True(runtime.Accelerator.MaxNumThreadsPerGroup >= LaunchShape.Gpu.PanelLanes * LaunchShape.Gpu.MostSlices);
        Assert.Equal(32, runtime.Accelerator.WarpSize);
    }

    [Fact]
    public void Names_that_are_none_are_refused() =>
        Assert.Contains("ilgpu:cuda", Assert.Throws<IlgpuException>(() => IlgpuDevices.Open("ilgpu:metal", new IlgpuOptions())).Message);

    [Fact]
    public void A_q8_cache_is_refused()
    {
        using IComputeDevice device = IlgpuDevices.Open("ilgpu:cpu", new IlgpuOptions());
        AttentionPlan shape = new(1, 1, 32, 0, 0, 0, 0, true, false, 32);
        KvCachePlan plan = new([new KvGroup([0], 0, 16, 68)], 68 * 16, 2, KvCacheType.Q8_0);
        Assert.Contains("f32, f16 or bf16", Assert.Throws<NotSupportedException>(() => device.CreateKvCache(plan, _ => shape)).Message);
    }
}
#endif
