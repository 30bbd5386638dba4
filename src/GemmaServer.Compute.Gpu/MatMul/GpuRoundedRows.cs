namespace GemmaServer.Compute;

/// <summary>Rows of activations as bf16, filled up with zeros to groups of 32. Kernel: <c>round_rows.cu</c>.</summary>
internal sealed class GpuRoundedRows(GpuContext gpu) : IDisposable
{
    private const int Lanes = 64, ChunkColumns = 8;

    private GpuKernel? _round;

    /// <summary><c>[rows][whole groups]</c> of bf16.</summary>
    public GpuBuffer Buffer { get; private set; }

    /// <summary>Makes room, so that no step does.</summary>
    public void Reserve(int rows, int columns)
    {
        _round ??= gpu.Kernel(new KernelSource("round_rows.cu", ["cuda_tensor.h"]), "round_rows");
        long bytes = (long)rows * Chunks(columns) * ChunkColumns * sizeof(ushort);
        if (bytes <= Buffer.Bytes) return;
        gpu.Finish();
        Dispose();
        Buffer = gpu.Allocate(bytes, "rounded activations");
    }

    /// <summary>Queues the rounding of a tensor's first rows.</summary>
    /// <param name="step">The header.</param>
    /// <param name="x">Any number of columns.</param>
    /// <param name="columns">Of x.</param>
    /// <param name="grid">Rows at most.</param>
    /// <param name="givenRows">Rows; 0: those of the step's header.</param>
    /// <param name="uses">Rows of x for each of these.</param>
    public void Round(GpuBuffer step, GpuBuffer x, int columns, int grid, int givenRows, int uses = 1)
    {
        Reserve(grid * uses, columns);
        int chunks = Chunks(columns);
        _round!.Begin().Add(step).Add(givenRows).Add(x).Add(Buffer).Add(columns).Add(chunks).Add(uses).Run(Lanes, grid * uses, (chunks + Lanes - 1) / Lanes);
    }

    public void Dispose()
    {
        if (Buffer.IsNone) return;
        gpu.Free(Buffer);
        Buffer = default;
    }

    private static int Chunks(int columns) => (columns + WeightFormat.Group - 1) / WeightFormat.Group * (WeightFormat.Group / ChunkColumns);
}
