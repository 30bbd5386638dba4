using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>A test that runs kernels through OpenCL: on PoCL, the processor's own driver, or on a GPU. Skipped, saying so, where there is no driver.</summary>
public sealed class OpenClFactAttribute : FactAttribute
{
    public OpenClFactAttribute() => Skip = OpenClDriver.Missing;
}

/// <summary>As <see cref="OpenClFactAttribute"/>, with data.</summary>
public sealed class OpenClTheoryAttribute : TheoryAttribute
{
    public OpenClTheoryAttribute() => Skip = OpenClDriver.Missing;
}

internal static class OpenClDriver
{
    /// <summary>Why nothing can run; null where it can.</summary>
    public static string? Missing { get; } = OpenClDevices.All().Count > 0 ? null : "No OpenCL device; on Debian, pocl-opencl-icd runs kernels on the processor.";
}
