namespace GemmaServer.Compute;

/// <summary>One rotation: cosines and sines of the step's rows, made on the device once a step. Kernel: <c>rope.cl</c>.</summary>
internal sealed unsafe class GpuRope : IDisposable
{
    private const int Group = 64;

    private readonly GpuContext _gpu;
    private readonly GpuStep _step;
    private readonly GpuKernel _fill;
    private readonly float[] _inverseFrequencies;
    private readonly GpuBuffer _frequencies;

    /// <summary>Frequencies that are zero at the end are not rotated at all.</summary>
    public GpuRope(GpuContext gpu, GpuStep step, ReadOnlySpan<float> inverseFrequencies)
    {
        (_gpu, _step) = (gpu, step);
        _inverseFrequencies = inverseFrequencies.ToArray();
        Pairs = inverseFrequencies.TrimEnd(0f).Length;
        _frequencies = gpu.Allocate(Math.Max(1, Pairs) * sizeof(float), "rotations");
        fixed (float* p = _inverseFrequencies)
            if (Pairs > 0) gpu.Upload(_frequencies, 0, p, Pairs * sizeof(float));
        _fill = gpu.Kernel(new KernelSource("rope.cl", [], ("GROUP", Group)), "fill_turns");
    }

    /// <summary>Leading pairs that rotate.</summary>
    public int Pairs { get; }

    /// <summary>By row: cosines, then sines; <c>[rows][2][Pairs]</c>.</summary>
    public GpuBuffer Turns { get; private set; }

    /// <summary>Whether it turns by these frequencies.</summary>
    public bool Is(ReadOnlySpan<float> inverseFrequencies) => inverseFrequencies.SequenceEqual(_inverseFrequencies);

    public void Reserve(int rows)
    {
        if (!Turns.IsNone) _gpu.Free(Turns);
        Turns = _gpu.Allocate(Math.Max(1L, (long)rows * 2 * Pairs) * sizeof(float), "rotations");
    }

    /// <summary>Fills the table for the step's rows.</summary>
    public void Fill()
    {
        if (Pairs > 0) _fill.Begin().Add(_step.Header).Add(_step.Rows).Add(_frequencies).Add(Turns).Add(Pairs).Run(Group, _step.Grid);
    }

    public void Dispose()
    {
        _gpu.Free(_frequencies);
        if (!Turns.IsNone) _gpu.Free(Turns);
    }
}
