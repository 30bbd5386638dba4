using GemmaServer.Compute;

namespace GemmaServer.Tests.Compute;

[Trait("Category", "Kernels")]
public class CpuSamplerTests
{
    private const int Vocabulary = 3001; // not a multiple of the vector width
    private readonly CpuSampler _sampler = new();

    [Fact]
    public void Zero_temperature_takes_the_best_and_the_lower_id_of_two_equals()
    {
        float[] logits = Logits(1);
        logits[2000] = logits[17] = 99;
        Assert.Equal(17, Choose(logits, new SamplingParams { Temperature = 0 }, 5));
    }

    [Theory]
    [InlineData(5, 1f, 0f)]
    [InlineData(64, 0.95f, 0f)]
    [InlineData(0, 0.8f, 0f)]
    [InlineData(0, 0.99f, 0.05f)]
    [InlineData(0, 1f, 0.1f)]
    [InlineData(40, 0.7f, 0.02f)]
    public void Sampled_frequencies_follow_the_filtered_distribution(int topK, float topP, float minP)
    {
        const int Draws = 20_000;
        float[] logits = Logits(7);
        Dictionary<int, double> expected = Distribution(logits, 0.8, topK, topP, minP);
        Dictionary<int, int> seen = [];
        for (int i = 0; i < Draws; i++)
        {
            int token = Choose(logits, new SamplingParams { Temperature = 0.8f, TopK = topK, TopP = topP, MinP = minP, Seed = 3 }, i);
            seen[token] = seen.GetValueOrDefault(token) + 1;
        }
        Assert.All(seen.Keys, t => Assert.Contains(t, expected));
        double distance = expected.Sum(e => Math.Abs(e.Value - seen.GetValueOrDefault(e.Key) / (double)Draws)) / 2;
        Assert.True(distance < 0.6 * Math.Sqrt(expected.Count / (double)Draws) + 0.005, $"total variation {distance} over {expected.Count} tokens");
    }

    [Theory]
    [InlineData(0f, 0, 1f, 0f)]
    [InlineData(0.8f, 5, 1f, 0f)]
    [InlineData(0.8f, 0, 0.9f, 0f)]
    [InlineData(0.8f, 0, 1f, 0f)]
    [InlineData(0.8f, 40, 0.7f, 0.02f)]
    public void Only_allowed_tokens_are_chosen_as_if_there_were_no_others(float temperature, int topK, float topP, float minP)
    {
        float[] logits = Logits(7);
        Random random = new(5);
        ulong[] allowed = new ulong[(Vocabulary + 63) / 64];
        for (int i = 0; i < allowed.Length; i++) allowed[i] = (i % 4) switch { 0 => 0, 1 => ulong.MaxValue, _ => (ulong)random.NextInt64() };
        int best = Array.IndexOf(logits, logits.Max());
        allowed[best / 64] &= ~(1ul << (best % 64));
        float[] others = [.. logits.Select((l, i) => (allowed[i / 64] >> (i % 64) & 1) == 1 ? l : float.NegativeInfinity)];
        SlotState slot = new();
        slot.Open(new SamplingParams { Temperature = temperature, TopK = topK, TopP = topP, MinP = minP, Seed = 3 }, [], []);
        for (int position = 0; position < 500; position++)
        {
            int token = _sampler.Choose([.. logits], slot, position, allowed);
            Assert.Equal(1ul, allowed[token / 64] >> (token % 64) & 1);
            Assert.Equal(_sampler.Choose([.. others], slot, position), token);
        }
    }

    [Theory]
    [InlineData(0f, 0)]
    [InlineData(1f, 0)]
    [InlineData(1f, 5)]
    public void Bans_give_way_where_they_leave_nothing_of_what_is_allowed(float temperature, int topK)
    {
        float[] logits = [.. Enumerable.Range(0, 200).Select(static i => (float)Math.Sin(i))];
        SlotState slot = new();
        slot.Open(new SamplingParams { Temperature = temperature, TopK = topK, BannedTokens = [7, 7, 130], EndTokens = [70], MinTokens = 3, Seed = 4 }, [], []);
        for (int position = 0; position < 20; position++)
        {
            Assert.Equal(7, _sampler.Choose([.. logits], slot, position, Only(7)));
            Assert.Equal(70, _sampler.Choose([.. logits], slot, position, Only(70)));
            Assert.Equal(8, _sampler.Choose([.. logits], slot, position, Only(7, 8, 70, 130)));
            Assert.Contains(_sampler.Choose([.. logits], slot, position, Only(7, 70, 130)), (int[])[7, 70, 130]);
        }

        static ulong[] Only(params int[] tokens)
        {
            ulong[] mask = new ulong[4];
            foreach (int token in tokens) mask[token / 64] |= 1ul << (token % 64);
            return mask;
        }
    }

