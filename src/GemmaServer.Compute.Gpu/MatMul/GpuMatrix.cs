namespace GemmaServer.Compute;

/// <summary>One tensor of a matrix on the device, in the planes of its <see cref="WeightFormat"/>.</summary>
/// <param name="Format">Its type.</param>
/// <param name="Buffer">All planes; the codes first.</param>
/// <param name="FirstRow">Its first row in the matrix.</param>
/// <param name="Rows">Its rows.</param>
/// <param name="RowGroups">Groups of 32 columns in a row.</param>
/// <param name="High">Where a plane begins, in <see cref="WeightFormat.Unit"/>s.</param>
/// <param name="Scales">Where a plane begins.</param>
/// <param name="More">Where a plane begins.</param>
internal sealed record GpuPart(WeightFormat Format, GpuBuffer Buffer, int FirstRow, int Rows, int RowGroups, int High, int Scales, int More)
{
    /// <summary>First row after it.</summary>
    public int End => FirstRow + Rows;

    /// <summary>The four arguments that WEIGHTS(…) of <c>weights.h</c> declares.</summary>
    public KernelCall AddTo(KernelCall call) => call.Add(Buffer).Add(High).Add(Scales).Add(More);
}

/// <summary>A weight matrix on the device: parts stacked by rows, each with its own type.</summary>
internal sealed class GpuMatrix(GpuWeights owner, GpuPart[] parts, int rows, int columns) : DeviceMatrix(rows, columns)
{
    /// <summary>In the order of their rows.</summary>
    public GpuPart[] Parts { get; } = parts;

    /// <summary>Whether some rows have integer codes.</summary>
    public bool HasQuantisedPart { get; } = Array.Exists(parts, static p => p.Format.IsQuantised);

    /// <summary>Bytes on the device.</summary>
    public long Bytes { get; } = parts.Sum(static p => p.Buffer.Bytes);

    public override void Dispose() => owner.Free(this);
}
