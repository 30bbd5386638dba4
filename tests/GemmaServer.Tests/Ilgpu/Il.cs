#if ILGPU
using System.Reflection;
using System.Reflection.Emit;

namespace GemmaServer.Tests.Ilgpu;

/// <summary>Reads methods' instructions.</summary>
internal static class Il
{
    private static readonly Dictionary<short, OpCode> s_opCodes = typeof(OpCodes).GetFields(BindingFlags.Public | BindingFlags.Static)
        .Select(static f => (OpCode)f.GetValue(null)!).ToDictionary(static o => o.Value);

    /// <summary>Operations in their order; what a call calls, else null.</summary>
    public static IEnumerable<(OpCode Op, MethodBase? Called)> Read(MethodBase method)
    {
        byte[] il = method.GetMethodBody()?.GetILAsByteArray() ?? [];
        Type[]? ofType = method.DeclaringType is { IsGenericType: true } type ? type.GetGenericArguments() : null;
        Type[]? ofMethod = method.IsGenericMethod ? method.GetGenericArguments() : null;
        for (int at = 0; at < il.Length;)
        {
            short code = il[at++];
            if (code == 0xFE) code = unchecked((short)(0xFE00 | il[at++]));
            OpCode op = s_opCodes[code];
            yield return (op, op.OperandType == OperandType.InlineMethod ? method.Module.ResolveMethod(BitConverter.ToInt32(il, at), ofType, ofMethod) : null);
            at += op.OperandType switch
            {
                OperandType.InlineNone => 0,
                OperandType.ShortInlineBrTarget or OperandType.ShortInlineI or OperandType.ShortInlineVar => 1,
                OperandType.InlineVar => 2,
                OperandType.InlineI8 or OperandType.InlineR => 8,
                OperandType.InlineSwitch => 4 + 4 * BitConverter.ToInt32(il, at),
                _ => 4,
            };
        }
    }
}
#endif
