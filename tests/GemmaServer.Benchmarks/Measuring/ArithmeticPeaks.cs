using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace GemmaServer.Benchmarks;

/// <summary>Operations a second of loops that touch no memory: a multiplication and an addition are two.</summary>
internal sealed class ArithmeticPeaks(ThreadTeam team)
{
    private const int Turns = 2_000_000, Chains = 12;

    private readonly double[] _sinks = new double[team.Count * 8];

    /// <summary>f32 fused multiply-adds, at the widest register.</summary>
    public double Float => Best(FloatLoop, Vector512.IsHardwareAccelerated ? 16 : Vector256.IsHardwareAccelerated ? 8 : 4);

    /// <summary>Byte products summed in fours to int32, by the best instruction that .NET offers here; <see cref="IntegerName"/> says which.</summary>
    public double Integer => AvxVnni.IsSupported ? Best(VnniLoop, 32) : Dp.IsSupported ? Best(DotLoop, 16) : Avx2.IsSupported ? Best(MaddLoop, 32) : double.NaN;

    public static string IntegerName => AvxVnni.IsSupported ? "AVX-VNNI, 256 bits" : Dp.IsSupported ? "AdvSimd dot product" : Avx2.IsSupported ? "AVX2 maddubs" : "none";

    /// <param name="loop">Every turn has <see cref="Chains"/> instructions.</param>
    /// <param name="products">Of one instruction.</param>
    private double Best(Func<double> loop, int products)
    {
        double seconds = double.PositiveInfinity;
        // The best: a loop that another process held up says nothing about the machine.
        for (int i = 0; i < 8; i++) seconds = Math.Min(seconds, team.Run(t => _sinks[t * 8] = loop()));
        return 2.0 * products * Chains * Turns * team.Count / seconds;
    }

