namespace GemmaServer.Compute;

/// <summary>Rows of activations as bytes with a scale for each 32. Kernel: <c>quantise.cl</c>, which draws the layout.</summary>
internal sealed class GpuQuantisedRows(GpuContext gpu) : IDisposable
{
    private readonly GpuKernel _quantise = gpu.Kernel(new KernelSource("quantise.cl"), "quantise");
    private int _rows, _columns;

    /// <summary><c>[rows][groups][8]</c> ints of four codes each.</summary>
    public GpuBuffer Codes { get; private set; }

    /// <summary><c>[rows][groups]</c>: scale, sums of the halves.</summary>
    public GpuBuffer About { get; private set; }

    /// <summary>Makes room, so that no step does.</summary>
    public void Reserve(int rows, int columns)
    {
        if (rows <= _rows && columns <= _columns) return;
        (_rows, _columns) = (Math.Max(rows, _rows), Math.Max(columns, _columns));
        gpu.Finish();
        Dispose();
        Codes = gpu.Allocate((long)_rows * _columns, "activations in bytes");
        About = gpu.Allocate((long)_rows * _columns / WeightFormat.Group * 8, "activations in bytes");
    }

    /// <summary>Queues the quantising of a tensor's first rows.</summary>
    /// <param name="step">The header.</param>
    /// <param name="x">Its columns are a multiple of 32.</param>
    /// <param name="grid">Rows at most.</param>
    /// <param name="givenRows">Rows; 0: those of the step's header.</param>
    public void Quantise(GpuBuffer step, GpuTensor x, int grid, int givenRows)
    {
        Reserve(grid, x.Columns);
        int groups = x.Columns / WeightFormat.Group;
        _quantise.Begin().Add(step).Add(givenRows).Add(x.Buffer).Add(Codes).Add(About).Add(groups).Run(64, (grid * groups + 63) / 64);
    }

    public void Dispose()
    {
        if (Codes.IsNone) return;
        gpu.Free(Codes);
        gpu.Free(About);
        Codes = default;
    }
}
