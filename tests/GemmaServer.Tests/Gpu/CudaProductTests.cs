using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>CUDA's own products against double precision over what they may have rounded.</summary>
[Trait("Category", "Gpu")]
public sealed class CudaProductTests
{
    // Neither whole tiles nor an even number of rows.
    private const int Outputs = 71;

    public static TheoryData<TensorType> AllTypes => TestWeight.AllTypes;

    [CudaTheory]
    [MemberData(nameof(AllTypes))]
    public void Rounded_products_of_every_type(TensorType type)
    {
        TestWeight w = new(type, Outputs, TestWeight.ColumnsFor(type), 5);
        using Bench bench = new(ActivationType.BF16, w);
        foreach (int rows in (int[])[9, 16, 17, 65, 130]) bench.Check(rows, isRounded: true);
    }

    [CudaTheory]
    [MemberData(nameof(AllTypes))]
    public void Exact_products_of_every_type(TensorType type)
    {
        TestWeight w = new(type, Outputs, TestWeight.ColumnsFor(type), 5);
        using Bench bench = new(ActivationType.F32, w);
        foreach (int rows in (int[])[1, 2, 3, 8]) bench.Check(rows, isRounded: false);
    }

    // Tiles of 1,024 columns, and warps that share rows.
    [CudaTheory]
    [InlineData(TensorType.BF16, 100)]
    [InlineData(TensorType.BF16, 101)]
    [InlineData(TensorType.F16, 5156)]
    [InlineData(TensorType.Q8_0, 4128)]
    [InlineData(TensorType.Q8_0, 1056)]
    [InlineData(TensorType.Q4_K, 3328)]
    [InlineData(TensorType.Q5_0, 2080)]
    public void Exact_products_of_long_rows(TensorType type, int columns)
    {
        TestWeight w = new(type, 37, columns, 5);
        using Bench bench = new(ActivationType.F32, w);
        foreach (int rows in (int[])[1, 2, 5]) bench.Check(rows, isRounded: false);
    }

    [CudaTheory]
    [InlineData(TensorType.BF16, 8)]
    [InlineData(TensorType.Q8_0, 4)]
    [InlineData(TensorType.Q4_K, 2)]
    public void A_few_rows_stay_exact(TensorType type, int most)
    {
        TestWeight w = new(type, Outputs, 512, 5);
        using Bench bench = new(ActivationType.BF16, w);
        bench.Check(most, isRounded: false);
        bench.Check(most + 1, isRounded: true);
    }

    [CudaTheory]
    [InlineData(TensorType.BF16, 101)]
    [InlineData(TensorType.F16, 33)]
    [InlineData(TensorType.F32, 7)]
    [InlineData(TensorType.Q8_0, 32)]
    [InlineData(TensorType.BF16, 448)]
    public void Columns_that_fill_no_slice(TensorType type, int columns)
    {
        TestWeight w = new(type, Outputs, columns, 5);
        using Bench bench = new(ActivationType.BF16, w);
        foreach (int rows in (int[])[12, 70]) bench.Check(rows, isRounded: true);
    }

    [CudaFact]
    public void The_largest_tile()
    {
        // On as many multiprocessors as a machine has here: a tile for each.
        TestWeight w = new(TensorType.BF16, 2048 + 300, 96, 5);
        using Bench bench = new(ActivationType.BF16, w);
        bench.Check(130, isRounded: true);
    }

