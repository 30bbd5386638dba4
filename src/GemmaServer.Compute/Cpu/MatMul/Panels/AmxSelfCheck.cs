namespace GemmaServer.Compute;

/// <summary>Runs a kernel of AMX's over <see cref="TileArguments.Tiles"/> tiles of so many rows.</summary>
internal unsafe delegate void TileCall(PanelFormat format, int tileRows, TileArguments* arguments);

/// <summary>The AMX kernels, every size and variant once, on random data against the kernel in C#: a machine that computes otherwise is not used.</summary>
internal static unsafe class AmxSelfCheck
{
    // Odd and even numbers of blocks take different ways out of the kernel's loop.
    private const int Blocks = 5, FirstPart = 2, Tiles = 2;

    /// <summary>A type for each variant: units of 32 or 16 columns, without and with offsets.</summary>
    internal static readonly TensorType[] Variants = [TensorType.Q4_0, TensorType.Q4_K, TensorType.Q6_K, TensorType.Q2_K];

    /// <summary>What differs, as the end of a sentence; null where all is the same to the last bit.</summary>
    public static string? Run(TileCall kernel)
    {
        Random random = new(1);
        foreach (TensorType type in Variants)
        {
            PanelFormat format = PanelFormat.Of(type)!;
            for (int rows = 1; rows <= AmxTiles.MostRows; rows++)
                if (!Agrees(format, rows, random, kernel)) return $"its products differ from the portable kernel's ({type}, {rows} rows)";
        }
        return null;
    }

    private static bool Agrees(PanelFormat format, int rows, Random random, TileCall kernel)
    {
        int m = Tiles * rows, floats = 2 * 16 * m;
        long weightBytes = Blocks * format.UnpackedBytes, inputBytes = (QuantisedRows.Bytes(m, 32 * Blocks) + 63) & ~63L;
        using AlignedBuffer memory = new(2 * weightBytes + 2 * inputBytes + 2 * 4 * floats);
        byte* weights = memory.Pointer, forTiles = weights + 2 * weightBytes, forPortable = forTiles + inputBytes;
        float* results = (float*)(forPortable + inputBytes), expected = results + floats;
        FillWeights(format, random, weights);
        Quantise(new QuantisedRows(forTiles, m, 32 * Blocks, TileKind.Amx, rows), new QuantisedRows(forPortable, m, 32 * Blocks, TileKind.Portable, rows), m, random);
        foreach ((int first, int count) in new[] { (0, FirstPart), (FirstPart, Blocks - FirstPart) })
        {
            TileArguments a = new()
            {
                W0 = weights + first * format.UnpackedBytes, W1 = weights + weightBytes + first * format.UnpackedBytes,
                Blocks = count, GoOn = first, Tiles = Tiles, TileStride = QuantisedRows.BlockBytes * Blocks * rows,
            };
            for (int t = 0; t < Tiles; t++)
            {
                a.X = forPortable + t * a.TileStride + first * rows * QuantisedRows.BlockBytes;
                a.Y0 = expected + 16 * rows * t;
                a.Y1 = a.Y0 + 16 * m;
                format.MultiplyTile(in a, rows);
            }
            a.X = forTiles + first * rows * QuantisedRows.BlockBytes;
            a.Y0 = results;
            a.Y1 = results + 16 * m;
            kernel(format, rows, &a);
        }
        return new ReadOnlySpan<int>(results, floats).SequenceEqual(new ReadOnlySpan<int>(expected, floats));
    }

    /// <summary>Two panels as <see cref="PanelFormat.Unpack"/> leaves them, of codes from −128 to 127.</summary>
    private static void FillWeights(PanelFormat format, Random random, byte* weights)
    {
        for (int block = 0; block < 2 * Blocks; block++, weights += format.UnpackedBytes)
        {
            random.NextBytes(new Span<byte>(weights, 512));
            byte* unit = weights + 512;
            for (int first = 0; first < 32; first += format.Unit, unit += format.HasOffset ? 192 : 128)
            {
                for (int row = 0; row < 16; row++)
                {
                    int sum = 0;
                    for (int k = first; k < first + format.Unit; k++) sum += (sbyte)weights[k / 4 * 64 + 4 * row + k % 4];
                    ((int*)unit)[row] = -128 * sum;
                    ((float*)unit)[16 + row] = random.NextSingle() - 0.5f;
                    if (format.HasOffset) ((float*)unit)[32 + row] = random.NextSingle() - 0.5f;
                }
            }
        }
    }

    private static void Quantise(QuantisedRows forTiles, QuantisedRows forPortable, int m, Random random)
    {
        float* x = stackalloc float[32 * Blocks];
        for (int row = 0; row < m; row++)
        {
            for (int k = 0; k < 32 * Blocks; k++) x[k] = random.NextSingle() - 0.5f;
            forTiles.Quantise(row, x);
            forPortable.Quantise(row, x);
        }
    }
}
