using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>
/// exp, tanh and GELU on sixteen floats. Every lane depends on its own input alone and on IEEE operations only, so a
/// value is the same wherever it stands in a row and on every register width.
/// </summary>
public static class FastMath
{
    // ln 2 in two parts; the first has 15 trailing zero bits, so n · Ln2High is exact for every exponent n.
    private const float Ln2High = 0.693359375f;
    private const float Ln2Low = -2.12194440e-4f;

    // Adding and subtracting 1.5 · 2^23 rounds to a whole number, which then stands in the low bits.
    private const float RoundMagic = 12582912f;

    /// <summary>e^x. Relative error below 2.5e-7; 0 below −104, infinity above 88.73, NaN stays NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Exp(Vector512<float> x)
    {
        // The order of operands lets NaN through.
        x = Vector512.MinNative(Vector512.Create(89f), Vector512.MaxNative(Vector512.Create(-104f), x));
        Vector512<float> p = ExpMinusOneReduced(x, out Vector512<int> n);
        // In two factors, because 2^n alone leaves the range of normal numbers at both ends.
        Vector512<int> half = n >> 1;
        return (p + Vector512<float>.One) * PowerOfTwo(half) * PowerOfTwo(n - half);
    }

    /// <summary>tanh x. Relative error below 5e-7, also around zero; NaN stays NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Tanh(Vector512<float> x)
    {
        // tanh|x| = m / (m + 2) with m = e^(2|x|) − 1 = 2^n · p + (2^n − 1), which keeps all digits of small x.
        // From 10 on it is 1 in f32.
        Vector512<float> sign = x & Vector512.Create(-0f);
        Vector512<float> twice = Vector512.MinNative(Vector512.Create(20f), Vector512.Abs(x) * 2f);
        Vector512<float> p = ExpMinusOneReduced(twice, out Vector512<int> n);
        Vector512<float> power = PowerOfTwo(n);
        Vector512<float> m = Vector512.FusedMultiplyAdd(p, power, power - Vector512<float>.One);
        return (m / (m + Vector512.Create(2f))) | sign;
    }

    /// <summary>
    /// <c>0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))</c>, Gemma's activation.
    /// Relative error below 1e-6 for x above −3; absolute error below 1e-7 below that.
    /// </summary>
    /// <remarks>Evaluated as <c>x / (1 + e^(−2u))</c>: the same function, without the cancellation in 1 + tanh.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> GeluTanh(Vector512<float> x)
    {
        const float minusTwoRoot = -1.5957691216057308f;               // −2 √(2/π)
        const float minusTwoRootCubic = minusTwoRoot * 0.044715f;
        Vector512<float> slope = Vector512.FusedMultiplyAdd(x * x, Vector512.Create(minusTwoRootCubic), Vector512.Create(minusTwoRoot));
        return x / (Vector512<float>.One + Exp(x * slope));
    }

    /// <summary>e^x of one number, by the same steps.</summary>
    public static float Exp(float x) => Exp(Vector512.Create(x)).ToScalar();

    /// <summary>tanh x of one number, by the same steps.</summary>
    public static float Tanh(float x) => Tanh(Vector512.Create(x)).ToScalar();

    /// <summary>GELU of one number, by the same steps.</summary>
    public static float GeluTanh(float x) => GeluTanh(Vector512.Create(x)).ToScalar();

    /// <summary><c>y = e^x</c>; y may be x.</summary>
    /// <exception cref="ArgumentException">The rows differ in length.</exception>
    public static void Exp(ReadOnlySpan<float> x, Span<float> y) => Map<ExpOperation>(x, x, y, 0f);

    /// <summary><c>y = tanh x</c>; y may be x.</summary>
    /// <exception cref="ArgumentException">The rows differ in length.</exception>
    public static void Tanh(ReadOnlySpan<float> x, Span<float> y) => Map<TanhOperation>(x, x, y, 0f);

