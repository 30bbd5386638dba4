using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>
/// Activations. Rows lie a multiple of 32 floats apart, the columns of a weight block, so that products read whole blocks; what
/// is behind a row's end is zero.
/// </summary>
internal sealed class IlgpuTensor : DeviceTensor
{
    private readonly IlgpuRuntime _runtime;

    public IlgpuTensor(IlgpuRuntime runtime, int rows, int columns) : base(rows, columns)
    {
        _runtime = runtime;
        Stride = (columns + 31) / 32 * 32;
        Buffer = runtime.Allocate<float>((long)rows * Stride);
    }

    /// <summary>Floats from one row to the next.</summary>
    public int Stride { get; }

    public MemoryBuffer1D<float, Stride1D.Dense> Buffer { get; }

    public ArrayView<float> View => Buffer.View;

    public override void Read(Span<float> values)
    {
        _runtime.Finish();
        for (int at = 0, row = 0; at < values.Length; at += Columns, row++)
            View.SubView((long)row * Stride, Math.Min(Columns, values.Length - at)).Fetch(values.Slice(at, Math.Min(Columns, values.Length - at)));
    }

    public override void Write(ReadOnlySpan<float> values)
    {
        _runtime.Finish();
        for (int at = 0, row = 0; at < values.Length; at += Columns, row++)
            View.SubView((long)row * Stride, Math.Min(Columns, values.Length - at)).Send(values.Slice(at, Math.Min(Columns, values.Length - at)));
    }

    /// <summary>The first rows, as far apart as here.</summary>
    public void Upload(float[] values, int rows) => View.Send(values.AsSpan(0, rows * Stride));

    public override void Dispose() => Buffer.Dispose();
}

/// <summary>A vector on the device.</summary>
internal sealed class IlgpuVector : DeviceVector
{
    public IlgpuVector(IlgpuRuntime runtime, float[] values) : base(values.Length)
    {
        Buffer = runtime.Allocate<float>(values.Length);
        View.Send(values);
    }

    public MemoryBuffer1D<float, Stride1D.Dense> Buffer { get; }

    public ArrayView<float> View => Buffer.View;

    public override void Dispose() => Buffer.Dispose();
}

/// <summary>Numbers that each step brings, copied from an array that is kept.</summary>
internal sealed class StepNumbers(IlgpuRuntime runtime, int capacity) : IDisposable
{
    private MemoryBuffer1D<int, Stride1D.Dense> _buffer = runtime.Allocate<int>(capacity);

    public int[] Host { get; private set; } = new int[capacity];

    public ArrayView<int> View => _buffer.View;

    /// <summary>Makes room; what was there is lost.</summary>
    public void Ensure(int count)
    {
        if (count <= Host.Length) return;
        runtime.Finish();
        _buffer.Dispose();
        Host = new int[Math.Max(count, 2 * Host.Length)];
        _buffer = runtime.Allocate<int>(Host.Length);
    }

    public void Send(int count) => View.Send(Host.AsSpan(0, count));

    public void Dispose() => _buffer.Dispose();
}
