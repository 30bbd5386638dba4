using GemmaServer.Compute;
using GemmaServer.Tests.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>The sampler on the device against its description: everything capped, everything sorted, every token's noise drawn.</summary>
[Trait("Category", "Gpu")]
public sealed class GpuSamplerTests
{
    private const int Vocabulary = 12_347;   // some chunks and a short one, some blocks and a short one, no multiple of four

    public static TheoryData<string> Kinds => ["normal", "peaked", "flat", "equal", "two values", "neighbours", "barred", "nothing", "rising", "falling"];

    [OpenClTheory]
    [MemberData(nameof(Kinds))]
    public void Every_mix_of_parameters_gives_the_plain_samplers_token(string kind)
    {
        const int Rows = 16, Turns = 8;
        using SamplerBench bench = new(Vocabulary, Rows);
        Random random = new(kind.Length);
        int near = 0;
        for (int turn = 0; turn < Turns; turn++)
        {
            float[][] logits = [.. Enumerable.Range(0, Rows).Select(_ => Row(kind, random))];
            ulong[]?[] allowed = [.. Enumerable.Range(0, Rows).Select(i => (i % 5) switch { 3 => Some(random, 0.5), 4 => Some(random, 0.002), _ => null })];
            for (int i = 0; i < Rows; i++)
                bench.Open(i, Mix(random, turn * Rows + i), [1, 2, 2, 300], [3, 3, 4_000, Math.Max(0, Array.IndexOf(logits[i], logits[i].Max()))]);
            StepResult result = bench.Run(logits, 0, turn + 5, allowed);
            for (int i = 0; i < Rows; i++)
            {
                int expected = PlainSampler.Choose(logits[i], 0, bench.State(i), turn + 5, allowed[i]), actual = result.Tokens(i)[0];
                if (expected == actual) continue;
                near++;
                AssertNear(logits[i], bench.State(i), turn + 5, allowed[i], expected, actual, $"{kind}, turn {turn}, row {i}");
            }
        }
        Assert.InRange(near, 0, 2);
    }

    [OpenClTheory]
    [InlineData(1f, 0, 1f, 0f)]
    [InlineData(1f, 64, 0.95f, 0f)]
    [InlineData(0.7f, 0, 0.9f, 0f)]
    [InlineData(1.5f, 0, 1f, 0.05f)]
    public void Thousands_of_draws_are_the_plain_samplers(float temperature, int topK, float topP, float minP)
    {
        const int Few = 3_000, Rows = 32, Steps = 40;
        using SamplerBench bench = new(Few, Rows);
        Random random = new(topK);
        float[] logits = Row("normal", random, Few);
        float[][] rows = [.. Enumerable.Repeat(logits, Rows)];
        for (int i = 0; i < Rows; i++)
            bench.Open(i, new SamplingParams { Temperature = temperature, TopK = topK, TopP = topP, MinP = minP, Seed = (ulong)i << 33 | 7 }, [], []);
        int near = 0;
        for (int step = 1; step <= Steps; step++)
        {
            StepResult result = bench.Run(rows, 30f, step);
            for (int i = 0; i < Rows; i++)
            {
                int expected = PlainSampler.Choose(logits, 30f, bench.State(i), step, null);
                if (expected == result.Tokens(i)[0]) continue;
                near++;
                float[] capped = [.. logits];
                FastMath.SoftCap(capped, 30f, capped);
                AssertNear(capped, bench.State(i), step, null, expected, result.Tokens(i)[0], $"step {step}, row {i}");
            }
        }
        Assert.InRange(near, 0, 3);
    }

    [OpenClFact]
    public void The_nucleus_is_exact()
    {
        // Powers of two: sums are exact in every form, and p falls on the edges between tokens.
        float[] logits = [.. Enumerable.Range(0, Vocabulary).Select(static t => -200f - t % 7)];
        int[] tokens = [9_000, 5, 12_346, 700, 4_095];
        for (int i = 0; i < tokens.Length; i++) logits[tokens[i]] = -i * MathF.Log(2);
        using SamplerBench bench = new(Vocabulary, 16);
        foreach ((float topP, int kept) in new[] { (0.5f, 1), (0.52f, 2), (0.7f, 2), (0.78f, 3), (0.9f, 3), (0.91f, 4), (0.97f, 5) })
        {
            HashSet<int> seen = [];
            for (int i = 0; i < 16; i++) bench.Open(i, new SamplingParams { TopP = topP, TopK = i % 2 * 5, Temperature = 1, Seed = (ulong)i }, [], []);
            for (int step = 1; step < 30; step++)
            {
                StepResult result = bench.Run([.. Enumerable.Repeat(logits, 16)], 0, step);
                for (int i = 0; i < 16; i++) seen.Add(result.Tokens(i)[0]);
            }
            Assert.Equal(tokens[..kept].Order(), seen.Order());
        }
    }

