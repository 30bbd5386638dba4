using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Cosines and sines of the step's rows, made on the host as the reference makes them: [row][cos | sin][pairs].</summary>
internal sealed class IlgpuRope(ReadOnlySpan<float> inverseFrequencies) : IDisposable
{
    private readonly float[] _frequencies = inverseFrequencies.ToArray();
    private float[] _host = [];
    private MemoryBuffer1D<float, Stride1D.Dense>? _table;

    /// <summary>Leading pairs that rotate, rounded up to what kernels take at a time.</summary>
    public int Pairs { get; } = (inverseFrequencies.TrimEnd(0f).Length + 3) / 4 * 4;

    public ArrayView<float> View => _table!.View;

    public bool Is(ReadOnlySpan<float> frequencies) => frequencies.SequenceEqual(_frequencies);

    public void Reserve(IlgpuRuntime runtime, int rows)
    {
        _table?.Dispose();
        _host = new float[Math.Max(1, rows * 2 * Pairs)];
        _table = runtime.Allocate<float>(_host.Length);
    }

    public void Begin(CpuStep step)
    {
        for (int row = 0, at = 0; row < step.RowCount; row++, at += 2 * Pairs)
            for (int i = 0; i < Pairs; i++)
                (_host[at + Pairs + i], _host[at + i]) = MathF.SinCos(step.Position(row) * _frequencies[i]);
        _table!.View.AsContiguous().Send(_host.AsSpan(0, step.RowCount * 2 * Pairs));
    }

    public void Dispose() => _table?.Dispose();
}
