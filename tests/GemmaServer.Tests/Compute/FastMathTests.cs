using GemmaServer.Compute;

namespace GemmaServer.Tests;

[Trait("Category", "Kernels")]
public sealed class FastMathTests
{
    [Fact]
    public void Exp_is_within_its_stated_error_over_the_whole_range()
    {
        for (float x = -87f; x < 88.7f; x += 0.00173f) AssertRelative(Math.Exp(x), FastMath.Exp(x), 2.5e-7, x);
        for (float x = -0.01f; x < 0.01f; x += 0.0000091f) AssertRelative(Math.Exp(x), FastMath.Exp(x), 2.5e-7, x);
    }

    [Fact]
    public void Exp_has_the_right_ends()
    {
        Assert.Equal(1f, FastMath.Exp(0f));
        Assert.Equal(0f, FastMath.Exp(-105f));
        Assert.Equal(0f, FastMath.Exp(float.NegativeInfinity));
        Assert.Equal(float.PositiveInfinity, FastMath.Exp(88.8f));
        Assert.Equal(float.PositiveInfinity, FastMath.Exp(float.PositiveInfinity));
        Assert.True(float.IsNaN(FastMath.Exp(float.NaN)));
        // Subnormal results lose digits but do not vanish.
        Assert.Equal(Math.Exp(-95), FastMath.Exp(-95f), 2e-45);
    }

    [Fact]
    public void Tanh_is_within_its_stated_error_also_around_zero()
    {
        for (float x = 1e-20f; x < 12f; x = x < 1e-3f ? x * 1.01f : x + 0.000117f)
        {
            AssertRelative(Math.Tanh(x), FastMath.Tanh(x), 5e-7, x);
            Assert.Equal(-FastMath.Tanh(x), FastMath.Tanh(-x));
        }
        Assert.Equal(1f, FastMath.Tanh(float.PositiveInfinity));
        Assert.Equal(-1f, FastMath.Tanh(float.NegativeInfinity));
        Assert.Equal(0f, FastMath.Tanh(0f));
        Assert.True(float.IsNaN(FastMath.Tanh(float.NaN)));
    }

    [Fact]
    public void Gelu_is_the_tanh_form_to_float_precision()
    {
        double erfGap = 0;
        for (float x = -12f; x < 12f; x += 0.00037f)
        {
            double expected = GeluTanh(x);
            if (x > -3) AssertRelative(expected, FastMath.GeluTanh(x), 1e-6, x);
            Assert.True(Math.Abs(expected - FastMath.GeluTanh(x)) <= 1e-7 + 1e-6 * Math.Abs(expected), $"gelu({x})");
            erfGap = Math.Max(erfGap, Math.Abs(expected - 0.5 * x * (1 + Erf(x / Math.Sqrt(2)))));
        }
        // The erf form is another function by far more than the error allowed here.
        Assert.True(erfGap > 1e-4);
        Assert.Equal(0f, FastMath.GeluTanh(0f));
        Assert.Equal(100f, FastMath.GeluTanh(100f));
        Assert.Equal(0f, FastMath.GeluTanh(-100f));
    }

    [Fact]
    public void Rows_of_any_length_equal_single_numbers_bit_for_bit()
    {
        Random random = new(3);
        for (int length = 0; length < 40; length++)
        {
            float[] x = [.. Enumerable.Range(0, length).Select(_ => (float)(random.NextDouble() * 20 - 10))];
            float[] up = [.. Enumerable.Range(0, length).Select(_ => (float)random.NextDouble())];
            float[] exp = new float[length], tanh = new float[length], gated = new float[length], capped = new float[length];
            FastMath.Exp(x, exp);
            FastMath.Tanh(x, tanh);
            FastMath.GeluTanhMultiply(x, up, gated);
            FastMath.SoftCap(x, 30f, capped);
            for (int i = 0; i < length; i++)
            {
                Assert.Equal(FastMath.Exp(x[i]), exp[i]);
                Assert.Equal(FastMath.Tanh(x[i]), tanh[i]);
                Assert.Equal(FastMath.GeluTanh(x[i]) * up[i], gated[i]);
                AssertRelative(30 * Math.Tanh(x[i] / 30.0), capped[i], 1e-6, x[i]);
            }
        }
    }

    [Fact]
    public void Rows_of_different_length_are_refused()
    {
        Assert.Throws<ArgumentException>(() => FastMath.Exp(new float[3], new float[4]));
        Assert.Throws<ArgumentException>(() => FastMath.GeluTanhMultiply(new float[4], new float[3], new float[4]));
    }

    internal static double GeluTanh(double x) => 0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));

    /// <summary>The series of erf; enough for |x| below 9.</summary>
    private static double Erf(double x)
    {
        if (Math.Abs(x) > 4) return Math.Sign(x);
        double term = x, sum = x;
        for (int n = 1; n < 120; n++)
        {
            term *= -x * x / n;
            sum += term / (2 * n + 1);
        }
        return sum * 2 / Math.Sqrt(Math.PI);
    }

    private static void AssertRelative(double expected, float actual, double tolerance, float x) =>
        Assert.True(Math.Abs(actual - expected) <= tolerance * Math.Abs(expected), $"f({x:R}) = {actual:R}, expected {expected:R}");
}
