#if ILGPU
using System.Reflection;
using System.Reflection.Emit;

namespace GemmaServer.Tests.Ilgpu;

/// <summary>
/// ILGPU 1.5.3 compiles (byte)sbyte and (ushort)short to nothing for CUDA and OpenCL, so negative values stay negative; its
/// simulator does it right. No kernel, and nothing that kernels call, may touch an sbyte or a short.
/// </summary>
[Trait("Category", "Ilgpu")]
public sealed class SignedViewTests
{
    private static readonly HashSet<OpCode> s_signed =
    [
        OpCodes.Conv_I1, OpCodes.Conv_I2, OpCodes.Conv_Ovf_I1, OpCodes.Conv_Ovf_I2, OpCodes.Ldind_I1, OpCodes.Ldind_I2, OpCodes.Ldelem_I1, OpCodes.Ldelem_I2,
    ];

    [Fact]
    public void Kernels_see_no_signed_bytes_or_shorts()
    {
        HashSet<MethodBase> seen = [];
        List<string> bad = [];
        foreach (MethodInfo kernel in IlgpuKernels.All) Walk(kernel, seen, bad);
        Assert.True(seen.Count > IlgpuKernels.All.Count + 20, $"only {seen.Count} methods were read");
        Assert.Empty(bad);
    }

    [Theory]
    [InlineData(nameof(CastsASignedByte))]
    [InlineData(nameof(CastsAShort))]
    [InlineData(nameof(HasAShortInside))]
    public void What_is_looked_for_is_found(string method)
    {
        List<string> bad = [];
        Walk(typeof(SignedViewTests).GetMethod(method, BindingFlags.NonPublic | BindingFlags.Static)!, [], bad);
        Assert.NotEmpty(bad);
    }

    private static int CastsASignedByte(sbyte value) => (byte)value;

    private static int CastsAShort(int value) => (ushort)(short)value;

    private static int HasAShortInside(int value) => CastsAShort(value);

    /// <summary>A method, and what it calls in its own assembly.</summary>
    private static void Walk(MethodBase method, HashSet<MethodBase> seen, List<string> bad)
    {
        if (!seen.Add(method)) return;
        MethodBody? body = method.GetMethodBody();
        if (body is null) return;
        IEnumerable<Type> types = method.GetParameters().Select(static p => p.ParameterType).Concat(body.LocalVariables.Select(static l => l.LocalType));
        if (method is MethodInfo { ReturnType: { } result }) types = types.Append(result);
        if (types.Any(IsSigned)) bad.Add($"{method.DeclaringType}.{method.Name} has a signed byte or short");

        foreach ((OpCode op, MethodBase? to) in Il.Read(method))
        {
            if (s_signed.Contains(op)) bad.Add($"{method.DeclaringType}.{method.Name}: {op.Name}");
            MethodBase? called = to;
            // A format's own method stands behind the interface's.
            if (op == OpCodes.Call && called is { IsAbstract: true } && method is MethodInfo { IsGenericMethod: true } generic && generic.GetGenericArguments() is [{ } implementation])
                called = implementation.GetMethod(called.Name, BindingFlags.Public | BindingFlags.Static)!;
            if (called?.Module == method.Module) Walk(called!, seen, bad);
        }
    }

    private static bool IsSigned(Type type) =>
        type == typeof(sbyte) || type == typeof(short) || (type.IsGenericType && type.GetGenericArguments().Any(IsSigned)) || (type.HasElementType && IsSigned(type.GetElementType()!));
}
#endif
