using GemmaServer.Compute;

namespace GemmaServer.Tests.Compute;

/// <summary>How keys and values are stored, against the conversions of the runtime and plain loops, bit for bit.</summary>
public unsafe class KvFormatTests
{
    [Fact]
    public void Every_finite_half_is_read_exactly()
    {
        ushort[] halves = [.. Enumerable.Range(0, 65536).Select(h => (ushort)h).Where(h => Half.IsFinite(BitConverter.UInt16BitsToHalf(h)))];
        float[] scratch = new float[halves.Length];
        fixed (ushort* h = halves)
        fixed (float* s = scratch) Assert.True(s == KvF16.Load((byte*)h, 0, halves.Length, s));
        for (int i = 0; i < halves.Length; i++)
            Assert.Equal(BitConverter.SingleToUInt32Bits((float)BitConverter.UInt16BitsToHalf(halves[i])), BitConverter.SingleToUInt32Bits(scratch[i]));
    }

    [Fact]
    public void Halves_round_to_even_as_the_runtime_does()
    {
        float[] x = Hard();
        ushort[] stored = new ushort[x.Length];
        fixed (ushort* s = stored) KvF16.Store(x, (byte*)s);
        for (int i = 0; i < x.Length; i++)
        {
            ushort expected = BitConverter.HalfToUInt16Bits((Half)x[i]);
            if (float.IsNaN(x[i])) Assert.True(Half.IsNaN(BitConverter.UInt16BitsToHalf(stored[i])));
            else Assert.True(expected == stored[i], $"{x[i]:R}: {expected:X4} or {stored[i]:X4}");
        }
    }

    [Fact]
    public void Bfloats_round_to_even()
    {
        float[] x = [.. Hard().Where(float.IsFinite)];
        ushort[] stored = new ushort[x.Length];
        float[] read = new float[x.Length];
        fixed (ushort* s = stored)
        fixed (float* r = read)
        {
            KvBF16.Store(x, (byte*)s);
            KvBF16.Load((byte*)s, 0, x.Length, r);
        }
        for (int i = 0; i < x.Length; i++)
        {
            uint bits = BitConverter.SingleToUInt32Bits(x[i]);
            Assert.Equal((ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16), stored[i]);
            Assert.Equal((uint)stored[i] << 16, BitConverter.SingleToUInt32Bits(read[i]));
        }
    }

    [Fact]
    public void Blocks_of_bytes_are_those_of_plain_loops()
    {
        Random random = new(3);
        const int blocks = 400;
        float[] x = [.. Enumerable.Range(0, blocks * 32).Select(_ => (float)(random.NextDouble() * 2 - 1))];
        // Ties: with 127 as the largest, halves are midpoints between codes; a block of zeros has no scale.
        for (int i = 0; i < 32; i++) (x[i], x[32 + i]) = (i == 7 ? -127 : i * 4 - 63.5f, 0);
        byte[] stored = new byte[KvQ8.RowBytes(x.Length)];
        float[] read = new float[x.Length - 32];
        fixed (byte* s = stored)
        fixed (float* r = read)
        {
            KvQ8.Store(x, s);
            KvQ8.Load(s, 32, read.Length, r); // from the second block on
        }
        for (int b = 0; b < blocks; b++)
        {
            ReadOnlySpan<float> values = x.AsSpan(b * 32, 32);
            float max = 0;
            foreach (float v in values) max = Math.Max(max, MathF.Abs(v));
            float scale = max / 127f, inverse = scale == 0 ? 0 : 1 / scale;
            Assert.Equal((Half)scale, BitConverter.ToHalf(stored, b * 34));
            for (int i = 0; i < 32; i++)
            {
                sbyte code = (sbyte)MathF.Round(values[i] * inverse, MidpointRounding.AwayFromZero);
                Assert.Equal(code, (sbyte)stored[b * 34 + 2 + i]);
                if (b > 0) Assert.Equal(code * (float)(Half)scale, read[(b - 1) * 32 + i]);
            }
        }
    }

    /// <summary>Every half, its neighbours and the midpoints to the next, both signs, large, small and special numbers.</summary>
    private static float[] Hard()
    {
        List<float> x = [0f, -0f, float.NaN, float.PositiveInfinity, float.NegativeInfinity, float.MaxValue, float.Epsilon, 65519.996f, 65520f, 65536f, 1e-8f, -1e-30f];
        for (int h = 0; h < 0x7C00; h++)
        {
            float low = (float)BitConverter.UInt16BitsToHalf((ushort)h), high = (float)BitConverter.UInt16BitsToHalf((ushort)(h + 1));
            float middle = float.IsFinite(high) ? (low + high) / 2 : 65520f;
            foreach (float v in (float[])[low, MathF.BitDecrement(middle), middle, MathF.BitIncrement(middle)]) x.AddRange([v, -v]);
        }
        return [.. x];
    }
}
