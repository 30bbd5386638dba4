using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>Products on the device against double precision over plainly decoded weights.</summary>
[Trait("Category", "Gpu")]
public sealed class GpuMatMulTests
{
    // Neither whole tiles nor an even number of rows.
    private const int Outputs = 71;

    public static TheoryData<TensorType> AllTypes => TestWeight.AllTypes;

    public static TheoryData<TensorType> QuantisedTypes => TestWeight.QuantisedTypes;

    [OpenClTheory]
    [MemberData(nameof(AllTypes))]
    public void Exact_products_of_every_type(TensorType type) => CheckProducts(type, ActivationType.F32, 1, 6, 9);

    [OpenClTheory]
    [MemberData(nameof(QuantisedTypes))]
    public void Integer_products_of_every_type(TensorType type) => CheckProducts(type, ActivationType.Int8, 1, 6, 9);

    // Each number of rows has a program of its own; these are the ones between and above.
    [OpenClTheory]
    [InlineData(TensorType.F16, ActivationType.F32)]
    [InlineData(TensorType.Q4_K, ActivationType.F32)]
    [InlineData(TensorType.Q4_0, ActivationType.Int8)]
    public void Products_of_other_row_counts(TensorType type, ActivationType activations) => CheckProducts(type, activations, 2, 3, 8, 33);