    // Twelve chains: an instruction of four or five cycles, two of which begin in each, needs ten.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double FloatLoop() => Vector512.IsHardwareAccelerated ? Float512() : Vector256.IsHardwareAccelerated ? Float256() : Float128();

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double Float512()
    {
        Vector512<float> x = Vector512.Create(0.5f), y = x, a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x;
        for (int turn = 0; turn < Turns; turn++)
        {
            a = Vector512.FusedMultiplyAdd(x, y, a); b = Vector512.FusedMultiplyAdd(x, y, b); c = Vector512.FusedMultiplyAdd(x, y, c);
            d = Vector512.FusedMultiplyAdd(x, y, d); e = Vector512.FusedMultiplyAdd(x, y, e); f = Vector512.FusedMultiplyAdd(x, y, f);
            g = Vector512.FusedMultiplyAdd(x, y, g); h = Vector512.FusedMultiplyAdd(x, y, h); i = Vector512.FusedMultiplyAdd(x, y, i);
            j = Vector512.FusedMultiplyAdd(x, y, j); k = Vector512.FusedMultiplyAdd(x, y, k); l = Vector512.FusedMultiplyAdd(x, y, l);
        }
        return Vector512.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double Float256()
    {
        Vector256<float> x = Vector256.Create(0.5f), y = x, a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x;
        for (int turn = 0; turn < Turns; turn++)
        {
            a = Vector256.FusedMultiplyAdd(x, y, a); b = Vector256.FusedMultiplyAdd(x, y, b); c = Vector256.FusedMultiplyAdd(x, y, c);
            d = Vector256.FusedMultiplyAdd(x, y, d); e = Vector256.FusedMultiplyAdd(x, y, e); f = Vector256.FusedMultiplyAdd(x, y, f);
            g = Vector256.FusedMultiplyAdd(x, y, g); h = Vector256.FusedMultiplyAdd(x, y, h); i = Vector256.FusedMultiplyAdd(x, y, i);
            j = Vector256.FusedMultiplyAdd(x, y, j); k = Vector256.FusedMultiplyAdd(x, y, k); l = Vector256.FusedMultiplyAdd(x, y, l);
        }
        return Vector256.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double Float128()
    {
        Vector128<float> x = Vector128.Create(0.5f), y = x, a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x;
        for (int turn = 0; turn < Turns; turn++)
        {
            a = Vector128.FusedMultiplyAdd(x, y, a); b = Vector128.FusedMultiplyAdd(x, y, b); c = Vector128.FusedMultiplyAdd(x, y, c);
            d = Vector128.FusedMultiplyAdd(x, y, d); e = Vector128.FusedMultiplyAdd(x, y, e); f = Vector128.FusedMultiplyAdd(x, y, f);
            g = Vector128.FusedMultiplyAdd(x, y, g); h = Vector128.FusedMultiplyAdd(x, y, h); i = Vector128.FusedMultiplyAdd(x, y, i);
            j = Vector128.FusedMultiplyAdd(x, y, j); k = Vector128.FusedMultiplyAdd(x, y, k); l = Vector128.FusedMultiplyAdd(x, y, l);
        }
        return Vector128.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double VnniLoop()
    {
        Vector256<byte> x = Vector256.Create((byte)3);
        Vector256<sbyte> y = x.AsSByte();
        Vector256<int> a = default, b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a;
        for (int turn = 0; turn < Turns; turn++)
        {
            a = AvxVnni.MultiplyWideningAndAdd(a, x, y); b = AvxVnni.MultiplyWideningAndAdd(b, x, y); c = AvxVnni.MultiplyWideningAndAdd(c, x, y);
            d = AvxVnni.MultiplyWideningAndAdd(d, x, y); e = AvxVnni.MultiplyWideningAndAdd(e, x, y); f = AvxVnni.MultiplyWideningAndAdd(f, x, y);
            g = AvxVnni.MultiplyWideningAndAdd(g, x, y); h = AvxVnni.MultiplyWideningAndAdd(h, x, y); i = AvxVnni.MultiplyWideningAndAdd(i, x, y);
            j = AvxVnni.MultiplyWideningAndAdd(j, x, y); k = AvxVnni.MultiplyWideningAndAdd(k, x, y); l = AvxVnni.MultiplyWideningAndAdd(l, x, y);
        }
        return Vector256.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double DotLoop()
    {
        Vector128<sbyte> x = Vector128.Create((sbyte)3), y = x;
        Vector128<int> a = default, b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a;
        for (int turn = 0; turn < Turns; turn++)
        {
            a = Dp.DotProduct(a, x, y); b = Dp.DotProduct(b, x, y); c = Dp.DotProduct(c, x, y); d = Dp.DotProduct(d, x, y);
            e = Dp.DotProduct(e, x, y); f = Dp.DotProduct(f, x, y); g = Dp.DotProduct(g, x, y); h = Dp.DotProduct(h, x, y);
            i = Dp.DotProduct(i, x, y); j = Dp.DotProduct(j, x, y); k = Dp.DotProduct(k, x, y); l = Dp.DotProduct(l, x, y);
        }
        return Vector128.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }

    // Two multiplications and an addition where the newer sets have one instruction. One factor changes each turn, or the
    // compiler would lift the products out of the loop.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double MaddLoop()
    {
        Vector256<byte> x = Vector256.Create((byte)3);
        Vector256<sbyte> p = Vector256.Create((sbyte)1), q = p + p, r = q + p, s = r + p, t = s + p, u = t + p;
        Vector256<short> one = Vector256.Create((short)1);
        Vector256<int> a = default, b = a, c = a, d = a, e = a, f = a;
        for (int turn = 0; turn < Turns * Chains / 6; turn++)
        {
            x ^= one.AsByte();
            a += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(x, p), one);
            b += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(x, q), one);
            c += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(x, r), one);
            d += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(x, s), one);
            e += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(x, t), one);
            f += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(x, u), one);
        }
        return Vector256.Sum(a + b + c + d + e + f);
    }
}
