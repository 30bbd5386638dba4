namespace GemmaServer.Compute;

/// <summary>Rows of activations as bf16, filled up with zeros to groups of 32. Kernel: <c>round_rows.cu</c>.</summary>
internal sealed class GpuRoundedRows(GpuContext gpu) : IDisposable
{
    private const int Lanes = 64, ChunkColumns = 8;

    private GpuKernel? _round;
    private int _rows, _columns;

    /// <summary><c>[rows][whole groups]</c> of bf16.</summary>
    public GpuBuffer Buffer { get; private set; }

    /// <summary>Makes room, so that no step does.</summary>
    public void Reserve(int rows, int columns)
    {
        _round ??= gpu.Kernel(new KernelSource("round_rows.cu", ["cuda_tensor.h"]), "round_rows");
        if (rows <= _rows && columns <= _columns) return;
        (_rows, _columns) = (Math.Max(rows, _rows), Math.Max(columns, _columns));
        gpu.Finish();
        Dispose();
        Buffer = gpu.Allocate((long)_rows * Chunks(_columns) * ChunkColumns * sizeof(ushort), "rounded activations");
    }

    /// <summary>Queues the rounding of a tensor's first rows.</summary>
    /// <param name="step">The header.</param>
    /// <param name="x">Any number of columns.</param>
    /// <param name="grid">Rows at most.</param>
    /// <param name="givenRows">Rows; 0: those of the step's header.</param>
    public void Round(GpuBuffer step, GpuTensor x, int grid, int givenRows)
    {
        Reserve(grid, x.Columns);
        int chunks = Chunks(x.Columns);
        _round!.Begin().Add(step).Add(givenRows).Add(x.Buffer).Add(Buffer).Add(x.Columns).Add(chunks).Run(Lanes, (chunks + Lanes - 1) / Lanes, grid);
    }

    public void Dispose()
    {
        if (Buffer.IsNone) return;
        gpu.Free(Buffer);
        Buffer = default;
    }

    private static int Chunks(int columns) => (columns + WeightFormat.Group - 1) / WeightFormat.Group * (WeightFormat.Group / ChunkColumns);
}
