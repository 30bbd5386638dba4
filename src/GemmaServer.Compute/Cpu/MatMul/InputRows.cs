namespace GemmaServer.Compute;

/// <summary>The left side of a matrix product: rows at a fixed distance, all of them in order or some by index.</summary>
public readonly ref struct InputRows
{
    /// <summary>Rows 0 … <paramref name="count"/> − 1.</summary>
    /// <param name="data">First row first.</param>
    /// <param name="count">Rows, m.</param>
    /// <param name="stride">Floats from one row to the next.</param>
    public InputRows(ReadOnlySpan<float> data, int count, int stride)
    {
        Data = data;
        Count = count;
        Stride = stride;
    }

    /// <summary>The rows named by <paramref name="indices"/>, in that order; a row may come twice.</summary>
    /// <param name="data">First row first.</param>
    /// <param name="indices">Which rows; their number is m.</param>
    /// <param name="stride">Floats from one row to the next.</param>
    public InputRows(ReadOnlySpan<float> data, ReadOnlySpan<int> indices, int stride)
    {
        Data = data;
        Indices = indices;
        IsGathered = true;
        Count = indices.Length;
        Stride = stride;
    }

    /// <summary>All rows, first row first.</summary>
    public ReadOnlySpan<float> Data { get; }

    /// <summary>Row numbers in <see cref="Data"/>, where <see cref="IsGathered"/>.</summary>
    public ReadOnlySpan<int> Indices { get; }

    /// <summary>Whether rows are taken by <see cref="Indices"/>.</summary>
    public bool IsGathered { get; }

    /// <summary>Rows that take part, m.</summary>
    public int Count { get; }

    /// <summary>Floats from one row to the next.</summary>
    public int Stride { get; }

    /// <summary>Refuses rows that do not lie in <see cref="Data"/>.</summary>
    internal void Check(int columns)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(Count);
        if (Count > 1 && Stride < columns) throw new ArgumentException($"Rows of {columns} floats cannot lie {Stride} apart.");
        int last = Count - 1;
        if (IsGathered)
        {
            last = -1;
            foreach (int index in Indices)
            {
                ArgumentOutOfRangeException.ThrowIfNegative(index);
                last = Math.Max(last, index);
            }
        }
        if (last >= 0 && (long)last * Stride + columns > Data.Length)
        {
            throw new ArgumentException($"The input ends before row {last} does.");
        }
    }
}

/// <summary>Pinned rows inside a product.</summary>
internal readonly unsafe struct RowPointers(float* data, nint stride, int* indices)
{
    /// <summary>Start of row <paramref name="i"/>.</summary>
    public float* this[int i] => data + (indices == null ? i : indices[i]) * stride;
}
