namespace GemmaServer.Compute;

/// <summary>Activations in native memory.</summary>
internal sealed unsafe class CpuTensor(int rows, int columns) : DeviceTensor(rows, columns)
{
    private readonly AlignedBuffer _memory = new((long)rows * columns * sizeof(float));

    public float* Data => (float*)_memory.Pointer;

    public float* Row(int row) => Data + (long)row * Columns;

    public Span<float> RowSpan(int row) => new(Row(row), Columns);

    /// <summary>Every row, as one span.</summary>
    public Span<float> All => new(Data, checked(Rows * Columns));

    /// <summary>The first rows as input of a product.</summary>
    public InputRows Input(int count) => new(All, count, Columns);

    public override void Read(Span<float> values) => All[..values.Length].CopyTo(values);

    public override void Write(ReadOnlySpan<float> values) => values.CopyTo(All);

    public override void Dispose() => _memory.Dispose();
}

/// <summary>Weights where they lie in the mapped file.</summary>
internal sealed class CpuMatrix(CpuWeights weights) : DeviceMatrix(weights.Rows, weights.Columns)
{
    public CpuWeights Weights { get; } = weights;

    public override void Dispose()
    {
        // The mapping belongs to the checkpoint.
    }
}

/// <summary>A vector as a plain array.</summary>
internal sealed class CpuVector(float[] values) : DeviceVector(values.Length)
{
    public float[] Values { get; } = values;

    public override void Dispose()
    {
    }
}
