namespace GemmaServer.Compute;

/// <summary>
/// A weight matrix <c>[Rows, Columns]</c> made of one or more tensors stacked by rows (fused QKV, gate over up, experts),
/// each in its own type. It refers to the mapping it was opened from, which must outlive it.
/// </summary>
public sealed unsafe class CpuWeights
{
    /// <summary>One tensor of the stack.</summary>
    internal readonly record struct Part(TensorType Type, nint Data, long RowBytes, int FirstRow, int Rows)
    {
        /// <summary>First row after it.</summary>
        public int End => FirstRow + Rows;

        /// <summary>Start of a row; <paramref name="row"/> counts from the top of the stack.</summary>
        public byte* Row(int row) => (byte*)Data + (row - FirstRow) * RowBytes;
    }

    private readonly Part[] _parts;

    /// <summary>Stacks <paramref name="parts"/> in their order.</summary>
    /// <exception cref="ArgumentException">
    /// No part, parts of different width, rows that are no whole number of blocks, or fewer bytes than the shape needs.
    /// </exception>
    public CpuWeights(params ReadOnlySpan<TensorSource> parts)
    {
        if (parts.IsEmpty) throw new ArgumentException("A weight needs at least one tensor.", nameof(parts));
        Columns = parts[0].Columns;
        _parts = new Part[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            TensorSource source = parts[i];
            if (source.Columns != Columns)
            {
                throw new ArgumentException($"{source.Name} has {source.Columns} columns, {parts[0].Name} has {Columns}.", nameof(parts));
            }
            long rowBytes = WeightRows.CheckedRowBytes(source);
            HasFloatPart |= !WeightRows.IsQuantised(source.Type);
            HasQuantisedPart |= WeightRows.IsQuantised(source.Type);
            _parts[i] = new Part(source.Type, source.Data, rowBytes, Rows, checked((int)source.Rows));
            Rows = checked(Rows + (int)source.Rows);
        }
    }

    /// <summary>Output dimension, all parts together.</summary>
    public int Rows { get; }

    /// <summary>Input dimension.</summary>
    public int Columns { get; }

    /// <summary>Whether some rows are F32, F16 or BF16.</summary>
    internal bool HasFloatPart { get; }

    /// <summary>Whether some rows have integer codes.</summary>
    internal bool HasQuantisedPart { get; }

    /// <summary>One row in f32, as for embeddings.</summary>
    /// <param name="row">0 … Rows − 1.</param>
    /// <param name="dst">Values, <c>[Columns]</c>.</param>
    /// <exception cref="ArgumentOutOfRangeException">No such row.</exception>
    /// <exception cref="ArgumentException"><paramref name="dst"/> is shorter than a row.</exception>
    public void DecodeRow(int row, Span<float> dst)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, Rows);
        if (dst.Length < Columns) throw new ArgumentException("The destination is shorter than a row.", nameof(dst));
        ref readonly Part part = ref PartOf(row);
        fixed (float* to = dst) WeightRows.Dequantize(part.Type, part.Row(row), Columns, to);
    }

    /// <summary>The tensor that holds <paramref name="row"/>. Stacks are short, so a walk finds it.</summary>
    internal ref readonly Part PartOf(int row)
    {
        int i = 0;
        while (row >= _parts[i].End) i++;
        return ref _parts[i];
    }
}