    [OpenClTheory]
    [InlineData(ActivationType.F32, TensorType.Q4_K, TensorType.Q6_K)]
    [InlineData(ActivationType.Int8, TensorType.Q4_K, TensorType.BF16)]
    [InlineData(ActivationType.Int8, TensorType.Q4_0, TensorType.Q4_0)]
    public void Gate_and_up_meet_in_y(ActivationType activations, TensorType gateType, TensorType upType)
    {
        const int Half = 37, Columns = 512;
        TestWeight gate = new(gateType, Half, Columns, 1), up = new(upType, Half, Columns, 2);
        using GpuBench bench = new(maxRows: 64);
        using GpuWeights weights = new(bench.Gpu);
        using GpuMatMul matMul = new(bench.Gpu, bench.Step, new GpuOptions(activations));
        using GpuMatrix matrix = weights.Load(gate.Source, up.Source);
        foreach (int rows in (int[])[1, 8, 9])
        {
            float[] x = GpuBench.Random(rows * Columns, rows, 0.1f), rounded = activations == ActivationType.Int8 ? Rounded(x) : x;
            float[] y = Product(bench, matMul.MultiplyGated, matrix, x, rows, Half);
            for (int r = 0; r < rows; r++)
            {
                for (int n = 0; n < Half; n++)
                {
                    double g = Dot((GemmaServer.Compute.WeightRows.IsQuantised(gateType) ? rounded : x).AsSpan(r * Columns, Columns), gate.Row(n), out _);
                    double u = Dot((GemmaServer.Compute.WeightRows.IsQuantised(upType) ? rounded : x).AsSpan(r * Columns, Columns), up.Row(n), out double size);
                    double expected = 0.5 * g * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (g + 0.044715 * g * g * g))) * u;
                    Assert.Equal(expected, y[r * Half + n], 2e-5 * (1 + Math.Abs(g)) * (1 + size));
                }
            }
        }
    }

    [OpenClFact]
    public void Parts_of_several_types_stand_side_by_side()
    {
        const int Columns = 256;
        TestWeight[] parts = [new(TensorType.Q5_0, 33, Columns, 1), new(TensorType.F16, 7, Columns, 2), new(TensorType.Q3_K, 16, Columns, 3)];
        using GpuBench bench = new(maxRows: 64);
        using GpuWeights weights = new(bench.Gpu);
        using GpuMatMul matMul = new(bench.Gpu, bench.Step, new GpuOptions());
        using GpuMatrix matrix = weights.Load([.. parts.Select(p => p.Source)]);
        float[] x = GpuBench.Random(2 * Columns, 9);
        float[] y = Product(bench, matMul.Multiply, matrix, x, 2, 56);
        for (int r = 0; r < 2; r++)
        {
            int n = 0;
            foreach (TestWeight part in parts)
                for (int i = 0; i < part.Rows; i++, n++) AssertNear(x.AsSpan(r * Columns, Columns), part.Row(i), y[r * 56 + n], 2e-6, $"y[{r}, {n}]");
        }
    }

    [OpenClFact]
    public void Some_rows_are_multiplied_whatever_the_steps_are()
    {
        TestWeight w = new(TensorType.Q8_0, Outputs, 96, 1);
        using GpuBench bench = new(maxRows: 64);
        using GpuWeights weights = new(bench.Gpu);
        using GpuMatMul matMul = new(bench.Gpu, bench.Step, new GpuOptions());
        using GpuMatrix matrix = weights.Load(w.Source);
        float[] x = GpuBench.Random(12 * 96, 9);
        foreach (int rows in (int[])[2, 10])
        {
            using GpuTensor gx = bench.Tensor(12, 96, x), gy = bench.Tensor(12, Outputs, new float[12 * Outputs]);
            bench.Begin(5);
            matMul.MultiplyRows(gx, matrix, gy, rows);
            float[] y = GpuBench.Rows(gy, 12);
            for (int r = 0; r < rows; r++)
                for (int n = 0; n < Outputs; n++) AssertNear(x.AsSpan(r * 96, 96), w.Row(n), y[r * Outputs + n], 2e-6, $"y[{r}, {n}]");
            Assert.All(y[(rows * Outputs)..], v => Assert.Equal(0, v));
        }
    }

    [OpenClTheory]
    [InlineData(ActivationType.F32)]
    [InlineData(ActivationType.Int8)]
    public void A_row_alone_is_the_row_among_others_where_that_is_asked_for(ActivationType activations)
    {
        const int Columns = 768, Rows = 40;
        TestWeight w = new(TensorType.Q4_K, Outputs, Columns, 1);
        using GpuBench bench = new(maxRows: 64);
        using GpuWeights weights = new(bench.Gpu);
        using GpuMatMul matMul = new(bench.Gpu, bench.Step, new GpuOptions(activations, BatchInvariant: true));
        using GpuMatrix matrix = weights.Load(w.Source);
        float[] x = GpuBench.Random(Rows * Columns, 9);
        float[] together = Product(bench, matMul.Multiply, matrix, x, Rows, Outputs);
        foreach (int row in (int[])[0, 17, 39])
        {
            float[] alone = Product(bench, matMul.Multiply, matrix, x[(row * Columns)..((row + 1) * Columns)], 1, Outputs);
            Assert.Equal(together[(row * Outputs)..((row + 1) * Outputs)], alone);
        }
    }

    private static void CheckProducts(TensorType type, ActivationType activations, params ReadOnlySpan<int> rowCounts)
    {
        TestWeight w = new(type, Outputs, TestWeight.ColumnsFor(type), 5);
        using GpuBench bench = new(maxRows: 64);
        using GpuWeights weights = new(bench.Gpu);
        using GpuMatMul matMul = new(bench.Gpu, bench.Step, new GpuOptions(activations));
        using GpuMatrix matrix = weights.Load(w.Source);
        foreach (int rows in rowCounts)
        {
            float[] x = TestWeight.RandomRows(rows, w.Columns, rows), seen = activations == ActivationType.Int8 ? Rounded(x) : x;
            float[] y = Product(bench, matMul.Multiply, matrix, x, rows, Outputs);
            for (int r = 0; r < rows; r++)
                for (int n = 0; n < Outputs; n++) AssertNear(seen.AsSpan(r * w.Columns, w.Columns), w.Row(n), y[r * Outputs + n], 4e-6, $"{rows} rows, y[{r}, {n}]");
        }
    }

    /// <summary>A product of the step's rows; the row behind them is left alone.</summary>
    private static float[] Product(GpuBench bench, Action<GpuTensor, GpuMatrix, GpuTensor> multiply, GpuMatrix w, float[] x, int rows, int columns)
    {
        using GpuTensor gx = bench.Tensor(rows, w.Columns, x), gy = bench.Tensor(rows + 1, columns, new float[(rows + 1) * columns]);
        bench.Begin(rows);
        multiply(gx, w, gy);
        float[] y = GpuBench.Rows(gy, rows + 1);
        Assert.All(y[(rows * columns)..], v => Assert.Equal(0, v));
        return y[..(rows * columns)];
    }

    /// <summary>What a row is after it was bytes: blocks of 32, the largest becomes 127.</summary>
    private static float[] Rounded(float[] x)
    {
        float[] rounded = new float[x.Length];
        for (int i = 0; i < x.Length; i += 32)
        {
            float max = x.AsSpan(i, 32).ToArray().Max(Math.Abs);
            for (int j = i; j < i + 32; j++) rounded[j] = MathF.Round(x[j] * (127 / max)) * (max / 127);
        }
        return rounded;
    }

    private static double Dot(ReadOnlySpan<float> x, ReadOnlySpan<float> w, out double size)
    {
        double sum = 0;
        size = 0;
        for (int i = 0; i < x.Length; i++)
        {
            sum += (double)x[i] * w[i];
            size += Math.Abs((double)x[i] * w[i]);
        }
        return sum;
    }

    /// <summary>Within so much of the sum of the summands' sizes.</summary>
    private static void AssertNear(ReadOnlySpan<float> x, ReadOnlySpan<float> w, float actual, double relative, string what)
    {
        double expected = Dot(x, w, out double size);
        Assert.True(Math.Abs(actual - expected) <= relative * size, $"{what}: {actual} instead of {expected}, summands {size}");
    }
}
