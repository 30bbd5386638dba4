#if ILGPU
using System.Reflection;
using GemmaServer.Compute.Ilgpu;

namespace GemmaServer.Tests.Ilgpu;

/// <summary>Every kernel of the ILGPU device, found by reflection, so that none is forgotten.</summary>
internal static class IlgpuKernels
{
    private static readonly Type[] s_families =
        [.. typeof(RowKernels).Assembly.GetTypes().Where(static t => t is { IsAbstract: true, IsSealed: true } && t.Name.EndsWith("Kernels", StringComparison.Ordinal))];

    /// <summary>Public methods of the kernel classes; generic ones once for each type that they take.</summary>
    public static IReadOnlyList<MethodInfo> All { get; } = [.. s_families.SelectMany(f => f.GetMethods(BindingFlags.Public | BindingFlags.Static)).SelectMany(Closed)];

    public static string Name(MethodInfo kernel) =>
        $"{kernel.DeclaringType!.Name}.{kernel.Name}{(kernel.IsGenericMethod ? $"<{kernel.GetGenericArguments()[0].Name}>" : "")}";

    private static IEnumerable<MethodInfo> Closed(MethodInfo kernel)
    {
        if (!kernel.IsGenericMethodDefinition) return [kernel];
        Type constraint = kernel.GetGenericArguments()[0].GetGenericParameterConstraints().Single(static c => c.IsInterface);
        return constraint.Assembly.GetTypes().Where(t => t.IsValueType && constraint.IsAssignableFrom(t)).Select(t => kernel.MakeGenericMethod(t));
    }
}
#endif
