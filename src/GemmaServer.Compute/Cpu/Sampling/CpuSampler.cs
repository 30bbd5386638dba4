using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>Turns one row of logits into a token: bans, bias, penalties, temperature, top-k, top-p, min-p, Gumbel-max. One per worker.</summary>
internal sealed class CpuSampler
{
    /// <summary>Candidates looked at first when no top-k bounds them; a wider nucleus is found without sorting.</summary>
    private const int FirstCandidates = 256;

    /// <summary>Beyond this many candidates, capping all logits is no more work than capping those.</summary>
    private const int MostCappedLate = 1024;

    private readonly CandidateHeap _heap = new();
    private readonly NucleusCut _cut = new();
    private float[] _untouched = [], _maxima = [];

    /// <summary>Whether <see cref="Choose(in SurveyedRow, SlotState, int, ulong[])"/> can be given logits before their soft-cap: nothing else is done to any of them, and few are looked at.</summary>
    public static bool CapsLate(SamplingParams p) =>
        p.Logprobs < 0 && !p.HasPenalties && p.LogitBias.Count == 0 && (p.Temperature == 0 || p.TopK is > 0 and <= MostCappedLate);

    /// <summary>Natural-log probabilities of the n best tokens, from untouched logits.</summary>
    public TokenLogprob[] Logprobs(ReadOnlySpan<float> logits, ReadOnlySpan<float> maxima, int n, double logSum)
    {
        _heap.Select(logits, maxima, 0, n);
        TokenLogprob[] top = new TokenLogprob[_heap.Items.Length];
        for (int i = 0; i < top.Length; i++) top[i] = new TokenLogprob(_heap.Items[i].Token, (float)(_heap.Items[i].Logit - logSum));
        return top;
    }

    /// <summary>ln Σ exp(logit).</summary>
    public static double LogSumExp(ReadOnlySpan<float> logits)
    {
        float max = LogitBlocks.Max(logits);
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
        int blocks = LogitBlocks.Count(logits.Length);
        if (_maxima.Length < blocks) _maxima = new float[blocks];
        SurveyedRow row = new(logits, _maxima.AsSpan(0, blocks), cap: 0);
        row.Survey(allowed);
        return Choose(row, slot, position, allowed);
    }

    /// <summary>As <see cref="Choose(Span{float}, SlotState, int, ulong[])"/>, over a row that is surveyed and masked already.</summary>
    public int Choose(in SurveyedRow row, SlotState slot, int position, ulong[]? allowed)
    {
        SamplingParams p = slot.Sampling;
        Adjust(row, slot);
        if (allowed is null || LogitMask.LeavesAny(allowed, p, slot)) Ban(row, slot);

        int kept = p.Temperature == 0 ? 1 : Math.Min(p.TopK, row.Logits.Length);
        if (kept == 0) return ChooseUnbounded(row, p, position);
        _heap.Select(row.Logits, row.Maxima, row.Cap, kept);
        ReadOnlySpan<(float Logit, int Token)> items = _heap.Items;
        if (items.IsEmpty) return 0;
        if (p.Temperature == 0) return items[0].Token;
        double inverseTemperature = 1.0 / p.Temperature;
        return BestOf(items[..Nucleus(items, p, inverseTemperature, null, out _)], p, inverseTemperature, position);
    }

    /// <summary>As <see cref="Choose(in SurveyedRow, SlotState, int, ulong[])"/>, over a row that is not masked yet; also gives the chosen token's logit as it was before bias, penalties and bans.</summary>
    public int ChooseKeeping(in SurveyedRow row, SlotState slot, int position, ulong[]? allowed, out float logit)
    {
        if (_untouched.Length < row.Logits.Length) _untouched = new float[row.Logits.Length];
        row.Logits.CopyTo(_untouched);
        if (allowed is not null) row.Survey(allowed);
        int token = Choose(row, slot, position, allowed);
        logit = _untouched[token];
        return token;
    }

    private int ChooseUnbounded(in SurveyedRow row, SamplingParams p, int position)
    {
        double inverseTemperature = 1.0 / p.Temperature;
        float greatest = LogitBlocks.Max(row.Maxima);
        double best = greatest * inverseTemperature;
        if (p.TopP >= 1f)
        {
            double minimum = p.MinP > 0 ? best + Math.Log(p.MinP) : double.NegativeInfinity;
            return GumbelSearch.Best(row.Logits, row.Maxima, DrawSet.All with { Minimum = minimum }, inverseTemperature, p.Seed, position);
        }
        if (float.IsNegativeInfinity(greatest)) return 0;

        double total = Math.Exp(best + Math.Log(_cut.Total(row.Logits, inverseTemperature, best)) - best);
        // Nearly always the nucleus lies within the first candidates. It cannot where even the best one's weight, which is 1, as
        // many times would not do.
        if (p.TopP * total < FirstCandidates)
        {
            _heap.Select(row.Logits, row.Maxima, 0, FirstCandidates);
            ReadOnlySpan<(float Logit, int Token)> items = _heap.Items;
            int nucleus = Nucleus(items, p, inverseTemperature, total, out bool complete);
            if (complete || items.Length < FirstCandidates) return BestOf(items[..nucleus], p, inverseTemperature, position);
        }
        (float logit, int token) = _cut.Find(row.Logits, greatest, inverseTemperature, p.TopP * total);
        DrawSet set = new(logit, token, best, p.MinP > 0 ? Math.Log(p.MinP) : double.NegativeInfinity);
        return GumbelSearch.Best(row.Logits, row.Maxima, set, inverseTemperature, p.Seed, position);
    }

    private static void Adjust(in SurveyedRow row, SlotState slot)
    {
        SamplingParams p = slot.Sampling;
        for (int i = 0; i < p.LogitBias.Count; i++) row.Set(p.LogitBias[i].Key, row.Logits[p.LogitBias[i].Key] + p.LogitBias[i].Value);
        if (p.HasPenalties)
        {
            foreach ((int token, int count) in slot.Counts)
            {
                float l = row.Logits[token];
                l = l > 0 ? l / p.RepetitionPenalty : l * p.RepetitionPenalty;
                if (count > 0) l -= p.FrequencyPenalty * count + p.PresencePenalty;
                row.Set(token, l);
            }
        }
    }

    private static void Ban(in SurveyedRow row, SlotState slot)
    {
        SamplingParams p = slot.Sampling;
        for (int i = 0; i < p.BannedTokens.Count; i++) row.Set(p.BannedTokens[i], float.NegativeInfinity);
        if (slot.Generated < p.MinTokens)
            for (int i = 0; i < p.EndTokens.Count; i++) row.Set(p.EndTokens[i], float.NegativeInfinity);
    }

    /// <summary>How many of the best-first items survive top-p and min-p; complete when no item outside could.</summary>
    private static int Nucleus(
        ReadOnlySpan<(float Logit, int Token)> items, SamplingParams p, double inverseTemperature, double? wholeTotal, out bool complete)
    {
        complete = true;
        double best = items[0].Logit * inverseTemperature, total = wholeTotal ?? 0;
        if (wholeTotal is null)
            foreach ((float logit, _) in items) total += Math.Exp(logit * inverseTemperature - best);

        double sum = 0, minimum = p.MinP > 0 ? Math.Log(p.MinP) : double.NegativeInfinity;
        for (int i = 0; i < items.Length; i++)
        {
            double relative = items[i].Logit * inverseTemperature - best;
            if (relative < minimum) return i;
            sum += Math.Exp(relative);
            if (p.TopP < 1f && sum >= p.TopP * total) return i + 1;
        }
        complete = wholeTotal is null;
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
}
