using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>The tokens that take part in a draw over a whole row.</summary>
/// <param name="Logit">The least of them …</param>
/// <param name="Token">… and, of those equal to it, the last.</param>
/// <param name="Offset">Min-p: what is taken off the scaled logit …</param>
/// <param name="Minimum">… before it is held against this.</param>
internal readonly record struct DrawSet(float Logit, int Token, double Offset, double Minimum)
{
    /// <summary>Whoever is above −∞.</summary>
    public static DrawSet All { get; } = new(float.NegativeInfinity, -1, 0, double.NegativeInfinity);

    public bool Contains(float logit, double scaled, int token) =>
        (logit > Logit || (logit == Logit && token <= Token)) && !(scaled - Offset < Minimum);
}

/// <summary>
/// arg max of logit/T + Gumbel noise over a whole row. A token's noise rises with its random bits, so the best score so far
/// says which bits a block's tokens would need; the bits of 32 tokens come from one run of the generator on eight lanes, and
/// logarithms are taken only for the few that have them.
/// </summary>
internal static class GumbelSearch
{
    private const ulong Word = uint.MaxValue;

    /// <summary>The best token, the lower id of two equals; 0 of nothing.</summary>
    public static int Best(ReadOnlySpan<float> logits, ReadOnlySpan<float> maxima, DrawSet set, double inverseTemperature, ulong seed, int position)
    {
        double best = double.NegativeInfinity;
        int chosen = 0;
        for (int b = 0; b < maxima.Length; b++)
        {
            if (maxima[b] < set.Logit || float.IsNegativeInfinity(maxima[b])) continue;
            ulong bits = BitsAbove(best - maxima[b] * inverseTemperature);
            if (bits > Word) continue;
            int first = b * LogitBlocks.Size;
            for (int t = first; t < first + LogitBlocks.Size && t < logits.Length; t += 32)
            {
                Noise noise = Bits(seed, position, t);
                if (noise.ReachesAny(bits)) Look(logits, t, noise, bits, set, inverseTemperature, ref best, ref chosen);
            }
        }
        return chosen;
    }

    /// <summary>The least bits that can give noise above a value, a few less for rounding; more than 32 bits where none can.</summary>
    internal static ulong BitsAbove(double noise)
    {
        if (!(noise > -4)) return 0;
        if (noise > 23) return ulong.MaxValue;
        return (ulong)Math.Max(0, Math.Exp(-Math.Exp(-noise)) * 4294967296.0 - 4);
    }

    private static void Look(
        ReadOnlySpan<float> logits, int first, in Noise noise, ulong bits, in DrawSet set, double inverseTemperature, ref double best, ref int chosen)
    {
        for (int i = 0; i < 32 && first + i < logits.Length; i++)
        {
            uint own = noise[i];
            float logit = logits[first + i];
            double scaled = logit * inverseTemperature;
            if (own < bits || !set.Contains(logit, scaled, first + i)) continue;
            double score = scaled + GumbelNoise.Of(own);
            if (score > best || (score == best && first + i < chosen)) (best, chosen) = (score, first + i);
        }
    }

    /// <summary>The bits of 32 tokens from <paramref name="token"/>, a multiple of 32; see <see cref="GumbelNoise.Philox"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Noise Bits(ulong seed, int position, int token)
    {
        Vector512<ulong> word = Vector512.Create(Word), m0 = Vector512.Create((ulong)GumbelNoise.M0), m1 = Vector512.Create((ulong)GumbelNoise.M1);
        Vector512<ulong> c0 = Vector512.Create((ulong)token >> 2) + Vector512.Create(0ul, 1, 2, 3, 4, 5, 6, 7);
        Vector512<ulong> c1 = Vector512.Create((ulong)(uint)position), c2 = default, c3 = default;
        uint k0 = (uint)seed, k1 = (uint)(seed >> 32);
        for (int round = 0; round < 10; round++)
        {
            Vector512<ulong> p0 = m0 * c0, p1 = m1 * c2;
            c0 = (p1 >> 32) ^ c1 ^ Vector512.Create((ulong)k0);
            c1 = p1 & word;
            c2 = (p0 >> 32) ^ c3 ^ Vector512.Create((ulong)k1);
            c3 = p0 & word;
            k0 += GumbelNoise.W0;
            k1 += GumbelNoise.W1;
        }
        return new Noise(c0, c1, c2, c3);
    }

    /// <summary>Bits of 32 tokens: token i's in lane i / 4 of vector i mod 4.</summary>
    private readonly struct Noise(Vector512<ulong> x0, Vector512<ulong> x1, Vector512<ulong> x2, Vector512<ulong> x3)
    {
        private readonly Vector512<ulong> _x0 = x0, _x1 = x1, _x2 = x2, _x3 = x3;

        public uint this[int i] => (uint)((i & 3) switch { 0 => _x0, 1 => _x1, 2 => _x2, _ => _x3 })[i >> 2];

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public bool ReachesAny(ulong bits) =>
            Vector512.GreaterThanOrEqualAny(Vector512.Max(Vector512.Max(_x0, _x1), Vector512.Max(_x2, _x3)), Vector512.Create(bits));
    }
}