    /// <summary><c>y = cap · tanh(x / cap)</c>; y may be x.</summary>
    /// <exception cref="ArgumentException">The rows differ in length.</exception>
    public static void SoftCap(ReadOnlySpan<float> x, float cap, Span<float> y) => Map<SoftCapOperation>(x, x, y, cap);

    /// <summary><c>y = gelu(gate) · up</c>; y may be either input.</summary>
    /// <exception cref="ArgumentException">The rows differ in length.</exception>
    public static void GeluTanhMultiply(ReadOnlySpan<float> gate, ReadOnlySpan<float> up, Span<float> y) =>
        Map<GatedOperation>(gate, up, y, 0f);

    /// <summary>Splits x = n ln 2 + r and gives e^r − 1, |r| at most 0.35.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> ExpMinusOneReduced(Vector512<float> x, out Vector512<int> n)
    {
        Vector512<float> magic = Vector512.Create(RoundMagic);
        Vector512<float> shifted = Vector512.FusedMultiplyAdd(x, Vector512.Create(1.4426950408889634f), magic);
        Vector512<float> whole = shifted - magic;
        n = shifted.AsInt32() - magic.AsInt32();
        Vector512<float> r = Vector512.FusedMultiplyAdd(whole, Vector512.Create(-Ln2High), x);
        r = Vector512.FusedMultiplyAdd(whole, Vector512.Create(-Ln2Low), r);

        // Taylor series to r^7 / 7!; the next term is below 5.2e-9 at the end of the interval.
        Vector512<float> p = Vector512.FusedMultiplyAdd(r, Vector512.Create(1f / 5040), Vector512.Create(1f / 720));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1f / 120));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1f / 24));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1f / 6));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(0.5f));
        return Vector512.FusedMultiplyAdd(p, r * r, r);
    }

    /// <summary>2^n for n = −126 … 127, by its bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> PowerOfTwo(Vector512<int> n) => ((n + Vector512.Create(127)) << 23).AsSingle();

    private interface IOperation
    {
        static abstract Vector512<float> Apply(Vector512<float> a, Vector512<float> b, Vector512<float> constant);
    }

    private readonly struct ExpOperation : IOperation
    {
        public static Vector512<float> Apply(Vector512<float> a, Vector512<float> b, Vector512<float> constant) => Exp(a);
    }

    private readonly struct TanhOperation : IOperation
    {
        public static Vector512<float> Apply(Vector512<float> a, Vector512<float> b, Vector512<float> constant) => Tanh(a);
    }

    private readonly struct SoftCapOperation : IOperation
    {
        public static Vector512<float> Apply(Vector512<float> a, Vector512<float> b, Vector512<float> constant) => constant * Tanh(a / constant);
    }

    private readonly struct GatedOperation : IOperation
    {
        public static Vector512<float> Apply(Vector512<float> a, Vector512<float> b, Vector512<float> constant) => GeluTanh(a) * b;
    }

    private static void Map<TOperation>(ReadOnlySpan<float> a, ReadOnlySpan<float> b, Span<float> y, float constant)
        where TOperation : struct, IOperation
    {
        if (a.Length != y.Length || b.Length != y.Length) throw new ArgumentException("The rows differ in length.");
        Vector512<float> c = Vector512.Create(constant);
        int i = 0;
        for (; i <= y.Length - 16; i += 16)
        {
            TOperation.Apply(Vector512.Create(a[i..]), Vector512.Create(b[i..]), c).CopyTo(y[i..]);
        }
        if (i == y.Length) return;

        // The tail is a full vector too, filled up with ones.
        Vector512<float> lastA = Vector512<float>.One, lastB = Vector512<float>.One;
        a[i..].CopyTo(Elements(ref lastA));
        b[i..].CopyTo(Elements(ref lastB));
        Vector512<float> last = TOperation.Apply(lastA, lastB, c);
        Elements(ref last)[..(y.Length - i)].CopyTo(y[i..]);
    }

    private static Span<float> Elements(ref Vector512<float> v) => MemoryMarshal.CreateSpan(ref Unsafe.As<Vector512<float>, float>(ref v), 16);
}
