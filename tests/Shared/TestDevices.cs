using GemmaServer.Compute;
#if ILGPU
using GemmaServer.Compute.Ilgpu;
#endif

namespace GemmaServer.Tests;

/// <summary>A test that every device of the contract passes that can run here; skipped, saying so, where none but the CPU's can.</summary>
public sealed class DeviceTheoryAttribute : TheoryAttribute
{
    public DeviceTheoryAttribute() => Skip = TestDevices.Names.Count > 0 ? null : $"{OpenClDriver.Missing} {CudaDriver.Missing}";
}

/// <summary>The same for devices that round activations to bf16 where so asked.</summary>
public sealed class RoundingTheoryAttribute : TheoryAttribute
{
    public RoundingTheoryAttribute() => Skip = TestDevices.RoundingToBf16.Any() ? null : CudaDriver.Missing;
}

/// <summary>The devices beside the CPU's that can run here, by the names that --device takes.</summary>
public static class TestDevices
{
    /// <summary>For <c>[MemberData]</c>.</summary>
    public static TheoryData<string> All => [.. Names];

    /// <summary>Those that do something of their own with activations of bf16; OpenCL's computes exactly then.</summary>
    internal static IEnumerable<string> RoundingToBf16 => Names.Where(static n => n != "opencl");

    internal static IReadOnlyList<string> Names { get; } = Find();

    /// <summary>Opens one of <see cref="Names"/>.</summary>
    /// <param name="name">Which.</param>
    /// <param name="activations">Its arithmetic.</param>
    /// <param name="batchInvariant">Whether a row's bits do not depend on the batch.</param>
    /// <param name="adjust">Changes what else <see cref="Gpus"/> are opened with.</param>
    internal static IComputeDevice Open(
        string name, ActivationType activations = ActivationType.F32, bool batchInvariant = false, Func<GpuOptions, GpuOptions>? adjust = null) => name switch
    {
        "opencl" => new GpuDevice(new OpenClContext(0), Options(activations, batchInvariant, adjust)),
        "cuda" => new GpuDevice(CudaDriver.Open(), Options(activations, batchInvariant, adjust)),
#if ILGPU
        Simulator => IlgpuDevices.Open(name, new IlgpuOptions(activations, batchInvariant)),
#endif
        _ => throw new ArgumentException($"No device is called {name}."),
    };

    /// <summary>Devices of <see cref="GpuDevice"/>.</summary>
    public static TheoryData<string> Gpus => [.. Names.Where(static n => n != Simulator)];

    /// <summary>ILGPU's, which runs .NET code.</summary>
    public const string Simulator = "ilgpu:cpu";

    private static GpuOptions Options(ActivationType activations, bool batchInvariant, Func<GpuOptions, GpuOptions>? adjust)
    {
        GpuOptions options = new(activations, batchInvariant);
        return adjust is null ? options : adjust(options);
    }

    private static List<string> Find()
    {
        List<string> names = [];
        if (OpenClDriver.Missing is null) names.Add("opencl");
        if (CudaDriver.Missing is null) names.Add("cuda");
#if ILGPU
        names.Add(Simulator);
#endif
        return names;
    }
}
