namespace GemmaServer.Compute;

/// <summary>Block geometry and names of ggml's storage types.</summary>
/// <remarks>Source: ggml <c>type_traits</c> in <c>ggml.c</c> and the block structs in <c>ggml-common.h</c>.</remarks>
public static unsafe class TensorTypes
{
    /// <summary>Every id ggml has given out that a file may hold, supported here or not; removed ids are left out.</summary>
    private static readonly Dictionary<int, string> s_names = new()
    {
        [0] = "F32", [1] = "F16", [2] = "Q4_0", [3] = "Q4_1", [6] = "Q5_0", [7] = "Q5_1", [8] = "Q8_0", [9] = "Q8_1",
        [10] = "Q2_K", [11] = "Q3_K", [12] = "Q4_K", [13] = "Q5_K", [14] = "Q6_K", [15] = "Q8_K",
        [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",
        [22] = "IQ2_S", [23] = "IQ4_XS", [24] = "I8", [25] = "I16", [26] = "I32", [27] = "I64", [28] = "F64",
        [29] = "IQ1_M", [30] = "BF16", [34] = "TQ1_0", [35] = "TQ2_0", [39] = "MXFP4", [40] = "NVFP4",
    };

    /// <summary>The types that can be loaded, for messages: "F32, F16, …".</summary>
    public static string SupportedNames { get; } = string.Join(", ", Enum.GetNames<TensorType>());

    /// <summary>Elements in one block; 1 for the plain number types.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Not a member of the enum.</exception>
    public static int BlockLength(TensorType type) => Block(type).Length;

    /// <summary>Bytes of one block.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Not a member of the enum.</exception>
    public static int BlockBytes(TensorType type) => Block(type).Bytes;

    /// <summary>Whether weights of this ggml type id can be loaded.</summary>
    public static bool IsSupported(int ggmlType) => Enum.IsDefined((TensorType)ggmlType);

    /// <summary>ggml's name of a type id, also for types that cannot be loaded ("IQ2_XXS"); "type 77" for an unknown id.</summary>
    public static string Name(int ggmlType) =>
        s_names.TryGetValue(ggmlType, out string? name) ? name : $"type {ggmlType}";

    /// <summary>Elements and bytes of a block.</summary>
    internal static (int Length, int Bytes) Block(TensorType type) => type switch
    {
        TensorType.F32 => (1, 4),
        TensorType.F16 or TensorType.BF16 => (1, 2),
        TensorType.Q4_0 => Size<Q4_0Block>(),
        TensorType.Q4_1 => Size<Q4_1Block>(),
        TensorType.Q5_0 => Size<Q5_0Block>(),
        TensorType.Q5_1 => Size<Q5_1Block>(),
        TensorType.Q8_0 => Size<Q8_0Block>(),
        TensorType.Q2_K => Size<Q2_KBlock>(),
        TensorType.Q3_K => Size<Q3_KBlock>(),
        TensorType.Q4_K => Size<Q4_KBlock>(),
        TensorType.Q5_K => Size<Q5_KBlock>(),
        TensorType.Q6_K => Size<Q6_KBlock>(),
        TensorType.IQ4_NL => Size<IQ4_NLBlock>(),
        TensorType.IQ4_XS => Size<IQ4_XSBlock>(),
        TensorType.MXFP4 => Size<MXFP4Block>(),
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "Not a storage type."),
    };

    // The block structs are the one place that knows.
    private static (int Length, int Bytes) Size<TBlock>() where TBlock : unmanaged, IQuantBlock<TBlock> => (TBlock.Length, sizeof(TBlock));
}
