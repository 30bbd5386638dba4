namespace GemmaServer.Compute;

/// <summary>What the kernels of a format differ in, as constants to the JIT.</summary>
internal interface ITileShape
{
    /// <summary>Columns that share a scale: 32 or 16.</summary>
    static abstract int Unit { get; }

    /// <summary>Whether units have an offset of their own.</summary>
    static abstract bool HasOffset { get; }

    /// <summary>The largest u.</summary>
    static abstract int LargestCode { get; }

    /// <summary>The largest |u − Zero|.</summary>
    static abstract int LargestWeight { get; }
}

/// <summary>The shape of panels made of these parts.</summary>
internal readonly struct TileShape<TReader, TCodes, TScales> : ITileShape
    where TReader : struct, IBlockReader
    where TCodes : struct, IPanelCodes
    where TScales : struct, IPanelScales
{
    public static int Unit => TScales.Unit;

    public static bool HasOffset => TScales.HasOffset;

    public static int LargestCode => TCodes.Largest;

    public static int LargestWeight => Math.Max(TReader.Zero, TCodes.Largest - TReader.Zero);
}

/// <summary>How many input rows a kernel holds sums for, as a constant to the JIT.</summary>
internal interface IRowCount
{
    static abstract int Count { get; }
}

internal readonly struct OneRow : IRowCount
{
    public static int Count => 1;
}

internal readonly struct TwoRows : IRowCount
{
    public static int Count => 2;
}

internal readonly struct ThreeRows : IRowCount
{
    public static int Count => 3;
}
