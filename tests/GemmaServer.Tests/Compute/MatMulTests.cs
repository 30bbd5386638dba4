using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using System.Security.Cryptography;
using GemmaServer.Compute;

namespace GemmaServer.Tests;

[Trait("Category", "Kernels")]
public sealed class MatMulTests
{
    public static TheoryData<TensorType, ActivationType> Everything
    {
        get
        {
            TheoryData<TensorType, ActivationType> data = [];
            foreach (TensorType type in Enum.GetValues<TensorType>())
            {
                data.Add(type, ActivationType.F32);
                data.Add(type, ActivationType.Int8);
            }
            return data;
        }
    }

    public static TheoryData<TensorType> AllTypes => TestWeight.AllTypes;

    public static TheoryData<TensorType> QuantisedTypes => TestWeight.QuantisedTypes;

    [Theory]
    [MemberData(nameof(AllTypes))]
    public void F32_products_agree_with_double_precision(TensorType type)
    {
        TestWeight w = new(type, 23, TestWeight.ColumnsFor(type), seed: 5);
        float[] x = TestWeight.RandomRows(6, w.Columns, seed: 6);
        float[] y = Multiply(ActivationType.F32, x, 6, w);
        for (int i = 0; i < 6; i++)
        {
            for (int j = 0; j < w.Rows; j++) AssertDot(x.AsSpan(i * w.Columns, w.Columns), w.Row(j), y[i * w.Rows + j], 1e-6);
        }
    }

    [Theory]
    [MemberData(nameof(QuantisedTypes))]
    public void Int8_products_are_the_decoded_weights_times_the_rounded_input(TensorType type)
    {
        TestWeight w = new(type, 23, TestWeight.ColumnsFor(type), seed: 7);
        float[] x = TestWeight.RandomRows(6, w.Columns, seed: 8);
        float[] y = Multiply(ActivationType.Int8, x, 6, w);
        double worst = 0;
        for (int i = 0; i < 6; i++)
        {
            float[] rounded = RoundToInt8(x.AsSpan(i * w.Columns, w.Columns));
            for (int j = 0; j < w.Rows; j++)
            {
                // Codes are unsigned: up to sixteen times the value is added and taken off again.
                AssertDot(rounded, w.Row(j), y[i * w.Rows + j], 1e-5);
                worst = Math.Max(worst, Math.Abs(Dot(x.AsSpan(i * w.Columns, w.Columns), w.Row(j)).Sum - y[i * w.Rows + j]));
            }
        }
        // Rounding the input must show: otherwise this ran in f32.
        Assert.True(worst > 1e-6);
    }

    [Theory]
    [MemberData(nameof(Everything))]
    public void A_row_has_the_same_bits_in_every_batch(TensorType type, ActivationType activations)
    {
        TestWeight w = new(type, 27, TestWeight.ColumnsFor(type), seed: 9);
        const int most = 64;
        float[] x = TestWeight.RandomRows(most, w.Columns, seed: 10);
        float[] alone = new float[most * w.Rows];
        for (int i = 0; i < most; i++)
        {
            Multiply(activations, x.AsSpan(i * w.Columns, w.Columns).ToArray(), 1, w).CopyTo(alone, i * w.Rows);
        }
        foreach (int m in new[] { 2, 3, 5, 17, 64 })
        {
            // From the end too, so that rows meet other neighbours and other places in a tile.
            int first = most - m;
            float[] head = Multiply(activations, x.AsSpan(0, m * w.Columns).ToArray(), m, w);
            float[] end = Multiply(activations, x.AsSpan(first * w.Columns).ToArray(), m, w);
            AssertSameBits(alone.AsSpan(0, m * w.Rows), head);
            AssertSameBits(alone.AsSpan(first * w.Rows), end);
        }
    }

    [Theory]
    [MemberData(nameof(Everything))]
    public void Results_do_not_depend_on_the_number_of_threads(TensorType type, ActivationType activations)
    {
        TestWeight w = new(type, 41, TestWeight.ColumnsFor(type), seed: 11);
        float[] x = TestWeight.RandomRows(9, w.Columns, seed: 12);
        float[] one = Multiply(activations, x, 9, w, threads: 1);
        foreach (int threads in new[] { 2, 3, 8 }) AssertSameBits(one, Multiply(activations, x, 9, w, threads));
    }

