using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>
/// Rows of activations as signed bytes: blocks of 32 with <c>scale = max|x| / 127</c> and <c>q = x / scale</c> rounded to
/// the nearest, ties to even. Memory for m rows of k: <c>q[m, k]</c>, <c>scales[m, k/32]</c>, <c>sums[m, k/16]</c>.
/// </summary>
/// <param name="Q">Codes −127 … 127.</param>
/// <param name="Scales">One per 32 elements.</param>
/// <param name="Sums">Scale times the sum of 16 codes: what a weight's offset is multiplied with.</param>
/// <param name="K">Row length, a multiple of 32.</param>
internal readonly unsafe struct Int8Rows(sbyte* Q, float* Scales, float* Sums, int K)
{
    // Below this 127 / max would overflow; such a block counts as zero.
    private const float Smallest = 1e-36f;

    public static long Bytes(int m, int k) => Align((long)m * k) + Align(4L * m * (k / 32)) + Align(4L * m * (k / 16));

    public static Int8Rows At(byte* memory, int m, int k)
    {
        float* scales = (float*)(memory + Align((long)m * k));
        float* sums = (float*)((byte*)scales + Align(4L * m * (k / 32)));
        return new Int8Rows((sbyte*)memory, scales, sums, k);
    }

    public sbyte* Codes(int row) => Q + (nint)row * K;

    public float* RowScales(int row) => Scales + (nint)row * (K / 32);

    public RowPointers SumRows => new(Sums, K / 16, null);

    /// <summary>Fills row <paramref name="row"/> from <paramref name="x"/>, <c>[K]</c>.</summary>
    public void Quantise(int row, float* x)
    {
        sbyte* q = Codes(row);
        float* scales = RowScales(row);
        float* sums = Sums + (nint)row * (K / 16);
        Vector512<float> magic = Vector512.Create(12582912f);   // 1.5 · 2^23: adding it rounds to a whole number
        for (int i = 0; i < K; i += 32)
        {
            Vector512<float> a = Vector512.Load(x + i), b = Vector512.Load(x + i + 16);
            float max = Largest(Vector512.Max(Vector512.Abs(a), Vector512.Abs(b)));
            float scale = max / 127f;
            float inverse = max > Smallest ? 127f / max : 0f;   // NaN gives 0 here and stays in the scale
            Vector512<int> ia = (a * inverse + magic).AsInt32() - magic.AsInt32();
            Vector512<int> ib = (b * inverse + magic).AsInt32() - magic.AsInt32();
            Vector512<short> both = Vector512.Narrow(ia, ib);
            Vector256.Narrow(both.GetLower(), both.GetUpper()).Store(q + i);
            scales[i / 32] = scale;
            sums[i / 16] = scale * Vector512.Sum(ia);
            sums[i / 16 + 1] = scale * Vector512.Sum(ib);
        }
    }

    private static long Align(long bytes) => (bytes + 63) & ~63L;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Largest(Vector512<float> v)
    {
        Vector256<float> eight = Vector256.Max(v.GetLower(), v.GetUpper());
        Vector128<float> four = Vector128.Max(eight.GetLower(), eight.GetUpper());
        Vector128<float> two = Vector128.Max(four, Vector128.Shuffle(four, Vector128.Create(2, 3, 0, 1)));
        return MathF.Max(two.ToScalar(), two.GetElement(1));
    }
}
