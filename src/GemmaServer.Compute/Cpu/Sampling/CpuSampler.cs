using System.Numerics;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>Turns one row of logits into a token: bans, bias, penalties, temperature, top-k, top-p, min-p, Gumbel-max. One per worker.</summary>
internal sealed class CpuSampler
{
    /// <summary>Candidates looked at first when no top-k bounds them; more are taken until top-p is reached.</summary>
    private const int FirstCandidates = 1024;

    private readonly CandidateHeap _heap = new();
    private float[] _untouched = [];

    /// <summary>Natural-log probabilities of the n best tokens, from untouched logits.</summary>
    public TokenLogprob[] Logprobs(ReadOnlySpan<float> logits, int n, double logSum)
    {
        _heap.Select(logits, n);
        TokenLogprob[] top = new TokenLogprob[_heap.Items.Length];
        for (int i = 0; i < top.Length; i++) top[i] = new TokenLogprob(_heap.Items[i].Token, (float)(_heap.Items[i].Logit - logSum));
        return top;
    }

    /// <summary>ln Σ exp(logit).</summary>
    public static double LogSumExp(ReadOnlySpan<float> logits)
    {
        float max = Max(logits);
        Vector512<float> sum = default;
        Vector512<float> vmax = Vector512.Create(max);
        double total = 0;
        int i = 0;
        for (; i + 16 <= logits.Length; i += 16)
        {
            sum += FastMath.Exp(Vector512.Create(logits.Slice(i, 16)) - vmax);
            // Folded into a double now and then: a quarter of a million terms would cost digits in a float.
            if ((i & 0x3FF0) == 0x3FF0)
            {
                total += Vector512.Sum(sum);
                sum = default;
            }
        }
        total += Vector512.Sum(sum);
        for (; i < logits.Length; i++) total += Math.Exp(logits[i] - max);
        return max + Math.Log(total);
    }

    /// <summary>Chooses the token at <paramref name="position"/>; changes <paramref name="logits"/>.</summary>
    /// <param name="logits">One for each token id.</param>
    /// <param name="slot">The sequence's parameters and counts.</param>
    /// <param name="position">Where the token will stand.</param>
    /// <param name="allowed">Bit by token id: whether it may be chosen; null where any may.</param>
    public int Choose(Span<float> logits, SlotState slot, int position, ulong[]? allowed = null)
    {
        SamplingParams p = slot.Sampling;
        Adjust(logits, slot);
        if (allowed is not null) Mask(logits, allowed);
        if (allowed is null || LeavesAny(allowed, p, slot)) Ban(logits, slot);
        if (p.Temperature == 0) return ArgMax(logits);

        int kept = p.TopK > 0 ? Math.Min(p.TopK, logits.Length) : 0;
        if (kept == 0 && p.TopP >= 1f) return BestOfAll(logits, p, position);

        double inverseTemperature = 1.0 / p.Temperature;
        int candidates = kept > 0 ? kept : Math.Min(FirstCandidates, logits.Length);
        double logSum = kept > 0 ? 0 : LogSumExpAt(logits, inverseTemperature);
        while (true)
        {
            _heap.Select(logits, candidates);
            ReadOnlySpan<(float Logit, int Token)> items = _heap.Items;
            if (items.IsEmpty) return ArgMax(logits);
            int nucleus = Nucleus(items, p, inverseTemperature, kept > 0 ? null : logSum, out bool complete);
            if (complete || candidates >= logits.Length || kept > 0) return BestOf(items[..nucleus], p, inverseTemperature, position);
            candidates = Math.Min(candidates * 8, logits.Length);
        }
    }

    /// <summary>As <see cref="Choose"/>; also gives the chosen token's logit as it was before bias, penalties and bans.</summary>
    public int ChooseKeeping(Span<float> logits, SlotState slot, int position, ulong[]? allowed, out float logit)
    {
        if (_untouched.Length < logits.Length) _untouched = new float[logits.Length];
        logits.CopyTo(_untouched);
        int token = Choose(logits, slot, position, allowed);
        logit = _untouched[token];
        return token;
    }

    private static void Adjust(Span<float> logits, SlotState slot)
    {
        SamplingParams p = slot.Sampling;
        for (int i = 0; i < p.LogitBias.Count; i++) logits[p.LogitBias[i].Key] += p.LogitBias[i].Value;
        if (p.HasPenalties)
        {
            foreach ((int token, int count) in slot.Counts)
            {
                float l = logits[token];
                l = l > 0 ? l / p.RepetitionPenalty : l * p.RepetitionPenalty;
                if (count > 0) l -= p.FrequencyPenalty * count + p.PresencePenalty;
                logits[token] = l;
            }
        }
    }

    private static void Ban(Span<float> logits, SlotState slot)
    {
        SamplingParams p = slot.Sampling;
        for (int i = 0; i < p.BannedTokens.Count; i++) logits[p.BannedTokens[i]] = float.NegativeInfinity;
        if (slot.Generated < p.MinTokens)
            for (int i = 0; i < p.EndTokens.Count; i++) logits[p.EndTokens[i]] = float.NegativeInfinity;
    }

