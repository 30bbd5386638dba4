using GemmaServer.Compute;
using GemmaServer.Tests;

namespace GemmaServer.GoldenTests;

/// <summary>The devices that reference models run on here: the CPU, and those of <see cref="TestDevices"/> that are there.</summary>
internal static class GoldenDevices
{
    public const string Cpu = "cpu";

    /// <summary>Opens one; what is not the CPU's runs one kernel for all batch sizes where a test compares bits.</summary>
    public static IComputeDevice Open(string name, ActivationType activations, float epsilon, int threads, bool batchInvariant) =>
        name == Cpu ? new CpuDevice(threads, activations, epsilon) : TestDevices.Open(name, activations, batchInvariant);

    /// <summary>Every case on the CPU, and <paramref name="elsewhere"/> (all, when it is not given) on the other devices.</summary>
    /// <param name="cases">Data beside the device.</param>
    /// <param name="elsewhere">Data on other devices.</param>
    /// <param name="slow">Whether also a device that is slow gets one case.</param>
    /// <param name="simulated">Whether also a simulator, for which a launch is slow: not where thousands of steps show the engine at work.</param>
    public static IEnumerable<object[]> With(IEnumerable<object[]> cases, IEnumerable<object[]>? elsewhere = null, bool slow = true, bool simulated = true) =>
        On([Cpu], cases).Concat(On(TestDevices.Names.Where(d => (slow || !IsSlow(d)) && (simulated || d != TestDevices.Simulator)), elsewhere ?? cases));

    /// <summary>A test without further data, once for each device.</summary>
    public static IEnumerable<object[]> Each(bool slow = true, bool simulated = true) => With([[]], slow: slow, simulated: simulated);

    /// <summary>Every case on every device that is not the CPU.</summary>
    public static IEnumerable<object[]> Elsewhere(IEnumerable<object[]> cases) => On(TestDevices.Names, cases);

    private static IEnumerable<object[]> On(IEnumerable<string> devices, IEnumerable<object[]> cases) =>
        devices.SelectMany(d => (IsSlow(d) ? cases.Take(1) : cases).Select(c => (object[])[d, .. c]));

    // The stand-in for CUDA's driver runs a thread of the GPU after the other.
    private static bool IsSlow(string device) => device == "cuda" && CudaDriver.IsStandIn;
}
