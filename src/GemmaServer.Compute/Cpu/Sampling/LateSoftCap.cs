namespace GemmaServer.Compute;

/// <summary>
/// Soft-capping only the logits that can matter. The cap rises with its argument, so the best before it are the best after it,
/// but for two things: it makes neighbours equal, and its approximation may swap neighbours. Both stay within a few units in the
/// last place; so whoever is within that of the worst candidate is capped and compared as well, and the choice is the same as
/// if all had been capped.
/// </summary>
internal static class LateSoftCap
{
    /// <summary>Four times what two values may be off together, each by 7e-7 (<see cref="FastMath.Tanh(System.Runtime.Intrinsics.Vector512{float})"/> and two roundings).</summary>
    private const double Slack = 6e-6;

    /// <summary>A logit below this is below <paramref name="logit"/> after capping too, whatever the rounding.</summary>
    public static float Floor(float logit, float cap)
    {
        double capped = cap * Math.Tanh((double)logit / cap);
        double ratio = (capped - Slack * Math.Abs(capped)) / cap;
        if (!(ratio > -1)) return float.MinValue;
        // Where the cap is reached, everything above may be equal.
        double floor = cap * Math.Atanh(Math.Min(ratio, 1 - Slack));
        return (float)Math.Max(floor - 1e-6 * Math.Abs(floor), float.MinValue);
    }
}
