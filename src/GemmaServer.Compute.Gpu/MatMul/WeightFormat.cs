namespace GemmaServer.Compute;

/// <summary>
/// How the blocks of a storage type are taken apart into planes, so that every load is aligned and lanes side by side read bytes
/// side by side. Bytes stay as many as in the file; weights are in groups of 32 columns:
/// <code>
/// codes    [groups][4 · CodeBits]     see weights.h; of float types the values
/// high     [groups][4 · HighBits]     a fifth bit, a sixth
/// scales   [blocks][ScaleBytes]
/// more     [blocks][MoreBytes]        what scales the scales, where it does not stand beside them
/// </code>
/// Float rows are filled up with zeros to whole groups.
/// </summary>
/// <param name="Type">The storage type.</param>
/// <param name="Block">Elements of a block; 32 for float types.</param>
/// <param name="CodeBits">Bits of an element in the first plane.</param>
/// <param name="CodesAt">Where they lie in a block, in bytes.</param>
/// <param name="HighBits">Bits of an element in the second plane.</param>
/// <param name="HighAt">Where they lie.</param>
/// <param name="ScaleBytes">Bytes of a block in the third plane.</param>
/// <param name="ScalesAt">Where they lie.</param>
/// <param name="MoreBytes">Bytes of a block in the fourth plane.</param>
/// <param name="MoreAt">Where they lie.</param>
internal sealed record WeightFormat(
    TensorType Type, int Block, int CodeBits, int CodesAt, int HighBits = 0, int HighAt = 0, int ScaleBytes = 0, int ScalesAt = 0, int MoreBytes = 0, int MoreAt = 0)
{
    /// <summary>Columns of a group.</summary>
    public const int Group = 32;

    /// <summary>What plane offsets count in: every plane begins at a multiple, and a kernel gets them as 32-bit numbers.</summary>
    public const int Unit = 256;

    private static readonly WeightFormat[] s_all =
    [
        new(TensorType.F32, 32, 32, 0),
        new(TensorType.F16, 32, 16, 0),
        new(TensorType.BF16, 32, 16, 0),
        new(TensorType.Q4_0, 32, 4, 2, ScaleBytes: 2),
        new(TensorType.Q4_1, 32, 4, 4, ScaleBytes: 4),
        new(TensorType.Q5_0, 32, 4, 6, HighBits: 1, HighAt: 2, ScaleBytes: 2),
        new(TensorType.Q5_1, 32, 4, 8, HighBits: 1, HighAt: 4, ScaleBytes: 4),
        new(TensorType.Q8_0, 32, 8, 2, ScaleBytes: 2),
        new(TensorType.Q2_K, 256, 2, 16, ScaleBytes: 16, ScalesAt: 0, MoreBytes: 4, MoreAt: 80),
        new(TensorType.Q3_K, 256, 2, 32, HighBits: 1, HighAt: 0, ScaleBytes: 12, ScalesAt: 96, MoreBytes: 2, MoreAt: 108),
        new(TensorType.Q4_K, 256, 4, 16, ScaleBytes: 16),
        new(TensorType.Q5_K, 256, 4, 48, HighBits: 1, HighAt: 16, ScaleBytes: 16),
        new(TensorType.Q6_K, 256, 4, 0, HighBits: 2, HighAt: 128, ScaleBytes: 16, ScalesAt: 192, MoreBytes: 2, MoreAt: 208),
        new(TensorType.IQ4_NL, 32, 4, 2, ScaleBytes: 2),
        new(TensorType.IQ4_XS, 256, 4, 8, ScaleBytes: 8),
        new(TensorType.MXFP4, 32, 4, 1, ScaleBytes: 1),
    ];

    /// <summary>Bytes of a block in the file; of 32 values in float types.</summary>
    public int BlockBytes { get; } = TensorTypes.Block(Type).Bytes * (Block / TensorTypes.Block(Type).Length);

    /// <summary>Whether products may be in integers.</summary>
    public bool IsQuantised => ScaleBytes > 0;

    /// <exception cref="NotSupportedException">Not a storage type.</exception>
    public static WeightFormat Of(TensorType type) =>
        Array.Find(s_all, f => f.Type == type) ?? throw new NotSupportedException($"No matrix product for tensors of type {type}.");

    /// <summary>What <c>weights.h</c> wants defined: pass it, with whatever else a kernel needs, as a source's constants.</summary>
    public (string Name, int Value)[] Constants(params ReadOnlySpan<(string Name, int Value)> more) =>
        [("TYPE", (int)Type), ("BLOCK", Block), ("CODE_BITS", CodeBits), ("HIGH_BITS", HighBits), .. more];

    /// <summary>Where the planes of so many groups begin, and the bytes of them all.</summary>
    public (long High, long Scales, long More, long Bytes) Planes(long groups)
    {
        long blocks = groups / (Block / Group);
        long high = Aligned(groups * 4 * CodeBits), scales = high + Aligned(groups * 4 * HighBits), more = scales + Aligned(blocks * ScaleBytes);
        return (high, scales, more, more + Aligned(blocks * MoreBytes));
    }

    private static long Aligned(long bytes) => (bytes + Unit - 1) / Unit * Unit;
}
