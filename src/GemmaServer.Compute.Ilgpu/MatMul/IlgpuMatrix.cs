using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>In which of the kernels' forms weights lie; see <see cref="IWeightFormat"/>.</summary>
internal enum WeightFormat
{
    Float,
    BFloat,
    Q8,
    Q4,
    Q4K,
}

/// <summary>Consecutive rows of a matrix in one form.</summary>
internal sealed class WeightPart(IlgpuRuntime runtime, WeightFormat format, bool isQuantised, int firstRow, int rows, int columns) : IDisposable
{
    public WeightFormat Format => format;

    /// <summary>Whether the file has codes and scales, whatever they became here.</summary>
    public bool IsQuantised => isQuantised;

    /// <summary>Its first row in the matrix.</summary>
    public int FirstRow => firstRow;

    public int Rows => rows;

    public int Panels { get; } = (rows + 31) / 32;

    /// <summary>Blocks of 32 columns.</summary>
    public int Blocks { get; } = (columns + 31) / 32;

    public int SuperBlocks => (Blocks + 7) / 8;

    public MemoryBuffer1D<uint, Stride1D.Dense> Codes { get; } =
        runtime.Allocate<uint>((long)((rows + 31) / 32) * ((columns + 31) / 32) * 32 * WeightPacking.BlockBytes(format) / 4);

    public MemoryBuffer1D<ushort, Stride1D.Dense> Scales { get; } =
        runtime.Allocate<ushort>(WeightPacking.HasScales(format) ? (long)((rows + 31) / 32) * ((columns + 31) / 32) * 32 : 0);

    public MemoryBuffer1D<uint, Stride1D.Dense> Supers { get; } =
        runtime.Allocate<uint>(format == WeightFormat.Q4K ? (long)((rows + 31) / 32) * (((columns + 31) / 32 + 7) / 8) * 32 : 0);

    public long Bytes => Codes.LengthInBytes + Scales.LengthInBytes + Supers.LengthInBytes;

    public void Dispose()
    {
        Codes.Dispose();
        Scales.Dispose();
        Supers.Dispose();
    }
}

/// <summary>Weights on the device; or, for a table that is only looked up, where they are mapped.</summary>
internal sealed class IlgpuMatrix(int rows, int columns, WeightPart[] parts, CpuWeights? mapped) : DeviceMatrix(rows, columns)
{
    public WeightPart[] Parts => parts;

    /// <summary>A table that stays in the file: its rows are decoded on the host.</summary>
    public CpuWeights? Mapped => mapped;

    /// <summary>The only part; experts are counted in its rows.</summary>
    public WeightPart Whole => parts.Length == 1 ? parts[0] : throw new ArgumentException("The rows of experts must be of one type.");

    public override void Dispose()
    {
        foreach (WeightPart part in parts) part.Dispose();
    }
}
