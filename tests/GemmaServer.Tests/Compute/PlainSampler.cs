using GemmaServer.Compute;

namespace GemmaServer.Tests.Compute;

/// <summary>The sampler as its description reads: everything capped, everything sorted, every token's noise drawn.</summary>
internal static class PlainSampler
{
    public static int Choose(float[] uncapped, float cap, SlotState slot, int position, ulong[]? allowed)
    {
        SamplingParams p = slot.Sampling;
        float[] logits = [.. uncapped];
        if (cap != 0) FastMath.SoftCap(logits, cap, logits);
        foreach ((int token, float bias) in p.LogitBias) logits[token] += bias;
        if (p.HasPenalties)
        {
            foreach ((int token, int count) in slot.Counts)
            {
                float l = logits[token] > 0 ? logits[token] / p.RepetitionPenalty : logits[token] * p.RepetitionPenalty;
                logits[token] = count > 0 ? l - (p.FrequencyPenalty * count + p.PresencePenalty) : l;
            }
        }
        if (allowed is not null)
            for (int t = 0; t < logits.Length; t++)
                if ((allowed[t / 64] >> (t % 64) & 1) == 0) logits[t] = float.NegativeInfinity;
        HashSet<int> banned = [.. p.BannedTokens, .. slot.Generated < p.MinTokens ? p.EndTokens : []];
        if (allowed is null || Enumerable.Range(0, logits.Length).Any(t => (allowed[t / 64] >> (t % 64) & 1) == 1 && !banned.Contains(t)))
            foreach (int t in banned) logits[t] = float.NegativeInfinity;

        int[] order = [.. Enumerable.Range(0, logits.Length).Where(t => !float.IsNegativeInfinity(logits[t])).OrderByDescending(t => logits[t]).ThenBy(static t => t)];
        if (order.Length == 0) return 0;
        if (p.Temperature == 0) return order[0];
        if (p.TopK > 0) order = [.. order.Take(p.TopK)];

        double inverseTemperature = 1.0 / p.Temperature, best = logits[order[0]] * inverseTemperature, sum = 0;
        double total = order.Sum(t => Math.Exp(logits[t] * inverseTemperature - best));
        List<int> kept = [];
        foreach (int t in order)
        {
            double relative = logits[t] * inverseTemperature - best;
            if (p.MinP > 0 && relative < Math.Log(p.MinP)) break;
            kept.Add(t);
            sum += Math.Exp(relative);
            if (p.TopP < 1f && sum >= p.TopP * total) break;
        }
        return kept.OrderByDescending(t => logits[t] * inverseTemperature + GumbelNoise.At(p.Seed, position, t)).ThenBy(static t => t).First();
    }
}
