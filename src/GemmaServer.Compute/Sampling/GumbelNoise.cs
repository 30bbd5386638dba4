namespace GemmaServer.Compute;

/// <summary>
/// Gumbel noise as a pure function of (seed, position, token): sampling is arg max of logit/T + noise, which draws exactly
/// from softmax(logit/T) and gives the same token whatever else is in the batch, after a preemption, and for a draft.
/// </summary>
/// <remarks>
/// The bits come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), key = seed,
/// counter = (token / 4, position, 0, 0), word token mod 4.
/// </remarks>
public static class GumbelNoise
{
    internal const uint M0 = 0xD2511F53, M1 = 0xCD9E8D57, W0 = 0x9E3779B9, W1 = 0xBB67AE85;

    /// <summary>−ln(−ln u), u uniform in (0, 1).</summary>
    public static double At(ulong seed, int position, int token)
    {
        (uint x0, uint x1, uint x2, uint x3) = Philox(seed, (uint)token >> 2, (uint)position, 0, 0);
        return Of((token & 3) switch { 0 => x0, 1 => x1, 2 => x2, _ => x3 });
    }

    /// <summary>The noise that 32 random bits stand for; rises with them.</summary>
    internal static double Of(uint bits)
    {
        double u = (bits + 0.5) * (1.0 / 4294967296.0);
        return -Math.Log(-Math.Log(u));
    }

    /// <summary>Ten rounds of Philox4x32.</summary>
    internal static (uint, uint, uint, uint) Philox(ulong key, uint c0, uint c1, uint c2, uint c3)
    {
        uint k0 = (uint)key, k1 = (uint)(key >> 32);
        for (int round = 0; round < 10; round++)
        {
            ulong p0 = (ulong)M0 * c0, p1 = (ulong)M1 * c2;
            (c0, c1, c2, c3) = ((uint)(p1 >> 32) ^ c1 ^ k0, (uint)p1, (uint)(p0 >> 32) ^ c3 ^ k1, (uint)p0);
            k0 += W0;
            k1 += W1;
        }
        return (c0, c1, c2, c3);
    }
}
