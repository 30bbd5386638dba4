using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>The only way between the device and memory of .NET.</summary>
/// <remarks>
/// ILGPU's own copies take a reference for the address of memory that is pinned, and do not pin it: when the collector moves the
/// array meanwhile, they read or overwrite whatever lies there then. A test looks for other callers.
/// </remarks>
internal static unsafe class HostCopies
{
    /// <summary>To the device, into the view's first elements.</summary>
    public static void Send<T>(this ArrayView<T> to, ReadOnlySpan<T> from) where T : unmanaged
    {
        if (from.IsEmpty) return;
        fixed (T* p = from) to.SubView(0, from.Length).CopyFromCPU(ref *p, from.Length);
    }

    /// <summary>From the view's first elements.</summary>
    public static void Fetch<T>(this ArrayView<T> from, Span<T> to) where T : unmanaged
    {
        if (to.IsEmpty) return;
        fixed (T* p = to) from.SubView(0, to.Length).CopyToCPU(ref *p, to.Length);
    }
}
