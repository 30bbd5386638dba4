using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>CUDA's own products against double precision over what they may have rounded.</summary>
[Trait("Category", "Gpu")]
public sealed class CudaProductTests
{
    // Neither whole tiles nor an even number of rows.
    private const int Outputs = 71;

    public static TheoryData<TensorType> AllTypes => TestWeight.AllTypes;

    public static TheoryData<TensorType> QuantisedTypes => TestWeight.QuantisedTypes;

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

    [CudaTheory]
    [MemberData(nameof(QuantisedTypes))]
    public void Products_of_bytes_of_every_type(TensorType type)
    {
        TestWeight w = new(type, Outputs, TestWeight.ColumnsFor(type), 5);
        using Bench bench = new(ActivationType.Int8, w);
        foreach (int rows in (int[])[9, 16, 17, 65, 130])
        {
            float[] x = TestWeight.RandomRows(rows, w.Columns, rows);
            bench.Check(x, InBytes(x), rows, 4e-6);
        }
    }

    [CudaTheory]
    [InlineData(TensorType.Q4_0)]
    [InlineData(TensorType.Q2_K)]
    public void Gate_and_up_meet_in_bytes(TensorType type)
    {
        const int Half = 37, Columns = 768;
        TestWeight gate = new(type, Half, Columns, 1), up = new(type, Half, Columns, 2);
        using Bench bench = new(ActivationType.Int8, gate, up);
        foreach (int rows in (int[])[9, 70])
        {
            float[] x = GpuBench.Random(rows * Columns, rows, 0.1f);
            bench.CheckGated(x, InBytes(x), gate.Row, up.Row, rows, Half);
        }
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

    // Wide tiles are for matrices that have one for each multiprocessor; the stand-in has eight.
    [CudaTheory]
    [InlineData(TensorType.BF16)]
    [InlineData(TensorType.Q5_0)]
    public void Wide_tiles(TensorType type)
    {
        TestWeight w = new(type, 2048 + 300, 96, 5);
        using Bench bench = new(ActivationType.BF16, w);
        foreach (int rows in (int[])[20, 50, 130]) bench.Check(rows, isRounded: true);
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
            float[] x = GpuBench.Random(rows * Columns, rows, 0.1f);
            if (rows <= 2) bench.CheckGated(x, x, gate.Row, up.Row, rows, Half);
            else bench.CheckGated(x, Rounded(x), n => Rounded(gate.Row(n)), n => Rounded(up.Row(n)), rows, Half);
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

    private delegate ReadOnlySpan<float> WeightRow(int n);

    /// <summary>What a row is after it was bytes: blocks of 32, the largest becomes 127.</summary>
    private static float[] InBytes(float[] x)
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
            float[] x = TestWeight.RandomRows(rows, _matrix.Columns, rows);
            if (isRounded) Check(x, Rounded(x), rows, 2e-6, static row => Rounded(row));
            else Check(x, x, rows, 2e-6);
        }

        /// <summary>y is the product of what x became, within so much of the sum of the summands' sizes.</summary>
        public void Check(float[] x, float[] became, int rows, double relative, Func<float[], float[]>? weights = null)
        {
            TestWeight w = _parts[0];
            float[] y = Product(MatMul.Multiply, x, rows, w.Rows);
            for (int n = 0; n < w.Rows; n++)
            {
                float[] row = [.. w.Row(n)];
                if (weights is not null) row = weights(row);
                for (int r = 0; r < rows; r++)
                {
                    double expected = Dot(became.AsSpan(r * w.Columns, w.Columns), row, out double size);
                    Assert.True(Math.Abs(y[r * w.Rows + n] - expected) <= relative * size, $"{rows} rows, y[{r}, {n}]: {y[r * w.Rows + n]} instead of {expected}, summands {size}");
                }
            }
        }

        /// <summary>y = gelu(gate x) * (up x).</summary>
        public void CheckGated(float[] x, float[] became, WeightRow gate, WeightRow up, int rows, int half)
        {
            int columns = _matrix.Columns;
            float[] y = Product(MatMul.MultiplyGated, x, rows, half);
            for (int r = 0; r < rows; r++)
            {
                for (int n = 0; n < half; n++)
                {
                    double g = Dot(became.AsSpan(r * columns, columns), gate(n), out _), u = Dot(became.AsSpan(r * columns, columns), up(n), out double size);
                    double expected = 0.5 * g * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (g + 0.044715 * g * g * g))) * u;
                    Assert.True(Math.Abs(y[r * half + n] - expected) <= 1e-5 * (1 + Math.Abs(g)) * size, $"{rows} rows, y[{r}, {n}]: {y[r * half + n]} instead of {expected}");
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
