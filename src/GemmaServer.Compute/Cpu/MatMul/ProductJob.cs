namespace GemmaServer.Compute;

/// <summary>A matrix product cut into runs of weight rows.</summary>
internal unsafe struct ProductJob : IWorkerJob
{
    public RowPointers X;
    public Int8Rows Quantised;
    public int M;
    public CpuWeights W;
    public int FirstRow;

    /// <summary>−1, or the first row of up where FirstRow is the gate's.</summary>
    public int UpRow;

    public int RowCount;
    public int RowsPerItem;
    public float* Y;
    public nint YStride;
    public bool Integers;

    /// <summary><c>[threads, ScratchBytes]</c>.</summary>
    public byte* Scratch;

    public long ScratchBytes;

    /// <summary>Room for decoded rows, a multiple of 64.</summary>
    public static long DecodedBytes(int rows, int k) => (4L * rows * k + 63) & ~63L;

    public readonly void Execute(int item, int worker)
    {
        int first = item * RowsPerItem;
        int count = Math.Min(RowsPerItem, RowCount - first);
        byte* scratch = Scratch + worker * ScratchBytes;
        Rows(FirstRow + first, count, Y + first, YStride, scratch);
        if (UpRow < 0) return;

        float* up = (float*)(scratch + DecodedBytes(RowsPerItem, W.Columns));
        Rows(UpRow + first, count, up, count, scratch);
        for (int i = 0; i < M; i++)
        {
            Span<float> gate = new(Y + first + i * YStride, count);
            FastMath.GeluTanhMultiply(gate, new ReadOnlySpan<float>(up + (nint)i * count, count), gate);
        }
    }

    /// <summary>Rows of the stack, part by part.</summary>
    private readonly void Rows(int row, int count, float* y, nint yStride, byte* scratch)
    {
        while (count > 0)
        {
            ref readonly CpuWeights.Part part = ref W.PartOf(row);
            int n = Math.Min(count, part.End - row);
            if (Integers && WeightRows.IsQuantised(part.Type)) IntegerRows(part, row, n, y, yStride, scratch);
            else FloatRows(part, row, n, y, yStride, scratch);
            row += n;
            y += n;
            count -= n;
        }
    }

    private readonly void FloatRows(in CpuWeights.Part part, int row, int n, float* y, nint yStride, byte* scratch)
    {
        int k = W.Columns;
        float* w = (float*)part.Row(row);
        if (part.Type != TensorType.F32)
        {
            w = (float*)scratch;
            for (int j = 0; j < n; j++) WeightRows.Dequantize(part.Type, part.Row(row + j), k, w + (nint)j * k);
        }
        FloatTiles.Multiply(X, M, w, k, n, k, y, yStride);
    }

    private readonly void IntegerRows(in CpuWeights.Part part, int row, int n, float* y, nint yStride, byte* scratch)
    {
        int k = W.Columns;
        CodeRows codes = CodeRows.At(scratch, n, k);
        for (int j = 0; j < n; j++)
        {
            WeightRows.Unpack(part.Type, part.Row(row + j), k, codes.Codes(j), codes.Scales(j), codes.Offsets(j));
        }
        // The offsets meet sums of 16 inputs: a product with a sixteenth of the columns.
        FloatTiles.Multiply(Quantised.SumRows, M, codes.Offsets(0), k / 16, n, k / 16, y, yStride);
        Int8Tiles.MultiplyAdd(Quantised, M, codes, n, k, y, yStride);
    }
}
