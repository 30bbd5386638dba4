using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>
/// A test that runs kernels through OpenCL: on PoCL, the processor's own driver, or on a GPU. Skipped, saying so, where there is no driver.
/// With GEMMASERVER_TEST_GPU=cuda, <see cref="OpenClDriver.OpenContext"/> goes through CUDA, and the same tests are CUDA's.
/// </summary>
public sealed class OpenClFactAttribute : FactAttribute
{
    public OpenClFactAttribute() => Skip = OpenClDriver.IsReplacedByCuda ? CudaDriver.Missing : OpenClDriver.Missing;
}

/// <summary>As <see cref="OpenClFactAttribute"/>, with data.</summary>
public sealed class OpenClTheoryAttribute : TheoryAttribute
{
    public OpenClTheoryAttribute() => Skip = OpenClDriver.IsReplacedByCuda ? CudaDriver.Missing : OpenClDriver.Missing;
}

internal static class OpenClDriver
{
    /// <summary>Why nothing can run; null where it can.</summary>
    public static string? Missing { get; } = OpenClDevices.All().Count > 0 ? null : "No OpenCL device; on Debian, pocl-opencl-icd runs kernels on the processor.";

    /// <summary>Whether this run's single-kernel tests go through CUDA.</summary>
    public static bool IsReplacedByCuda { get; } = Environment.GetEnvironmentVariable("GEMMASERVER_TEST_GPU") == "cuda";

    /// <summary>A context for tests of single kernels.</summary>
    public static GpuContext OpenContext() => IsReplacedByCuda ? CudaDriver.Open() : new OpenClContext(0);
}
