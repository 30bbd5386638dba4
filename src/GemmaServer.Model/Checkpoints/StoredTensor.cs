using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>A tensor as a file describes it, its extent already checked against the file.</summary>
/// <param name="File">For messages.</param>
/// <param name="Name">As the file spells it.</param>
/// <param name="Type">Storage type.</param>
/// <param name="Shape">Outermost dimension first, all at least 1; empty for a single number.</param>
/// <param name="Data">First byte, in a mapping; not necessarily aligned in safetensors.</param>
/// <param name="Bytes">Length of the data.</param>
internal sealed record StoredTensor(string File, string Name, TensorType Type, long[] Shape, nint Data, long Bytes)
{
    /// <summary>4 or 8 where the elements are integers (a drafter's token ordering), which are no weights; 0 otherwise.</summary>
    public int IntegerBytes { get; init; }

    /// <summary>Number of elements.</summary>
    public long Elements
    {
        get
        {
            long n = 1;
            foreach (long d in Shape) n *= d; // Cannot overflow: the extent was checked when the header was read.
            return n;
        }
    }

    /// <summary>Innermost dimension.</summary>
    public long Columns => Shape.Length == 0 ? 1 : Shape[^1];

    /// <summary>All other dimensions together: experts are stacked along the rows.</summary>
    public long Rows => Elements / Columns;

    /// <summary>The form the rest of the program takes; the inner dimension fits an int, the header reader saw to it.</summary>
    public TensorSource ToSource() => new(Name, Type, Rows, (int)Columns, Data, Bytes);

    /// <summary>"[1408, 2816]".</summary>
    public static string Describe(IEnumerable<long> shape) => $"[{string.Join(", ", shape)}]";
}

/// <summary>The arithmetic on sizes that come from a file.</summary>
internal static class TensorExtent
{
    /// <summary>More bytes than any file here can have; products are kept below it so that nothing overflows.</summary>
    private const long Limit = 1L << 56;

    /// <summary>Bytes of a tensor, or null when a dimension is not positive, the inner one does not fit an int, or the whole is absurdly large.</summary>
    /// <param name="shape">Outermost first.</param>
    /// <param name="type">Storage type; the inner dimension must be whole blocks (checked by the caller, for its message).</param>
    public static long? Bytes(ReadOnlySpan<long> shape, TensorType type)
    {
        long elements = 1;
        foreach (long d in shape)
        {
            if (d <= 0 || d > Limit / elements) return null;
            elements *= d;
        }
        if (shape.Length > 0 && shape[^1] > int.MaxValue) return null;
        Int128 bytes = (Int128)(elements / TensorTypes.BlockLength(type)) * TensorTypes.BlockBytes(type);
        return bytes > Limit ? null : (long)bytes;
    }

    /// <summary>Refuses tensors of one file whose data share bytes.</summary>
    public static void RefuseOverlaps(List<StoredTensor> tensors)
    {
        StoredTensor[] sorted = [.. tensors.OrderBy(t => t.Data)];
        for (int i = 1; i < sorted.Length; i++)
        {
            StoredTensor a = sorted[i - 1], b = sorted[i];
            if (a.Data + (nint)a.Bytes > b.Data)
                throw new CheckpointException(b.File, b.Name, $"its data overlap those of {a.Name}");
        }
    }
}