    [Theory]
    [InlineData(ActivationType.F32, "87C326740E07272A")]
    [InlineData(ActivationType.Int8, "283B2B293FF473D2")]
    public void Results_are_the_same_bits_on_every_register_width(ActivationType activations, string expected)
    {
        // One hash for all types. Recorded on an AVX-512 machine; narrower ones, and DOTNET_EnableAVX512=0,
        // DOTNET_EnableAVX2=0 and DOTNET_EnableHWIntrinsic=0 on that one, must reach it too.
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (TensorType type in Enum.GetValues<TensorType>())
        {
            TestWeight w = new(type, 14, TestWeight.ColumnsFor(type), seed: 13);
            float[] x = TestWeight.RandomRows(7, w.Columns, seed: 14);
            hash.AppendData(MemoryMarshal.AsBytes(Multiply(activations, x, 7, w).AsSpan()));
        }
        Assert.Equal(expected, Convert.ToHexString(hash.GetHashAndReset())[..16]);
    }

    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(1, 3, 15)]
    [InlineData(3, 1, 16)]
    [InlineData(4, 4, 17)]
    [InlineData(5, 7, 31)]
    [InlineData(8, 5, 33)]
    [InlineData(13, 9, 100)]
    public void Odd_shapes_equal_the_plain_loops_bit_for_bit(int m, int n, int k)
    {
        TestWeight w = new(TensorType.F32, n, k, seed: 15);
        float[] x = TestWeight.RandomRows(m, k, seed: 16);
        float[] y = Multiply(ActivationType.F32, x, m, w);
        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < n; j++) Assert.Equal(FloatTiles.DotReference(x.AsSpan(i * k, k), w.Row(j)), y[i * n + j]);
        }
    }

    [Fact]
    public void Integer_dots_of_every_width_are_exact_at_the_extremes()
    {
        Random random = new(17);
        byte[] u = new byte[32];
        sbyte[] q = new sbyte[32];
        for (int round = 0; round < 200; round++)
        {
            random.NextBytes(u);
            random.NextBytes(MemoryMarshal.AsBytes(q.AsSpan()));
            // Pairs of these overflow 16 bits, where an instruction that saturates goes wrong.
            if (round % 4 == 0) u.AsSpan().Fill(255);
            if (round % 8 == 0) q.AsSpan().Fill(round % 16 == 0 ? (sbyte)-127 : (sbyte)127);
            Vector256<byte> vu = Vector256.Create(u);
            Vector256<sbyte> vq = Vector256.Create(q);
            for (int lane = 0; lane < 8; lane++)
            {
                int expected = Enumerable.Range(4 * lane, 4).Sum(i => u[i] * q[i]);
                Assert.Equal(expected, Dot4.Reference(vu, vq)[lane]);
                Assert.Equal(expected, Dot4.Portable(vu, vq)[lane]);
                Assert.Equal(expected, Dot4.Add(vu, vq, Vector256<int>.Zero)[lane]);
                if (Avx2.IsSupported) Assert.Equal(expected, Dot4.WithAvx2(vu, vq)[lane]);
                // Signed by signed, for inputs of at least −127: as AVX2 and ARM take wide codes.
                Vector256<sbyte> input = Vector256.Max(vq, Vector256.Create((sbyte)-127));
                int signed = Enumerable.Range(4 * lane, 4).Sum(i => (u[i] - 128) * Math.Max(q[i], (sbyte)-127));
                Assert.Equal(signed, Dot4.AddSigned((vu ^ Vector256.Create((byte)0x80)).AsSByte(), input, Vector256<int>.Zero)[lane]);
            }
        }
    }

    [Theory]
    [InlineData(ActivationType.F32)]
    [InlineData(ActivationType.Int8)]
    public void Stacked_tensors_of_different_types_equal_separate_products(ActivationType activations)
    {
        TestWeight[] parts =
        [
            new(TensorType.Q4_K, 10, 256, 18), new(TensorType.BF16, 3, 256, 19), new(TensorType.Q6_K, 7, 256, 20),
            new(TensorType.F32, 5, 256, 21), new(TensorType.Q8_0, 1, 256, 22),
        ];
        CpuWeights stacked = new([.. parts.Select(p => p.Source)]);
        Assert.Equal(26, stacked.Rows);
        float[] x = TestWeight.RandomRows(11, 256, seed: 23);
        float[] y = new float[11 * 30];
        using WorkerPool pool = new(3);
        using CpuMatMul matMul = new(pool, activations);
        matMul.Multiply(x, 11, stacked, y, 30);

        int column = 0;
        foreach (TestWeight part in parts)
        {
            float[] expected = Multiply(activations, x, 11, part);
            for (int i = 0; i < 11; i++) AssertSameBits(expected.AsSpan(i * part.Rows, part.Rows), y.AsSpan(i * 30 + column, part.Rows));
            for (int r = 0; r < part.Rows; r++)
            {
                float[] row = new float[256];
                stacked.DecodeRow(column + r, row);
                AssertSameBits(part.Row(r), row);
            }
            column += part.Rows;
        }
        // The gap between output rows is not ours.
        for (int i = 0; i < 11; i++) Assert.All(y[(i * 30 + 26)..(i * 30 + 30)], v => Assert.Equal(0f, v));
    }

    [Theory]
    [InlineData(TensorType.Q4_0, ActivationType.F32)]
    [InlineData(TensorType.Q4_0, ActivationType.Int8)]
    [InlineData(TensorType.BF16, ActivationType.F32)]
    public void Gated_products_are_gelu_of_the_gate_times_up(TensorType type, ActivationType activations)
    {
        const int ff = 37, k = 96, m = 9;
        TestWeight gate = new(type, ff, k, 24), up = new(type, ff, k, 25);
        float[] x = TestWeight.RandomRows(m, k, seed: 26);
        float[] y = new float[m * ff];
        using WorkerPool pool = new(2);
        using CpuMatMul matMul = new(pool, activations);
        matMul.MultiplyGated(x, m, new CpuWeights(gate.Source, up.Source), y, ff);

        float[] g = Multiply(activations, x, m, gate), u = Multiply(activations, x, m, up);
        for (int i = 0; i < y.Length; i++)
        {
            Assert.Equal(FastMath.GeluTanh(g[i]) * u[i], y[i]);
            double exact = FastMathTests.GeluTanh(g[i]) * u[i];
            Assert.Equal(exact, y[i], 2e-7 * Math.Abs(u[i]) + 1e-6 * Math.Abs(exact));
        }
    }

    [Theory]
    [InlineData(ActivationType.F32)]
    [InlineData(ActivationType.Int8)]
    public void An_experts_rows_are_gathered_and_its_weights_are_a_range(ActivationType activations)
    {
        const int k = 64, experts = 5, ff = 6, tokens = 20;
        TestWeight gateUp = new(TensorType.Q5_0, experts * 2 * ff, k, 27);
        float[] x = TestWeight.RandomRows(tokens, k, seed: 28);
        float[] all = Multiply(activations, x, tokens, gateUp);
        using WorkerPool pool = new(2);
        using CpuMatMul matMul = new(pool, activations);
        CpuWeights w = new(gateUp.Source);
        int[] routed = [7, 0, 19, 7, 3];
        for (int e = 0; e < experts; e++)
        {
            int first = e * 2 * ff;
            float[] y = new float[routed.Length * 2 * ff], gated = new float[routed.Length * ff];
            matMul.MultiplySubset(x, routed, w, first, 2 * ff, y, 2 * ff);
            matMul.MultiplyGated(new InputRows(x, routed, k), w, first, first + ff, ff, gated, ff);
            for (int i = 0; i < routed.Length; i++)
            {
                ReadOnlySpan<float> expected = all.AsSpan(routed[i] * gateUp.Rows + first, 2 * ff);
                AssertSameBits(expected, y.AsSpan(i * 2 * ff, 2 * ff));
                for (int j = 0; j < ff; j++) Assert.Equal(FastMath.GeluTanh(expected[j]) * expected[ff + j], gated[i * ff + j]);
            }
        }
    }

    [Fact]
    public void Input_rows_may_lie_apart()
    {
        TestWeight w = new(TensorType.Q8_0, 5, 32, 29);
        float[] x = TestWeight.RandomRows(4, 50, seed: 30);
        float[] y = new float[20];
        using WorkerPool pool = new(1);
        using CpuMatMul matMul = new(pool, ActivationType.Int8);
        matMul.Multiply(new InputRows(x, 4, 50), new CpuWeights(w.Source), 0, 5, y, 5);
        for (int i = 0; i < 4; i++) AssertSameBits(Multiply(ActivationType.Int8, x.AsSpan(i * 50, 32).ToArray(), 1, w), y.AsSpan(5 * i, 5));
    }

    [Theory]
    [MemberData(nameof(Everything))]
    public void What_is_not_a_number_stays_in_its_own_row(TensorType type, ActivationType activations)
    {
        TestWeight w = new(type, 9, TestWeight.ColumnsFor(type), seed: 31);
        float[] x = TestWeight.RandomRows(6, w.Columns, seed: 32);
        x[2 * w.Columns + 40] = float.NaN;
        x.AsSpan(4 * w.Columns, w.Columns).Clear();
        x.AsSpan(5 * w.Columns, w.Columns).Fill(1e-39f);
        float[] y = Multiply(activations, x, 6, w);
        for (int i = 0; i < 6; i++)
        {
            for (int j = 0; j < w.Rows; j++) Assert.Equal(i == 2, float.IsNaN(y[i * w.Rows + j]));
        }
        Assert.All(y[(4 * w.Rows)..(5 * w.Rows)], v => Assert.Equal(0f, v));
        Assert.All(y[(5 * w.Rows)..], v => Assert.InRange(Math.Abs(v), 0, 1e-30f));
    }

    [Theory]
    [InlineData(ActivationType.F32)]
    [InlineData(ActivationType.Int8)]
    public void A_product_allocates_nothing_once_scratch_has_grown(ActivationType activations)
    {
        TestWeight t = new(TensorType.Q4_K, 64, 512, seed: 33);
        CpuWeights w = new(t.Source);
        float[] x = TestWeight.RandomRows(8, 512, seed: 34), y = new float[8 * 64];
        int[] indices = [3, 1];
        using WorkerPool pool = new(2);
        using CpuMatMul matMul = new(pool, activations);
        long allocated = 0;
        for (int round = 0; round < 100; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            matMul.Multiply(x, 8, w, y, 64);
            matMul.MultiplyGated(x, 1, w, y, 32);
            matMul.MultiplySubset(x, indices, w, 8, 16, y, 16);
            if (round >= 50) allocated += GC.GetAllocatedBytesForCurrentThread() - before;
        }
        Assert.Equal(0, allocated);
    }

    [Fact]
    public void Rows_outside_their_spans_are_refused()
    {
        CpuWeights w = new(new TestWeight(TensorType.Q8_0, 6, 32, 35).Source);
        using WorkerPool pool = new(1);
        using CpuMatMul matMul = new(pool, ActivationType.F32);
        float[] x = new float[64], y = new float[12];
        Assert.Throws<ArgumentException>(() => matMul.Multiply(x.AsSpan(0, 63), 2, w, y, 6));
        Assert.Throws<ArgumentException>(() => matMul.Multiply(x, 2, w, y.AsSpan(0, 11), 6));
        Assert.Throws<ArgumentException>(() => matMul.Multiply(x, 2, w, y, 5));
        Assert.ThrowsAny<ArgumentException>(() => matMul.MultiplySubset(x, [0, 2], w, 0, 6, y, 6));
        Assert.ThrowsAny<ArgumentException>(() => matMul.MultiplySubset(x, [-1], w, 0, 6, y, 6));
        Assert.ThrowsAny<ArgumentException>(() => matMul.MultiplySubset(x, [0], w, 4, 3, y, 6));
        Assert.ThrowsAny<ArgumentException>(() => matMul.MultiplyGated(new InputRows(x, 1, 32), w, 0, 4, 3, y, 6));
        Assert.Throws<ArgumentException>(() => new CpuWeights(
            new TestWeight(TensorType.Q8_0, 1, 32, 1).Source, new TestWeight(TensorType.Q8_0, 1, 64, 1).Source));
        Assert.Throws<ArgumentOutOfRangeException>(() => w.DecodeRow(6, new float[32]));
    }

    private static float[] Multiply(ActivationType activations, float[] x, int m, TestWeight w, int threads = 1)
    {
        float[] y = new float[m * w.Rows];
        y.AsSpan().Fill(float.NaN);     // every element has to be written
        using WorkerPool pool = new(threads);
        using CpuMatMul matMul = new(pool, activations);
        matMul.Multiply(x, m, new CpuWeights(w.Source), y, w.Rows);
        return y;
    }

    /// <summary>The input after a way through signed bytes, in plain loops.</summary>
    private static float[] RoundToInt8(ReadOnlySpan<float> x)
    {
        float[] rounded = new float[x.Length];
        for (int b = 0; b < x.Length; b += 32)
        {
            float max = 0;
            foreach (float v in x.Slice(b, 32)) max = Math.Max(max, Math.Abs(v));
            for (int i = b; i < b + 32; i++) rounded[i] = MathF.Round(x[i] * (127f / max), MidpointRounding.ToEven) * (max / 127f);
        }
        return rounded;
    }

    private static (double Sum, double Magnitude) Dot(ReadOnlySpan<float> x, ReadOnlySpan<float> w)
    {
        double sum = 0, magnitude = 0;
        for (int i = 0; i < x.Length; i++)
        {
            sum += (double)x[i] * w[i];
            magnitude += Math.Abs((double)x[i] * w[i]);
        }
        return (sum, magnitude);
    }

    private static void AssertDot(ReadOnlySpan<float> x, ReadOnlySpan<float> w, float actual, double relative)
    {
        (double sum, double magnitude) = Dot(x, w);
        Assert.True(Math.Abs(sum - actual) <= relative * magnitude, $"{actual:R} instead of {sum:R}, of terms that add up to {magnitude:R}");
    }

    private static void AssertSameBits(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual) =>
        Assert.True(MemoryMarshal.AsBytes(expected).SequenceEqual(MemoryMarshal.AsBytes(actual)), "The bits differ.");
}
