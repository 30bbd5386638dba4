using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>RMSNorm over one row: <c>y = x / sqrt(mean(x²) + epsilon) · w</c>.</summary>
/// <remarks>
/// Source: google-deepmind/gemma, <c>gm/nn/gemma4/_layers.py</c>, RMSNorm.
/// Gemma 4 multiplies by <c>w</c>; Gemma 3 multiplied by <c>1 + w</c>.
/// </remarks>
public static class RmsNorm
{
    /// <param name="x">Input, <c>[dim]</c>.</param>
    /// <param name="w">Scale, <c>[dim]</c>; empty stands for ones (Gemma 4's value and router norms).</param>
    /// <param name="epsilon">Added to the mean square; 1e-6 in Gemma 4.</param>
    /// <param name="y">Output, <c>[dim]</c>; may be the same memory as <paramref name="x"/>.</param>
    /// <exception cref="ArgumentException">The rows differ in length.</exception>
    public static void Row(ReadOnlySpan<float> x, ReadOnlySpan<float> w, float epsilon, Span<float> y)
    {
        if (y.Length != x.Length || (!w.IsEmpty && w.Length != x.Length))
            throw new ArgumentException($"Rows differ in length: x {x.Length}, w {w.Length}, y {y.Length}.");
        Scale(x, InverseRms(x, epsilon), w, y);
    }

    /// <summary><c>1 / sqrt(mean(x²) + epsilon)</c>.</summary>
    public static float InverseRms(ReadOnlySpan<float> x, float epsilon) =>
        1f / MathF.Sqrt(SumOfSquares(x) / x.Length + epsilon);

    /// <summary>Plain loops in double precision: what the faster version is measured against.</summary>
    internal static void RowReference(ReadOnlySpan<float> x, ReadOnlySpan<float> w, float epsilon, Span<float> y)
    {
        double sum = 0;
        foreach (float v in x) sum += (double)v * v;
        double inverse = 1 / Math.Sqrt(sum / x.Length + epsilon);
        for (int i = 0; i < x.Length; i++) y[i] = (float)(x[i] * inverse * (w.IsEmpty ? 1 : w[i]));
    }

    private static float SumOfSquares(ReadOnlySpan<float> x)
    {
        ReadOnlySpan<Vector512<float>> v = MemoryMarshal.Cast<float, Vector512<float>>(x);
        Vector512<float> s0 = default, s1 = default;
        int i = 0;
        for (; i + 1 < v.Length; i += 2)
        {
            s0 = Vector512.FusedMultiplyAdd(v[i], v[i], s0);
            s1 = Vector512.FusedMultiplyAdd(v[i + 1], v[i + 1], s1);
        }
        if (i < v.Length) s0 = Vector512.FusedMultiplyAdd(v[i], v[i], s0);
        float sum = Vector512.Sum(s0 + s1);
        for (int t = v.Length * Vector512<float>.Count; t < x.Length; t++) sum += x[t] * x[t];
        return sum;
    }

    private static void Scale(ReadOnlySpan<float> x, float factor, ReadOnlySpan<float> w, Span<float> y)
    {
        ReadOnlySpan<Vector512<float>> vx = MemoryMarshal.Cast<float, Vector512<float>>(x);
        Span<Vector512<float>> vy = MemoryMarshal.Cast<float, Vector512<float>>(y);
        Vector512<float> f = Vector512.Create(factor);
        int tail = vx.Length * Vector512<float>.Count;
        if (w.IsEmpty)
        {
            for (int i = 0; i < vx.Length; i++) vy[i] = vx[i] * f;
            for (int t = tail; t < x.Length; t++) y[t] = x[t] * factor;
            return;
        }
        ReadOnlySpan<Vector512<float>> vw = MemoryMarshal.Cast<float, Vector512<float>>(w);
        for (int i = 0; i < vx.Length; i++) vy[i] = vx[i] * f * vw[i];
        for (int t = tail; t < x.Length; t++) y[t] = x[t] * factor * w[t];
    }
}
