using GemmaServer.Compute;

namespace GemmaServer.Tests;

[Trait("Category", "Kernels")]
public sealed unsafe class QuantBlockTests
{
    public static TheoryData<TensorType> AllTypes => TestWeight.AllTypes;

    public static TheoryData<TensorType> QuantisedTypes => TestWeight.QuantisedTypes;

    [Theory]
    [MemberData(nameof(AllTypes))]
    public void Rows_decode_to_the_bits_that_ggml_decodes(TensorType type)
    {
        float[] actual = new float[QuantVectors.Columns];
        ReadOnlySpan<float> expected = QuantVectors.Decoded(type);
        fixed (byte* raw = QuantVectors.Raw(type))
        {
            TensorSource source = new("t", type, QuantVectors.Rows, QuantVectors.Columns, (nint)raw, QuantVectors.Raw(type).Length);
            for (int row = 0; row < QuantVectors.Rows; row++)
            {
                WeightRows.Decode(source, row, actual);
                AssertSameBits(expected.Slice(row * QuantVectors.Columns, QuantVectors.Columns), actual);
            }
        }
    }

    [Theory]
    [MemberData(nameof(QuantisedTypes))]
    public void Plain_loops_decode_to_the_bits_that_ggml_decodes(TensorType type)
    {
        float[] actual = BlockFormat.Of(type).Dequantize(QuantVectors.Raw(type));
        AssertSameBits(QuantVectors.Decoded(type), actual);
    }

    [Theory]
    [MemberData(nameof(QuantisedTypes))]
    public void Row_decoding_equals_plain_loops_on_random_blocks(TensorType type)
    {
        BlockFormat format = BlockFormat.Of(type);
        int columns = 40 * format.Length;
        byte[] raw = format.RandomBlocks(40, seed: 1);
        float[] actual = new float[columns];
        fixed (byte* data = raw)
        fixed (float* to = actual) WeightRows.Dequantize(type, data, columns, to);
        AssertSameBits(format.Dequantize(raw), actual);
    }

    [Theory]
    [MemberData(nameof(QuantisedTypes))]
    public void Blocks_have_ggmls_size(TensorType type)
    {
        int rowBytes = QuantVectors.Raw(type).Length / QuantVectors.Rows;
        (int length, int bytes) = TensorTypes.Block(type);
        Assert.Equal(rowBytes, QuantVectors.Columns / length * bytes);
        Assert.Equal(0, length % 32);
    }

    [Fact]
    public void Every_half_widens_exactly()
    {
        ushort[] halves = new ushort[65536];
        for (int i = 0; i < halves.Length; i++) halves[i] = (ushort)i;
        float[] actual = new float[halves.Length];
        fixed (ushort* from = halves)
        fixed (float* to = actual) WeightRows.Dequantize(TensorType.F16, (byte*)from, halves.Length, to);
        for (int i = 0; i < halves.Length; i++)
        {
            Half half = BitConverter.UInt16BitsToHalf(halves[i]);
            foreach (float widened in new[] { actual[i], BlockParts.ToSingle(half) })
            {
                if (Half.IsNaN(half)) Assert.True(float.IsNaN(widened), $"{i:x4} is not a number");
                else Assert.True(BitConverter.SingleToUInt32Bits((float)half) == BitConverter.SingleToUInt32Bits(widened), $"{i:x4} became {widened}");
            }
        }
    }

    [Fact]
    public void Float_rows_of_any_length_widen_to_their_last_element()
    {
        ushort[] halves = [.. Enumerable.Range(0, 37).Select(i => BitConverter.HalfToUInt16Bits((Half)(i - 18.5)))];
        foreach (TensorType type in new[] { TensorType.F16, TensorType.BF16 })
        {
            float[] actual = new float[37];
            fixed (ushort* from = halves)
            fixed (float* to = actual) WeightRows.Dequantize(type, (byte*)from, 37, to);
            for (int i = 0; i < 37; i++)
            {
                float expected = type == TensorType.F16
                    ? (float)BitConverter.UInt16BitsToHalf(halves[i])
                    : BitConverter.UInt32BitsToSingle((uint)halves[i] << 16);
                Assert.Equal(expected, actual[i]);
            }
        }
    }

    [Fact]
    public void The_smallest_shared_exponents_of_mxfp4_are_subnormal()
    {
        foreach ((byte exponent, double unit) in new[] { ((byte)0, Math.Pow(2, -128)), ((byte)1, Math.Pow(2, -127)), ((byte)2, Math.Pow(2, -126)) })
        {
            byte[] raw = new byte[17];
            raw[0] = exponent;
            raw[1] = 0x71;      // codes 1 and 7: 1 and 12 units
            float[] values = BlockFormat.Of(TensorType.MXFP4).Dequantize(raw);
            Assert.Equal((float)unit, values[0]);
            Assert.Equal((float)(12 * unit), values[16]);
        }
    }

    [Fact]
    public void A_tensor_shorter_than_its_shape_is_refused_by_name()
    {
        TensorSource source = new("blk.0.ffn_up.weight", TensorType.Q4_0, 2, 64, 0, 71);
        ArgumentException e = Assert.Throws<ArgumentException>(() => new CpuWeights(source));
        Assert.Contains("blk.0.ffn_up.weight", e.Message);
    }

    [Fact]
    public void A_row_that_is_no_whole_number_of_blocks_is_refused()
    {
        TensorSource source = new("t", TensorType.Q4_K, 1, 128, 0, 1000);
        Assert.Throws<ArgumentException>(() => new CpuWeights(source));
    }

    private static void AssertSameBits(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.True(
                BitConverter.SingleToUInt32Bits(expected[i]) == BitConverter.SingleToUInt32Bits(actual[i]),
                $"element {i}: {actual[i]:R} instead of {expected[i]:R}");
        }
    }
}
