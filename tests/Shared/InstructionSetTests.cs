using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>
/// Holds what this process may use against the level it was asked to run at (GEMMASERVER_TEST_LEVEL), so that a renamed switch of
/// the runtime cannot let kernel tests pass on wider registers than they are meant for.
/// </summary>
[Trait("Category", "Kernels")]
public sealed class InstructionSetTests
{
    [Fact]
    public void Nothing_wider_than_the_level_asked_for_is_in_force()
    {
        string? level = Environment.GetEnvironmentVariable("GEMMASERVER_TEST_LEVEL");
        int most = level switch { null => 4, "avx-vnni" => 3, "avx2" => 2, "sse" => 1, "scalar" => 0, _ => throw new ArgumentException($"No level {level}.") };
        if (most < 4)
        {
            Assert.False(AssembledTiles.IsSupported);
            Assert.False(Avx512F.IsSupported);
            Assert.False(Vector512.IsHardwareAccelerated);
        }
        if (most < 3) Assert.False(AvxVnni.IsSupported);
        if (most < 2) Assert.False(Avx2.IsSupported || Vector256.IsHardwareAccelerated);
        if (most < 1) Assert.False(X86Base.IsSupported || Vector128.IsHardwareAccelerated);
        // What is left must still be there: a level is not reached by switching off more than it says.
        if (most > 0) Assert.True(Vector128.IsHardwareAccelerated);
        Console.WriteLine($"Kernels of level {level ?? "machine"}: AVX-512 VNNI {AssembledTiles.IsSupported}, AVX-VNNI {AvxVnni.IsSupported}, AVX2 {Avx2.IsSupported}, SIMD {Vector128.IsHardwareAccelerated}");
    }
}
