namespace GemmaServer.Compute;

/// <summary>Activations on the device.</summary>
internal sealed unsafe class GpuTensor(GpuContext gpu, int rows, int columns) : DeviceTensor(rows, columns)
{
    public GpuBuffer Buffer { get; } = gpu.Allocate((long)rows * columns * sizeof(float), "activations");

    public override void Read(Span<float> values)
    {
        fixed (float* p = values) gpu.Download(p, Buffer, 0, (long)values.Length * sizeof(float));
    }

    public override void Write(ReadOnlySpan<float> values)
    {
        fixed (float* p = values) gpu.Upload(Buffer, 0, p, (long)values.Length * sizeof(float));
    }

    public override void Dispose() => gpu.Free(Buffer);
}

/// <summary>A vector on the device.</summary>
internal sealed unsafe class GpuVector : DeviceVector
{
    private readonly GpuContext _gpu;

    public GpuVector(GpuContext gpu, ReadOnlySpan<float> values) : base(values.Length)
    {
        _gpu = gpu;
        Buffer = gpu.Allocate(values.Length * sizeof(float), "vectors");
        fixed (float* p = values) gpu.Upload(Buffer, 0, p, values.Length * sizeof(float));
    }

    public GpuBuffer Buffer { get; }

    public override void Dispose() => _gpu.Free(Buffer);
}