    [Fact]
    public void The_same_seed_and_position_give_the_same_token_and_others_differ()
    {
        float[] logits = Logits(9);
        int[] a = [.. Enumerable.Range(0, 200).Select(i => Choose(logits, new SamplingParams { Seed = 11 }, i))];
        int[] b = [.. Enumerable.Range(0, 200).Select(i => Choose(logits, new SamplingParams { Seed = 11 }, i))];
        int[] c = [.. Enumerable.Range(0, 200).Select(i => Choose(logits, new SamplingParams { Seed = 12 }, i))];
        Assert.Equal(a, b);
        Assert.NotEqual(a, c);
    }

    [Fact]
    public void Penalties_count_prompt_and_output_as_documented()
    {
        float[] logits = new float[8];
        logits[1] = 2f;   // in the prompt: repetition only → 1.0
        logits[2] = 1.9f; // twice in the output: 1.9/2 − 2·0.1 − 0.05 = 0.7
        logits[3] = -1f;  // in the output: −1·2 − 0.15
        logits[4] = 0.95f;
        SamplingParams p = new() { Temperature = 0, RepetitionPenalty = 2f, FrequencyPenalty = 0.1f, PresencePenalty = 0.05f };
        SlotState slot = new();
        slot.Open(p, [1], [2, 2, 3]);
        float[] changed = [.. logits];
        Assert.Equal(1, _sampler.Choose(changed, slot, 9));
        Assert.Equal([0f, 1f, 0.7f, -2.15f, 0.95f, 0f, 0f, 0f], changed.Select(v => MathF.Round(v, 4)));
    }

    [Fact]
    public void Bans_bias_and_minimum_length_decide_before_anything_else()
    {
        float[] logits = [0, 1, 2, 3, 4];
        SamplingParams p = new()
        {
            Temperature = 0, BannedTokens = [4], EndTokens = [3], MinTokens = 1, LogitBias = [KeyValuePair.Create(0, 1.5f)],
        };
        SlotState slot = new();
        slot.Open(p, [], []);
        Assert.Equal(2, _sampler.Choose([.. logits], slot, 0));
        slot.Commit(2);
        Assert.Equal(3, _sampler.Choose([.. logits], slot, 1));
    }

    [Fact]
    public void Logprobs_are_those_of_the_untouched_logits()
    {
        float[] logits = Logits(4);
        double logSum = Math.Log(logits.Sum(l => Math.Exp((double)l)));
        Assert.Equal(logSum, CpuSampler.LogSumExp(logits), 1e-5);
        float[] maxima = new float[LogitBlocks.Count(Vocabulary)];
        LogitBlocks.Survey(logits, maxima);
        TokenLogprob[] top = _sampler.Logprobs(logits, maxima, 5, logSum);
        int[] best = [.. Enumerable.Range(0, Vocabulary).OrderByDescending(i => logits[i]).Take(5)];
        Assert.Equal(best, top.Select(t => t.Token));
        Assert.All(top, t => Assert.Equal(logits[t.Token] - logSum, t.Logprob, 1e-4));
    }

    private static float[] Logits(int seed)
    {
        Random random = new(seed);
        float[] logits = new float[Vocabulary];
        for (int i = 0; i < logits.Length; i++) logits[i] = (float)(random.NextDouble() * 4 - 4);
        for (int i = 0; i < 12; i++) logits[random.Next(Vocabulary)] = 4 + (float)random.NextDouble() * 3;
        return logits;
    }

    private int Choose(float[] logits, SamplingParams p, int position)
    {
        SlotState slot = new();
        slot.Open(p, [], []);
        return _sampler.Choose([.. logits], slot, position);
    }

    /// <summary>The filters in plain doubles over a full sort.</summary>
    private static Dictionary<int, double> Distribution(float[] logits, double temperature, int topK, float topP, float minP)
    {
        List<(int Token, double P)> all = [.. logits.Select((l, i) => (i, Math.Exp(l / temperature))).OrderByDescending(x => x.Item2)];
        if (topK > 0) all = [.. all.Take(topK)];
        double total = all.Sum(x => x.P), best = all[0].P, sum = 0;
        List<(int Token, double P)> kept = [];
        foreach ((int token, double p) in all)
        {
            if (p < minP * best) break;
            kept.Add((token, p));
            sum += p;
            if (topP < 1 && sum >= topP * total) break;
        }
        double norm = kept.Sum(x => x.P);
        return kept.ToDictionary(x => x.Token, x => x.P / norm);
    }
}