    [OpenClTheory]
    [InlineData(3, 1f, 3)]
    [InlineData(0, 0.25f, 500)]
    [InlineData(1_200, 0.25f, 300)]
    public void Of_equals_the_lower_ids_take_part(int topK, float topP, int kept)
    {
        const int Equals = 2_000, From = 3_000;
        float[] logits = [.. Enumerable.Repeat(-50f, Vocabulary)];
        for (int t = From; t < From + Equals; t++) logits[t] = 5;
        using SamplerBench bench = new(Vocabulary, 32);
        for (int i = 0; i < 32; i++) bench.Open(i, new SamplingParams { TopP = topP, TopK = topK, Seed = (ulong)i }, [], []);
        HashSet<int> seen = [];
        for (int step = 1; step < 40; step++)
        {
            StepResult result = bench.Run([.. Enumerable.Repeat(logits, 32)], 0, step);
            for (int i = 0; i < 32; i++) seen.Add(result.Tokens(i)[0]);
        }
        Assert.All(seen, t => Assert.InRange(t, From, From + kept - 1));
        // 1,248 draws: nearly all of 300, most of 500, and the last ones too.
        Assert.True(seen.Count > Math.Min(kept, 1_248) * 0.85, $"{seen.Count} of {kept}");
        Assert.Contains(seen, t => t >= From + kept * 9 / 10);
    }

    [OpenClTheory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(20)]
    [InlineData(3_000)]
    [InlineData(20_000)]
    public void Logprobs_are_those_of_the_logits_before_bias_and_bans(int n)
    {
        using SamplerBench bench = new(Vocabulary, 2);
        Random random = new(n);
        float[][] logits = [Row("normal", random), Row("two values", random)];
        logits[0][77] = float.NegativeInfinity;
        for (int i = 0; i < 2; i++)
        {
            int best = Array.IndexOf(logits[i], logits[i].Max());
            bench.Open(i, new SamplingParams { Temperature = 0, Logprobs = n, BannedTokens = [best], LogitBias = [new(11, 40f)], RepetitionPenalty = 1.5f }, [5, 11], []);
        }
        StepResult result = bench.Run(logits, 25f, 9);
        for (int i = 0; i < 2; i++)
        {
            float[] capped = [.. logits[i]];
            FastMath.SoftCap(capped, 25f, capped);
            double logSum = Math.Log(capped.Sum(static l => Math.Exp(l)));
            int[] order = [.. Enumerable.Range(0, Vocabulary).Where(t => !float.IsNegativeInfinity(capped[t])).OrderByDescending(t => capped[t]).ThenBy(static t => t)];
            Assert.Equal(11, result.Tokens(i)[0]);
            Assert.Equal(capped[11] - logSum, result.Logprob(i, 0), 1e-5);
            TokenLogprob[] top = result.TopLogprobs(i, 0)!;
            Assert.Equal(Math.Min(n, order.Length), top.Length);
            for (int k = 0; k < top.Length; k++)
            {
                Assert.Equal(capped[order[k]] - logSum, top[k].Logprob, 2e-5);
                // Two neighbours may change places where the cap's approximations differ.
                if (i == 1) Assert.Equal(order[k], top[k].Token);
                else Assert.Equal(capped[top[k].Token] - logSum, top[k].Logprob, 2e-5);
            }
            Assert.Equal(top.Length, top.Select(static t => t.Token).Distinct().Count());
        }
    }

    [OpenClFact]
    public void A_whole_vocabularys_row_is_sampled_as_described()
    {
        const int Whole = 262_144;
        using SamplerBench bench = new(Whole, 4);
        Random random = new(3);
        for (int turn = 0; turn < 2; turn++)
        {
            float[][] logits = [.. Enumerable.Range(0, 4).Select(_ => Row("normal", random, Whole))];
            bench.Open(0, new SamplingParams { TopK = 64, TopP = 0.95f, Seed = 1 }, [], []);
            bench.Open(1, new SamplingParams { TopP = 0.9f, Seed = 2 }, [], []);
            bench.Open(2, new SamplingParams { Temperature = 0.8f, Seed = 3, FrequencyPenalty = 0.5f }, [7], [8]);
            bench.Open(3, new SamplingParams { Temperature = 0, Logprobs = 20 }, [], []);
            StepResult result = bench.Run(logits, 0, turn + 1);
            for (int i = 0; i < 4; i++)
            {
                int expected = PlainSampler.Choose(logits[i], 0, bench.State(i), turn + 1, null);
                if (expected != result.Tokens(i)[0]) AssertNear(logits[i], bench.State(i), turn + 1, null, expected, result.Tokens(i)[0], $"row {i}");
            }
            double logSum = Math.Log(logits[3].Sum(static l => Math.Exp(l)));
            Assert.Equal(logits[3].Max() - logSum, result.Logprob(3, 0), 1e-5);
        }
    }