    [CudaTheory]
    [InlineData(TensorType.BF16, TensorType.BF16)]
    [InlineData(TensorType.Q4_K, TensorType.Q4_K)]
    [InlineData(TensorType.Q4_K, TensorType.Q6_K)]
    public void Gate_and_up_meet(TensorType gateType, TensorType upType)
    {
        const int Half = 37, Columns = 512;
        TestWeight gate = new(gateType, Half, Columns, 1), up = new(upType, Half, Columns, 2);
        using Bench bench = new(ActivationType.BF16, gate, up);
        foreach (int rows in (int[])[1, 2, 9, 20, 40, 66])
        {
            float[] x = GpuBench.Random(rows * Columns, rows, 0.1f), rounded = rows <= 2 ? x : Rounded(x);
            float[] y = bench.Product(bench.MatMul.MultiplyGated, x, rows, Half);
            for (int r = 0; r < rows; r++)
            {
                for (int n = 0; n < Half; n++)
                {
                    float[] gateRow = [.. gate.Row(n)], upRow = [.. up.Row(n)];
                    double g = Dot(rounded.AsSpan(r * Columns, Columns), rows <= 2 ? gateRow : Rounded(gateRow), out _);
                    double u = Dot(rounded.AsSpan(r * Columns, Columns), rows <= 2 ? upRow : Rounded(upRow), out double size);
                    double expected = 0.5 * g * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (g + 0.044715 * g * g * g))) * u;
                    Assert.True(Math.Abs(y[r * Half + n] - expected) <= 1e-5 * (1 + Math.Abs(g)) * size, $"{rows} rows, y[{r}, {n}]: {y[r * Half + n]} instead of {expected}");
                }
            }
        }
    }

    [CudaTheory]
    [InlineData(TensorType.BF16)]
    [InlineData(TensorType.Q4_K)]
    public void A_row_is_the_same_in_tiles_of_every_size(TensorType type)
    {
        const int Rows = 70;
        TestWeight w = new(type, Outputs, 512, 1);
        using Bench bench = new(ActivationType.BF16, batchInvariant: true, w);
        float[] x = GpuBench.Random(Rows * 512, 9);
        float[] together = bench.Product(bench.MatMul.Multiply, x, Rows, Outputs);
        foreach ((int first, int count) in ((int, int)[])[(0, 1), (17, 16), (39, 31), (3, 60)])
        {
            float[] some = bench.Product(bench.MatMul.Multiply, x[(first * 512)..((first + count) * 512)], count, Outputs);
            Assert.Equal(together[(first * Outputs)..((first + count) * Outputs)], some);
        }
    }

    private static float[] Rounded(ReadOnlySpan<float> values)
    {
        float[] rounded = new float[values.Length];
        for (int i = 0; i < rounded.Length; i++)
        {
            uint bits = BitConverter.SingleToUInt32Bits(values[i]);
            rounded[i] = BitConverter.UInt32BitsToSingle(bits + 0x7fffu + (bits >> 16 & 1) & 0xffff0000u);
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

    /// <summary>A matrix on the device, and products with it.</summary>
    private sealed class Bench : IDisposable
    {
        private readonly GpuBench _bench = new(maxRows: 192, gpu: CudaDriver.Open());
        private readonly GpuWeights _weights;
        private readonly GpuMatrix _matrix;
        private readonly TestWeight[] _parts;

        public Bench(ActivationType activations, params TestWeight[] parts) : this(activations, false, parts) { }

        public Bench(ActivationType activations, bool batchInvariant, params TestWeight[] parts)
        {
            _parts = parts;
            _weights = new GpuWeights(_bench.Gpu);
            MatMul = new GpuMatMul(_bench.Gpu, _bench.Step, new GpuOptions(activations, batchInvariant));
            _matrix = _weights.Load([.. parts.Select(static p => p.Source)]);
        }

        public GpuMatMul MatMul { get; }

        /// <summary>A product of the step's rows; the row behind them is left alone.</summary>
        public float[] Product(Action<GpuTensor, GpuMatrix, GpuTensor> multiply, float[] x, int rows, int columns)
        {
            using GpuTensor gx = _bench.Tensor(rows, _matrix.Columns, x), gy = _bench.Tensor(rows + 1, columns, new float[(rows + 1) * columns]);
            _bench.Begin(rows);
            multiply(gx, _matrix, gy);
            float[] y = GpuBench.Rows(gy, rows + 1);
            Assert.All(y[(rows * columns)..], static v => Assert.Equal(0, v));
            return y[..(rows * columns)];
        }

        /// <summary>x and the weights are rounded to bf16, or nothing is.</summary>
        public void Check(int rows, bool isRounded)
        {
            TestWeight w = _parts[0];
            float[] x = TestWeight.RandomRows(rows, w.Columns, rows), rounded = isRounded ? Rounded(x) : x;
            float[] y = Product(MatMul.Multiply, x, rows, w.Rows);
            for (int n = 0; n < w.Rows; n++)
            {
                float[] row = isRounded ? Rounded(w.Row(n)) : [.. w.Row(n)];
                for (int r = 0; r < rows; r++)
                {
                    double expected = Dot(rounded.AsSpan(r * w.Columns, w.Columns), row, out double size);
                    Assert.True(Math.Abs(y[r * w.Rows + n] - expected) <= 2e-6 * size, $"{rows} rows, y[{r}, {n}]: {y[r * w.Rows + n]} instead of {expected}, summands {size}");
                }
            }
        }

        public void Dispose()
        {
            _matrix.Dispose();
            MatMul.Dispose();
            _weights.Dispose();
            _bench.Dispose();
        }
    }
}
