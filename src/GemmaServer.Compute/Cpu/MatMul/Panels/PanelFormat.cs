namespace GemmaServer.Compute;

/// <summary>
/// A quantised type as the CPU multiplies it: weights packed once into panels of 16 rows, of the same size as in the file
/// or nearly so, read from front to back. A sum is one lane from the first column to the last, so a row's result is the
/// same on every register width and in every batch:
/// <code>t = float(Σ (u − Zero) · q) · scale [+ offset · float(Σ q)];  sum = fma(t, input scale, sum)</code>
/// for each unit of 32 or 16 columns; the integer sums are exact.
/// </summary>
internal abstract unsafe class PanelFormat
{
    /// <summary>Weight rows in a panel.</summary>
    public const int Rows = 16;

    /// <summary>Columns of a block: what inputs share a scale for.</summary>
    public const int Block = 32;

    /// <summary>Blocks of a group: their codes, then their scales, so that a panel is one stream. The last may have fewer.</summary>
    public const int GroupBlocks = 8;

    private static readonly PanelFormat?[] s_formats = new PanelFormat?[64];

    static PanelFormat()
    {
        s_formats[(int)TensorType.Q4_0] = new PanelFormat<Q4_0Reader, NibbleCodes, HalfScales>(TensorType.Q4_0);
        s_formats[(int)TensorType.Q4_1] = new PanelFormat<Q4_1Reader, NibbleCodes, HalfPairs>(TensorType.Q4_1);
        s_formats[(int)TensorType.Q5_0] = new PanelFormat<Q5_0Reader, FiveBitCodes, HalfScales>(TensorType.Q5_0);
        s_formats[(int)TensorType.Q5_1] = new PanelFormat<Q5_1Reader, FiveBitCodes, HalfPairs>(TensorType.Q5_1);
        s_formats[(int)TensorType.Q8_0] = new PanelFormat<Q8_0Reader, ByteCodes, HalfScales>(TensorType.Q8_0);
        // Two and three bits a code take four here: what is rare is kept simple.
        s_formats[(int)TensorType.Q2_K] = new PanelFormat<Q2_KReader, NibbleCodes, BytePairs<Unit16>>(TensorType.Q2_K);
        s_formats[(int)TensorType.Q3_K] = new PanelFormat<Q3_KReader, NibbleCodes, ByteScales<Unit16>>(TensorType.Q3_K);
        s_formats[(int)TensorType.Q4_K] = new PanelFormat<Q4_KReader, NibbleCodes, SixBitPairs>(TensorType.Q4_K);
        s_formats[(int)TensorType.Q5_K] = new PanelFormat<Q5_KReader, FiveBitCodes, SixBitPairs>(TensorType.Q5_K);
        s_formats[(int)TensorType.Q6_K] = new PanelFormat<Q6_KReader, SixBitCodes, ByteScales<Unit16>>(TensorType.Q6_K);
        s_formats[(int)TensorType.IQ4_NL] = new PanelFormat<IQ4_NLReader, TableCodes<Iq4Table>, HalfScales>(TensorType.IQ4_NL);
        s_formats[(int)TensorType.IQ4_XS] = new PanelFormat<IQ4_XSReader, TableCodes<Iq4Table>, ByteScales<Unit32>>(TensorType.IQ4_XS);
        s_formats[(int)TensorType.MXFP4] = new PanelFormat<MXFP4Reader, TableCodes<Mxfp4Table>, ExponentScales>(TensorType.MXFP4);
    }

    protected PanelFormat(TensorType type, int zero, int unit, bool hasOffset)
    {
        (Type, Zero, Unit, HasOffset) = (type, zero, unit, hasOffset);
    }

    /// <summary>The type that is packed.</summary>
    public TensorType Type { get; }

    /// <summary>The code that stands for zero; 0 where units have offsets.</summary>
    public int Zero { get; }

    /// <summary>Columns that share a scale: 32 or 16.</summary>
    public int Unit { get; }

    /// <summary>Whether units have an offset of their own.</summary>
    public bool HasOffset { get; }

    /// <summary>Bytes of an unpacked block, see <see cref="Unpack"/>.</summary>
    public int UnpackedBytes => 512 + Block / Unit * (HasOffset ? 192 : 128);

    /// <summary>How a type is packed; null for float types.</summary>
    public static PanelFormat? Of(TensorType type) => s_formats[(int)type];

    /// <summary>Bytes of a whole group, a multiple of 32.</summary>
    public abstract int GroupBytes { get; }

    /// <summary>Bytes of 16 rows, a multiple of 32.</summary>
    public abstract long PanelBytes(int columns);

    /// <summary>Packs up to 16 rows; missing ones become anything finite.</summary>
    /// <param name="source">The first row as stored.</param>
    /// <param name="rowBytes">From one row to the next.</param>
    /// <param name="rows">1 … 16.</param>
    /// <param name="columns">Row length.</param>
    /// <param name="panel">Receives <see cref="PanelBytes"/>.</param>
    public abstract void Pack(byte* source, long rowBytes, int rows, int columns, byte* panel);

    /// <summary>Sixteen results for one input row, signed codes (see <see cref="QuantisedRows"/>).</summary>
    public abstract void Gemv(byte* panel, int columns, byte* x, float* y);

    /// <summary>
    /// Some blocks for many input rows to share:
    /// <code>| signed codes u − Zero [8 quads][16 rows][4] | per unit: bias [16] int | scale [16] float | offset [16] float, if any |</code>
    /// The bias is −128 · Σ (u − Zero): it takes off what inputs coded as q + 128 add.
    /// </summary>
    /// <param name="panel">The packed panel.</param>
    /// <param name="columns">Row length.</param>
    /// <param name="firstBlock">Where to begin; a multiple of <see cref="GroupBlocks"/>.</param>
    /// <param name="blocks">How many.</param>
    /// <param name="unpacked">Receives so many times <see cref="UnpackedBytes"/>.</param>
    /// <param name="ahead">What will be unpacked after the next use of these blocks: asked for early.</param>
    public abstract void Unpack(byte* panel, int columns, int firstBlock, int blocks, byte* unpacked, byte* ahead);

    /// <summary>
    /// Two unpacked panels times a tile of input rows, in C#, for machines without an assembled kernel (see <see cref="AssembledTiles"/>).
    /// </summary>
    public abstract void MultiplyTile(in TileArguments a, int tileRows);
}
