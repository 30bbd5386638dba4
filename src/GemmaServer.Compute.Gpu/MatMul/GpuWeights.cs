namespace GemmaServer.Compute;

/// <summary>A weight matrix on the device.</summary>
internal sealed class GpuMatrix(int rows, int columns) : DeviceMatrix(rows, columns)
{
    public override void Dispose() => throw new NotImplementedException();
}

/// <summary>Brings weights onto the device.</summary>
internal sealed class GpuWeights(GpuContext gpu) : IDisposable
{
    private readonly GpuContext _gpu = gpu;

    public long Bytes { get; private set; }

    public GpuMatrix Load(ReadOnlySpan<TensorSource> parts) => throw new NotImplementedException();

    public GpuMatrix LoadTable(TensorSource source) => throw new NotImplementedException();

    public void Dispose() { }
}
