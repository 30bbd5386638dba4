using ILGPU;
using ILGPU.Algorithms;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Floats as keys that order them, weights that add up exactly in any order, and noise.</summary>
internal static class Ordered
{
    /// <summary>The key above that of minus infinity: who has less cannot be chosen.</summary>
    public const uint Least = 0x00800000u;

    /// <summary>Index of a cut that keeps all equals.</summary>
    public const int Nobody = int.MaxValue;

    /// <summary>The noise lies between these.</summary>
    public const float LeastNoise = -3.2f, GreatestNoise = 22.9f;

    /// <summary>Rises with the number; both zeros are one.</summary>
    public static uint Key(float x)
    {
        uint bits = x == 0f ? 0u : Interop.FloatAsInt(x);
        return bits ^ ((bits & 0x80000000u) != 0u ? 0xFFFFFFFFu : 0x80000000u);
    }

    /// <summary>The number that has a key.</summary>
    public static float Value(uint key) => Interop.IntAsFloat((key & 0x80000000u) != 0u ? key ^ 0x80000000u : ~key);

    /// <summary>Rises with the score, and of equals with the lower token; above 0 for every score that can be chosen.</summary>
    public static long Scored(float score, int token) => ((long)Key(score) << 31) | (long)(int.MaxValue - token);

    /// <summary>The token of a score; 0 where there is none.</summary>
    public static int Token(long scored) => scored == 0 ? 0 : int.MaxValue - (int)(scored & int.MaxValue);

    /// <summary>A weight in 0 … 1 in units of 2^−39: sums of 2^18 of them fit, and depend on no order.</summary>
    public static long Weight(float relative) => (long)(XMath.Exp(relative) * 549755813888f);

    /// <summary>fraction / 2^31 of a sum, rounded down; at least 1.</summary>
    public static long Part(long sum, int fraction)
    {
        long part = (sum >> 31) * fraction + ((sum & int.MaxValue) * fraction >> 31);
        return part == 0 ? 1 : part;
    }

    /// <summary>−ln(−ln u), u = (bits + 1/2) / 2^32.</summary>
    /// <remarks>
    /// Near u = 1 a float has no digits left, and a GPU's logarithm none near 1: there −ln(1 − v) = 2 · atanh(v / (2 − v)), whose
    /// argument is at most 1/3, comes from its series.
    /// </remarks>
    public static float Noise(uint bits)
    {
        const float Unit = 1f / 4294967296f;
        bool isHigh = (bits & 0x80000000u) != 0u;
        // Below 2^31 either way: no conversion of a number without a sign.
        float v = ((int)(isHigh ? ~bits : bits) + 0.5f) * Unit;
        if (!isHigh) return -XMath.Log(-XMath.Log(v));
        float s = v / (2f - v), q = s * s;
        return -XMath.Log(2f * s * (1f + q * (1f / 3f + q * (1f / 5f + q * (1f / 7f + q * (1f / 9f + q * (1f / 11f + q * (1f / 13f))))))));
    }

    /// <summary>Ten rounds of Philox4x32 (see <see cref="GumbelNoise"/>): the bits of tokens 4 · block … 4 · block + 3.</summary>
    public static Quad Philox(uint k0, uint k1, uint block, uint position)
    {
        uint c0 = block, c1 = position, c2 = 0, c3 = 0;
        for (int round = 0; round < 10; round++)
        {
            uint h0 = HighHalf(GumbelNoise.M0, c0), l0 = GumbelNoise.M0 * c0, h1 = HighHalf(GumbelNoise.M1, c2), l1 = GumbelNoise.M1 * c2;
            c0 = h1 ^ c1 ^ k0;
            c1 = l1;
            c2 = h0 ^ c3 ^ k1;
            c3 = l0;
            k0 += GumbelNoise.W0;
            k1 += GumbelNoise.W1;
        }
        return new Quad { X = c0, Y = c1, Z = c2, W = c3 };
    }

    private static uint HighHalf(uint a, uint b) => (uint)((ulong)a * b >> 32);
}
