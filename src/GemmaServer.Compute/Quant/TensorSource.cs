namespace GemmaServer.Compute;

/// <summary>
/// A weight as it lies in a mapped file: <paramref name="Rows"/> rows of <paramref name="Columns"/> elements, row-major,
/// each row a whole number of blocks. The mapping must outlive every use.
/// </summary>
/// <param name="Name">For messages.</param>
/// <param name="Type">Storage type.</param>
/// <param name="Rows">Output dimension; experts are stacked along it.</param>
/// <param name="Columns">Input dimension, the contiguous one.</param>
/// <param name="Data">First byte.</param>
/// <param name="Bytes">Length; checked against the shape by the loader.</param>
public readonly record struct TensorSource(string Name, TensorType Type, long Rows, int Columns, nint Data, long Bytes)
{
    /// <summary>Matrices of one height that its rows are, one below the other: a mixture's experts. A device that splits it keeps each whole.</summary>
    public int Stacks { get; init; } = 1;
}