    [OpenClFact]
    public void A_slot_with_long_lists_widens_all_and_keeps_what_the_others_have()
    {
        using SamplerBench bench = new(Vocabulary, 12);
        float[] logits = Row("normal", new Random(2));
        int[] best = [.. Enumerable.Range(0, Vocabulary).OrderByDescending(t => logits[t]).ThenBy(static t => t)];
        for (int i = 0; i < 12; i++)
        {
            // Nine with penalties: counts find room more than once.
            bench.Open(i, new SamplingParams
            {
                Temperature = 0,
                MinTokens = i % 2 == 0 ? 4 : 3,
                EndTokens = [best[0]],
                BannedTokens = [.. best.Skip(1).Take(i == 11 ? 400 : 1)],
                PresencePenalty = i < 9 ? 100 : 0,
            }, [], [best[2], 1, 2]);
        }
        StepResult result = bench.Run([.. Enumerable.Repeat(logits, 12)], 0, 4);
        for (int i = 0; i < 12; i++) Assert.Equal(PlainSampler.Choose(logits, 0, bench.State(i), 4, null), result.Tokens(i)[0]);
    }

    /// <summary>Both were candidates, and their scores all but equal.</summary>
    private static void AssertNear(float[] logits, SlotState slot, int position, ulong[]? allowed, int expected, int actual, string what)
    {
        SamplingParams p = slot.Sampling;
        float[] without = [.. logits];
        without[expected] = float.NegativeInfinity;
        Assert.True(PlainSampler.Choose(without, 0, slot, position, allowed) == actual, $"{what}: {actual} instead of {expected}");
        Assert.True(p.Temperature > 0, $"{what}: greedy chose {actual} instead of {expected}");
        double a = (logits[expected] / p.Temperature) + GumbelNoise.At(p.Seed, position, expected), b = (logits[actual] / p.Temperature) + GumbelNoise.At(p.Seed, position, actual);
        Assert.True(Math.Abs(a - b) < 1e-4 || p.HasPenalties || p.LogitBias.Count > 0, $"{what}: {actual} with {b} instead of {expected} with {a}");
    }

    private static SamplingParams Mix(Random random, int i) => new()
    {
        Temperature = (i % 4) switch { 0 => 0f, 1 => 1f, _ => (float)(0.05 + 2 * random.NextDouble()) },
        TopK = random.Next(5) switch { 0 => 1, 1 => 5, 2 => 64, 3 => 2_000, _ => 0 },
        TopP = random.Next(3) switch { 0 => 0.95f, 1 => (float)random.NextDouble(), _ => 1f },
        MinP = random.Next(3) == 0 ? 0.05f : 0f,
        RepetitionPenalty = random.Next(3) == 0 ? 1.3f : 1f,
        FrequencyPenalty = random.Next(4) == 0 ? 0.4f : 0f,
        PresencePenalty = random.Next(4) == 0 ? 0.7f : 0f,
        Seed = (ulong)random.NextInt64(),
        LogitBias = random.Next(3) == 0 ? [new(10, 6f), new(4_000, -3f), new(12_000, 2.5f)] : [],
        BannedTokens = random.Next(2) == 0 ? [3, 9_999] : [],
        EndTokens = [1, 107],
        MinTokens = random.Next(3) * 4,
    };

    private static ulong[] Some(Random random, double share)
    {
        ulong[] bits = new ulong[(Vocabulary + 63) / 64];
        for (int t = 0; t < Vocabulary; t++)
            if (random.NextDouble() < share) bits[t / 64] |= 1ul << (t % 64);
        return bits;
    }

    private static float[] Row(string kind, Random random, int length = Vocabulary)
    {
        float Normal() => (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        float[] row = new float[length];
        for (int t = 0; t < length; t++)
        {
            row[t] = kind switch
            {
                "normal" => 4 * Normal(),
                "peaked" => t == 4_321 ? 20 : Normal(),
                "flat" => 0.01f * Normal(),
                "equal" => 1.5f,
                "two values" => random.Next(2),
                "neighbours" => BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(3f) + random.Next(20)),
                "barred" => random.Next(10) == 0 ? Normal() : float.NegativeInfinity,
                "nothing" => float.NegativeInfinity,
                "rising" => t * 1e-3f,
                _ => -t * 1e-3f,
            };
        }
        return row;
    }
}
