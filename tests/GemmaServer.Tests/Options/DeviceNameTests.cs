using System.Collections;
using GemmaServer.Compute;
using Microsoft.Extensions.Configuration;

namespace GemmaServer.Tests.Options;

public sealed class DeviceNameTests
{
    [Theory]
    [InlineData("auto", "Auto", 0, "")]
    [InlineData("CPU", "Cpu", 0, "")]
    [InlineData("cuda", "Cuda", 0, "")]
    [InlineData("cuda:3", "Cuda", 3, "")]
    [InlineData("opencl:12", "OpenCl", 12, "")]
    [InlineData("ilgpu", "Ilgpu", 0, "")]
    [InlineData("ilgpu:opencl", "Ilgpu", 0, "opencl")]
    public void A_name_has_a_kind_and_a_place(string text, string kind, int index, string variant)
    {
        Assert.True(DeviceName.TryParse(text, out DeviceName name));
        Assert.Equal((kind, index, variant), (name.Kind.ToString(), name.Index, name.Variant));
    }

    [Theory]
    [InlineData("")]
    [InlineData("gpu")]
    [InlineData("cuda:")]
    [InlineData("cuda:-1")]
    [InlineData("cuda:+1")]
    [InlineData("cuda:x")]
    [InlineData("cuda:99999999999")]
    [InlineData("cpu:0")]
    [InlineData("auto:1")]
    [InlineData("ilgpu:")]
    public void What_is_no_name_is_told_at_start_with_what_is_there(string text)
    {
        Assert.False(DeviceName.TryParse(text, out _));
        List<string> mistakes = [];
        OptionsReader.Read(new Dictionary<string, string[]> { ["device"] = [text] }, new Hashtable(), new ConfigurationBuilder().Build(), mistakes);
        string mistake = Assert.Single(mistakes);
        Assert.StartsWith($"--device: '{text}' names no device", mistake);
        Assert.Contains(GpuDevices.Listing(), mistake);
    }

    [Theory]
    [InlineData("0.5", 0.5)]
    [InlineData("1", 1)]
    public void A_share_of_memory_is_read(string text, double share) =>
        Assert.Equal(share, Read(text, out List<string> mistakes).GpuMemoryUtilization + mistakes.Count);

    [Theory]
    [InlineData("0")]
    [InlineData("1.1")]
    [InlineData("-0.5")]
    [InlineData("90%")]
    public void What_is_no_share_is_refused(string text)
    {
        Read(text, out List<string> mistakes);
        Assert.StartsWith("--gpu-memory-utilization: ", Assert.Single(mistakes));
    }

#if !ILGPU
    [Fact]
    public void A_build_without_ilgpu_says_how_to_get_it() =>
        Assert.Contains("-p:Ilgpu=true", Assert.Throws<ArgumentException>(() => DevicePlace.Open(new ServerOptions { Device = "ilgpu:cuda" }, static _ => { })).Message);
#endif

    [Fact]
    public void Automatic_choice_says_what_and_why()
    {
        List<string> log = [];
        DevicePlace place = DevicePlace.Open(new ServerOptions(), log.Add);
        place.Close();
        string line = Assert.Single(log);
        Assert.Contains(place.Budget.HoldsWeights ? "the first CUDA device" : "the CPU, because ", line);
    }

    [Fact]
    public void A_driver_that_is_there_and_does_not_work_leaves_the_CPU()
    {
        foreach (Exception failure in (Exception[])[new GpuException("Could not open cuda:0: CUDA_ERROR_UNKNOWN (999)."), new EntryPointNotFoundException("cuGraphLaunch")])
        {
            foreach (bool tellsAtOnce in (bool[])[true, false])
            {
                List<string> log = [];
                DevicePlace place = DevicePlace.Auto(
                    new ServerOptions(), log.Add, () => tellsAtOnce ? throw failure : null, () => throw failure);
                place.Close();
                Assert.False(place.Budget.HoldsWeights);
                string line = Assert.Single(log);
                Assert.Contains("the CPU, because CUDA is there and does not work", line);
                Assert.Contains(failure.Message.TrimEnd('.'), line);
                Assert.Contains("--device cuda", line);
            }
        }
    }

    /// <summary>Over OpenCL, because any driver may fail at its first kernel.</summary>
    [OpenClFact]
    public void A_device_is_taken_automatically_when_a_kernel_has_run_on_it()
    {
        List<string> log = [];
        DevicePlace place = DevicePlace.Auto(new ServerOptions(), log.Add, static () => null, static () => GpuDevices.OpenTried(GpuApi.OpenCl, 0));
        place.Close();
        Assert.True(place.Budget.HoldsWeights);
        Assert.Contains("the first CUDA device", Assert.Single(log));
    }

    [CudaStandInFact]
    public void A_device_whose_kernels_fail_is_not_taken_automatically()
    {
        List<string> log = [];
        using CudaContext gpu = CudaDriver.Open();
        DevicePlace place = DevicePlace.Auto(new ServerOptions(), log.Add, static () => null, () =>
        {
            // A write behind a buffer's end: from then on every call fails.
            gpu.Kernel(KernelSource.FromText("outside.cl", "KERNEL(64) outside(GLOBAL int* y) { y[5] = 1; }"), "outside").Begin().Add(gpu.Allocate(20, "a test")).Run(64, 1);
            GpuDevices.Try(gpu);
            return gpu;
        });
        place.Close();
        Assert.False(place.Budget.HoldsWeights);
        Assert.Contains("CUDA_ERROR", Assert.Single(log));
    }

    [OpenClTheory]
    [InlineData("opencl:77")]
    [InlineData("opencl:3")]
    public void A_device_that_is_not_there_is_refused_with_those_that_are(string device)
    {
        string message = Assert.Throws<GpuException>(() => DevicePlace.Open(new ServerOptions { Device = device }, static _ => { })).Message;
        Assert.Contains(device, message);
        Assert.Contains("opencl:0 (", message);
    }

    [OpenClFact]
    public void An_opencl_device_bounds_what_may_be_used()
    {
        GpuInfo info = GpuDevices.All().First(static d => d.Id == "opencl:0");
        DevicePlace place = DevicePlace.Open(new ServerOptions { Device = "opencl", GpuMemoryUtilization = 0.25 }, static _ => { });
        place.Close();
        Assert.Equal(info.LargestBuffer, place.Budget.LargestBuffer);
        Assert.InRange(place.Budget.AvailableBytes, 1, info.TotalBytes / 4);
    }

    private static ServerOptions Read(string share, out List<string> mistakes) => OptionsReader.Read(
        new Dictionary<string, string[]> { ["gpu-memory-utilization"] = [share] }, new Hashtable(), new ConfigurationBuilder().Build(), mistakes = []);
}
