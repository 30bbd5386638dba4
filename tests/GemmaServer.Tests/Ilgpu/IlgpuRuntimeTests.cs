#if ILGPU
using System.Runtime.InteropServices;
using GemmaServer.Compute;
using GemmaServer.Compute.Ilgpu;
using ILGPU;
using ILGPU.Runtime;

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
        foreach ((string import, string library) in new[] { ("cuda", "libcuda.so.1"), ("OpenCL", "libOpenCL.so.1") })
            if (NativeLibrary.TryLoad(library, out nint handle)) Assert.Equal(handle, IlgpuLibraries.Resolve(import, typeof(Context).Assembly, null));
        // ILGPU asks us: an assembly takes one resolver, and has it.
        using IlgpuRuntime runtime = new(IlgpuBackend.Cpu);
        Assert.Throws<InvalidOperationException>(() => NativeLibrary.SetDllImportResolver(typeof(Context).Assembly, static (_, _, _) => 0));
    }

    [Fact]
    public void The_simulator_takes_groups_as_large_as_a_gpus()
    {
        using IlgpuRuntime runtime = new(IlgpuBackend.Cpu);
        Assert.True(runtime.Accelerator.MaxNumThreadsPerGroup >= LaunchShape.Gpu.PanelLanes * LaunchShape.Gpu.MostSlices);
        Assert.Equal(32, runtime.Accelerator.WarpSize);
    }

    [Theory]
    [InlineData("ilgpu:cuda", AcceleratorType.Cuda)]
    [InlineData("ilgpu:opencl", AcceleratorType.OpenCL)]
    public void Where_there_is_no_gpu_the_simulator_does_not_take_its_place(string name, AcceleratorType type)
    {
        IlgpuRuntime? runtime = null;
        IlgpuException? refusal = Record.Exception(() => runtime = IlgpuDevices.Start(name)) as IlgpuException;
        Assert.True(refusal is not null || runtime!.Accelerator.AcceleratorType == type, $"{name} is {runtime?.Accelerator.Name}");
        runtime?.Dispose();
    }

    [Fact]
    public void Names_that_are_none_are_refused() =>
        Assert.Contains("ilgpu:cuda", Assert.Throws<IlgpuException>(() => IlgpuDevices.Open("ilgpu:metal", new IlgpuOptions())).Message);
}
#endif
