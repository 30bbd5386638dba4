using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>Whole products with emulated AMX kernels: how rows are cut into tiles, where tiles and sums lie.</summary>
public sealed unsafe class AmxProductTests
{
    // More than a chunk of blocks is unpacked at a time, so sums go on; the last panel is lonely and not full.
    private const int Columns = 768, Rows = 40;

    [ThreadStatic]
    private static Dictionary<(int Rows, int Unit, bool HasOffset), AmxEmulator>? t_emulators;

    [Theory]
    [InlineData(TensorType.Q4_0, 8)]
    [InlineData(TensorType.Q4_K, 12)]
    [InlineData(TensorType.Q6_K, 13)]
    [InlineData(TensorType.Q2_K, 25)]
    [InlineData(TensorType.Q8_0, 38)]
    public void A_product_equals_the_other_kernels_bit_for_bit(TensorType type, int inputs)
    {
        TestWeight weight = new(type, Rows, Columns, seed: 90);
        float[] x = TestWeight.RandomRows(inputs, Columns, seed: 91);
        int calls = 0;
        float[] expected = new float[inputs * Rows], emulated = new float[inputs * Rows];
        Multiply(null, expected);
        Multiply(Count, emulated);
        Assert.Equal(expected, emulated);
        Assert.True(calls > 0);

        void Count(PanelFormat format, int rows, TileArguments* arguments)
        {
            Interlocked.Increment(ref calls);
            RunEmulated(format, rows, arguments);
        }

        void Multiply(TileCall? amx, float[] y)
        {
            using WorkerPool pool = new(2);
            using CpuMatMul matMul = new(pool, ActivationType.Int8, amx);
            matMul.Multiply(x, inputs, new CpuWeights(weight.Source), y, Rows);
        }
    }

    /// <summary>Batches of different sizes in one go, as experts have them: some take tiles and some do not.</summary>
    [Fact]
    public void Groups_choose_their_kernels_for_themselves()
    {
        TestWeight weight = new(TensorType.Q4_K, 4 * 32, Columns, seed: 92);
        RowGroup[] groups = [new(0, 9, 0, 32), new(9, 1, 64, 96), new(10, 7, 32, 64), new(17, 14, 64, 96)];
        const int inputs = 31;
        float[] x = TestWeight.RandomRows(inputs, Columns, seed: 93);
        float[] expected = new float[inputs * 32], emulated = new float[inputs * 32];
        HashSet<int> sizes = [];
        Multiply(null, expected);
        Multiply(Note, emulated);
        Assert.Equal(expected, emulated);
        Assert.Equal([7, 9], sizes.Order());

        void Note(PanelFormat format, int rows, TileArguments* arguments)
        {
            lock (sizes) sizes.Add(rows);
            Assert.Equal(rows == 7 ? 2 : 1, arguments->Tiles);
            RunEmulated(format, rows, arguments);
        }

        void Multiply(TileCall? amx, float[] y)
        {
            using WorkerPool pool = new(2);
            using CpuMatMul matMul = new(pool, ActivationType.Int8, amx);
            CpuWeights w = new(weight.Source);
            matMul.RunGroups(new InputRows(x, inputs, Columns), groups, w, w, 32, y, 32);
        }
    }

    private static void RunEmulated(PanelFormat format, int rows, TileArguments* arguments)
    {
        t_emulators ??= [];
        if (!t_emulators.TryGetValue((rows, format.Unit, format.HasOffset), out AmxEmulator? emulator))
        {
            emulator = new(AmxTiles.Assemble(rows, format.Unit, format.HasOffset));
            emulator.AllowEverything();
            t_emulators[(rows, format.Unit, format.HasOffset)] = emulator;
        }
        emulator.Call(arguments);
    }
}