    /// <summary>Whether the bans leave a token that may be chosen. Only few of them are asked about: more are allowed than banned, or nearly so.</summary>
    private static bool LeavesAny(ulong[] allowed, SamplingParams p, SlotState slot)
    {
        bool mayNotEnd = slot.Generated < p.MinTokens;
        int left = p.BannedTokens.Count + (mayNotEnd ? p.EndTokens.Count : 0);
        if (left == 0) return true;
        for (int word = 0; word < allowed.Length; word++)
        {
            for (ulong bits = allowed[word]; bits != 0; bits &= bits - 1)
            {
                int token = word * 64 + BitOperations.TrailingZeroCount(bits);
                if (left-- == 0 || !(Contains(p.BannedTokens, token) || (mayNotEnd && Contains(p.EndTokens, token)))) return true;
            }
        }
        return false;
    }

    private static bool Contains(IReadOnlyList<int> tokens, int token)
    {
        for (int i = 0; i < tokens.Count; i++)
            if (tokens[i] == token) return true;
        return false;
    }

    private static void Mask(Span<float> logits, ulong[] allowed)
    {
        for (int word = 0; word * 64 < logits.Length; word++)
        {
            ulong bits = word < allowed.Length ? allowed[word] : 0;
            if (bits == ulong.MaxValue) continue;
            Span<float> part = logits.Slice(word * 64, Math.Min(64, logits.Length - word * 64));
            if (bits == 0) part.Fill(float.NegativeInfinity);
            else if (part.Length == 64) Mask64(part, bits);
            else
                for (int i = 0; i < part.Length; i++)
                    if ((bits >> i & 1) == 0) part[i] = float.NegativeInfinity;
        }
    }

    private static void Mask64(Span<float> part, ulong bits)
    {
        Vector512<uint> lanes = Vector512.Create(1u, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768);
        for (int i = 0; i < 64; i += 16, bits >>= 16)
        {
            Vector512<uint> isBarred = Vector512.Equals(Vector512.Create((uint)bits) & lanes, Vector512<uint>.Zero);
            Vector512<float> logits = Vector512.Create<float>(part.Slice(i, 16));
            Vector512.ConditionalSelect(isBarred.AsSingle(), Vector512.Create(float.NegativeInfinity), logits).CopyTo(part[i..]);
        }
    }

    /// <summary>How many of the best-first items survive top-p and min-p; complete when no item outside could.</summary>
    private static int Nucleus(
        ReadOnlySpan<(float Logit, int Token)> items, SamplingParams p, double inverseTemperature, double? logSum, out bool complete)
    {
        complete = true;
        double best = items[0].Logit * inverseTemperature, total = 0;
        if (logSum is null)
            foreach ((float logit, _) in items) total += Math.Exp(logit * inverseTemperature - best);
        else
            total = Math.Exp(logSum.Value - best);

        double sum = 0, minimum = p.MinP > 0 ? Math.Log(p.MinP) : double.NegativeInfinity;
        for (int i = 0; i < items.Length; i++)
        {
            double relative = items[i].Logit * inverseTemperature - best;
            if (relative < minimum) return i;
            sum += Math.Exp(relative);
            if (p.TopP < 1f && sum >= p.TopP * total) return i + 1;
        }
        complete = logSum is null;
        return items.Length;
    }

    private static int BestOf(ReadOnlySpan<(float Logit, int Token)> items, SamplingParams p, double inverseTemperature, int position)
    {
        double best = double.NegativeInfinity;
        int chosen = items[0].Token;
        foreach ((float logit, int token) in items)
        {
            double score = logit * inverseTemperature + GumbelNoise.At(p.Seed, position, token);
            if (score > best || (score == best && token < chosen)) (best, chosen) = (score, token);
        }
        return chosen;
    }

    /// <summary>No top-k and no top-p: every token above min-p takes part.</summary>
    private static int BestOfAll(ReadOnlySpan<float> logits, SamplingParams p, int position)
    {
        double inverseTemperature = 1.0 / p.Temperature, best = double.NegativeInfinity;
        double minimum = p.MinP > 0 ? Max(logits) * inverseTemperature + Math.Log(p.MinP) : double.NegativeInfinity;
        int chosen = 0;
        for (int token = 0; token < logits.Length; token++)
        {
            double scaled = logits[token] * inverseTemperature;
            if (scaled < minimum || double.IsNegativeInfinity(scaled)) continue;
            double score = scaled + GumbelNoise.At(p.Seed, position, token);
            if (score > best) (best, chosen) = (score, token);
        }
        return chosen;
    }

    private static double LogSumExpAt(ReadOnlySpan<float> logits, double inverseTemperature)
    {
        double max = Max(logits) * inverseTemperature, total = 0;
        foreach (float l in logits) total += Math.Exp(l * inverseTemperature - max);
        return max + Math.Log(total);
    }

    private static int ArgMax(ReadOnlySpan<float> logits)
    {
        float max = Max(logits);
        return Math.Max(0, logits.IndexOf(max));
    }

    private static float Max(ReadOnlySpan<float> logits)
    {
        Vector512<float> max = Vector512.Create(float.NegativeInfinity);
        int i = 0;
        for (; i + 16 <= logits.Length; i += 16) max = Vector512.MaxNative(max, Vector512.Create(logits.Slice(i, 16)));
        float best = float.NegativeInfinity;
        for (int lane = 0; lane < 16; lane++) best = Math.Max(best, max[lane]);
        for (; i < logits.Length; i++) best = Math.Max(best, logits[i]);
        return best;
    }
}
