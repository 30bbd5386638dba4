#if ILGPU
using System.Reflection;
using GemmaServer.Compute.Ilgpu;
using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Tests.Ilgpu;

/// <summary>
/// ILGPU's copies take a reference for the address of pinned memory. An array that the collector moves during such a copy is read,
/// or something else overwritten, in its old place: rarely, and then anything may happen.
/// </summary>
[Trait("Category", "Ilgpu")]
public sealed class HostCopyTests
{
    [Fact]
    public void Nothing_but_the_copies_that_pin_calls_ILGPUs()
    {
        int methods = 0;
        List<string> callers = [];
        foreach (Type type in typeof(HostCopies).Assembly.GetTypes())
        {
            foreach (MethodBase method in type.GetMembers(BindingFlags.DeclaredOnly | BindingFlags.Instance | BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic).OfType<MethodBase>())
            {
                methods++;
                if (Copies(method)) callers.Add($"{type.Name}.{method.Name}");
            }
        }
        Assert.True(methods > 200, $"only {methods} methods were read");
        callers.Sort(StringComparer.Ordinal);
        Assert.Equal(["HostCopies.Fetch", "HostCopies.Send"], callers);
    }

    [Fact]
    public void What_is_looked_for_is_found() =>
        Assert.True(Copies(typeof(HostCopyTests).GetMethod(nameof(CopiesUnpinned), BindingFlags.NonPublic | BindingFlags.Static)!));

    [Fact]
    public void Parts_of_arrays_come_and_go()
    {
        using IlgpuRuntime runtime = new(IlgpuBackend.Cpu);
        using MemoryBuffer1D<int, Stride1D.Dense> buffer = runtime.Allocate<int>(10);
        ArrayView<int> view = buffer.View;
        view.SubView(2, 5).Send([1, 2, 3]);
        int[] back = [-1, -1, -1, -1, -1, -1, -1];
        view.Fetch(back.AsSpan(1, 5));
        Assert.Equal([-1, 0, 0, 1, 2, 3, -1], back);
        view.Send([]);
        view.Fetch([]);
    }

    private static bool Copies(MethodBase method) => Il.Read(method).Any(static i =>
        i.Called is { } called && called.DeclaringType?.Assembly == typeof(ArrayView<int>).Assembly && called.Name.StartsWith("Copy", StringComparison.Ordinal) && called.Name.Contains("CPU", StringComparison.Ordinal));

    private static void CopiesUnpinned(ArrayView<int> view, int[] to) => view.CopyToCPU(ref to[0], to.Length);
}
#endif
