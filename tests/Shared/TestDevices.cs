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

/// <summary>The devices beside the CPU's that can run here, by the names that --device takes.</summary>
public static class TestDevices
{
    /// <summary>For <c>[MemberData]</c>.</summary>
    public static TheoryData<string> All => [.. Names];

    internal static IReadOnlyList<string> Names { get; } = Find();

    /// <summary>Opens one of <see cref="Names"/>.</summary>
    internal static IComputeDevice Open(string name, ActivationType activations = ActivationType.F32, bool batchInvariant = false) => name switch
    {
        "opencl" => new GpuDevice(new OpenClContext(0), new GpuOptions(activations, batchInvariant)),
        "cuda" => new GpuDevice(CudaDriver.Open(), new GpuOptions(activations, batchInvariant)),
#if ILGPU
        Simulator => IlgpuDevices.Open(name, new IlgpuOptions(activations, batchInvariant)),
#endif
        _ => throw new ArgumentException($"No device is called {name}."),
    };

    /// <summary>ILGPU's, which runs .NET code.</summary>
    public const string Simulator = "ilgpu:cpu";

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
