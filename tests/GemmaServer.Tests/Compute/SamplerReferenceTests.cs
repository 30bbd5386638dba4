using GemmaServer.Compute;

namespace GemmaServer.Tests.Compute;

/// <summary>What looks at few logits chooses what looking at all of them would.</summary>
public class SamplerReferenceTests
{
    private const int Vocabulary = 12_347;   // some blocks and a short one, no multiple of a vector
    private readonly CpuSampler _sampler = new();

    public static TheoryData<string> Rows => ["normal", "peaked", "flat", "equal", "two values", "grid", "neighbours", "saturated", "barred", "nothing", "rising", "falling"];

    [Theory]
    [MemberData(nameof(Rows))]
    public void Every_mix_of_parameters_gives_the_plain_samplers_token(string kind)
    {
        Random random = new(kind.Length);
        for (int i = 0; i < 60; i++)
        {
            float[] logits = Row(kind, random);
            SamplingParams p = Mix(random, i);
            SlotState slot = new();
            slot.Open(p, [1, 2, 2, 300], [3, 3, 4_000, Array.IndexOf(logits, logits.Max())]);
            ulong[]? allowed = (i % 5) switch { 3 => Some(random, 0.5), 4 => Some(random, 0.002), _ => null };
            float cap = i % 2 == 0 ? 30f : 0f;

            int expected = PlainSampler.Choose(logits, cap, slot, i, allowed);
            Assert.Equal(expected, Early(logits, cap, slot, i, allowed));
            if (CpuSampler.CapsLate(p)) Assert.Equal(expected, Late(logits, cap, slot, i, allowed));
            Assert.Equal(expected, Keeping(logits, cap, slot, i, allowed));
        }
    }

    [Theory]
    [InlineData(0f, 0)]
    [InlineData(1f, 1)]
    [InlineData(1f, 3)]
    public void Logits_that_the_cap_makes_equal_are_equals(float temperature, int topK)
    {
        // Far up, many floats share one capped value, and the lowest id among them is the best, not the greatest before the cap.
        float[] logits = new float[Vocabulary];
        for (int t = 500; t < 1_000; t++) logits[t] = 400 + t;
        SlotState slot = new();
        slot.Open(new SamplingParams { Temperature = temperature, TopK = topK, Seed = 8 }, [], []);
        for (int position = 0; position < 50; position++)
        {
            int token = Late(logits, 30f, slot, position, null);
            Assert.InRange(token, 500, 500 + Math.Max(0, topK - 1));
            Assert.Equal(PlainSampler.Choose(logits, 30f, slot, position, null), token);
        }
    }

    [Fact]
    public void No_logit_below_the_floor_is_capped_to_as_much()
    {
        Random random = new(6);
        for (int i = 0; i < 20_000; i++)
        {
            float logit = (float)((random.NextDouble() - 0.5) * Math.Pow(10, random.NextDouble() * 8 - 5)), floor = LateSoftCap.Floor(logit, 30f);
            Assert.True(floor <= logit);
            float[] pair = [logit, MathF.BitDecrement(floor)];
            FastMath.SoftCap(pair, 30f, pair);
            Assert.True(pair[1] < pair[0] || floor == float.MinValue, $"{logit:R}: {pair[1]:R} of {floor:R}");
        }
    }

    [Fact]
    public void Needed_bits_are_never_more_than_the_noise_takes()
    {
        Random random = new(2);
        for (int i = 0; i < 100_000; i++)
        {
            uint bits = i < 1_000 ? uint.MaxValue - (uint)i : i < 2_000 ? (uint)(i - 1_000) : (uint)random.NextInt64(1L << 32);
            ulong needed = GumbelSearch.BitsAbove(GumbelNoise.Of(bits));
            Assert.True(needed <= bits, $"{needed} of {bits}");
            Assert.True(needed + 16 >= bits, $"{needed} of {bits}");
        }
    }

    [Fact]
    public void Choosing_allocates_nothing()
    {
        float[] logits = Row("flat", new Random(1)), work = new float[Vocabulary];
        SlotState[] slots = [.. ((SamplingParams[])[new() { Temperature = 0 }, new() { TopK = 64, TopP = 0.95f }, new() { TopP = 0.9f }, new()]).Select(static p =>
        {
            SlotState slot = new();
            slot.Open(p, [], []);
            return slot;
        })];
        long before = 0;
        for (int round = 0; round < 20; round++)
        {
            if (round == 2) before = GC.GetAllocatedBytesForCurrentThread();
            foreach (SlotState slot in slots)
            {
                logits.CopyTo(work, 0);
                _sampler.Choose(work, slot, round);
            }
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private int Early(float[] logits, float cap, SlotState slot, int position, ulong[]? allowed)
    {
        float[] row = [.. logits];
        if (cap != 0) FastMath.SoftCap(row, cap, row);
        return _sampler.Choose(row, slot, position, allowed);
    }

    private int Late(float[] logits, float cap, SlotState slot, int position, ulong[]? allowed)
    {
        SurveyedRow row = new([.. logits], new float[LogitBlocks.Count(Vocabulary)], cap);
        row.Survey(allowed);
        return _sampler.Choose(row, slot, position, allowed);
    }

    private int Keeping(float[] logits, float cap, SlotState slot, int position, ulong[]? allowed)
    {
        float[] capped = [.. logits];
        if (cap != 0) FastMath.SoftCap(capped, cap, capped);
        SurveyedRow row = new([.. capped], new float[LogitBlocks.Count(Vocabulary)], 0);
        row.Survey(null);
        int token = _sampler.ChooseKeeping(row, slot, position, allowed, out float logit);
        Assert.Equal(capped[token], logit);
        return token;
    }

    private static SamplingParams Mix(Random random, int i) => new()
    {
        Temperature = (i % 4) switch { 0 => 0f, 1 => 1f, 2 => 0.3f, _ => 2.5f },
        TopK = random.Next(6) switch { 0 => 64, 1 => 1, 2 => 5, 3 => 1_024, 4 => 3_000, _ => 0 } * random.Next(2),
        TopP = random.Next(4) switch { 0 => 0.95f, 1 => 0.5f, 2 => 0.999f, _ => 1f },
        MinP = random.Next(4) == 0 ? 0.07f : 0f,
        RepetitionPenalty = random.Next(5) == 0 ? 1.3f : 1f,
        FrequencyPenalty = random.Next(6) == 0 ? -0.4f : 0f,
        LogitBias = random.Next(5) == 0 ? [KeyValuePair.Create(7, 6f), KeyValuePair.Create(9_000, -100f), KeyValuePair.Create(7, 1f)] : [],
        BannedTokens = random.Next(2) == 0 ? [0, 12_000] : [],
        EndTokens = [1, 106],
        MinTokens = random.Next(2) == 0 ? 100 : 0,
        Seed = (ulong)random.NextInt64(),
    };

    private static ulong[] Some(Random random, double share)
    {
        ulong[] allowed = new ulong[(Vocabulary + 63) / 64];
        for (int t = 0; t < Vocabulary; t++)
            if (random.NextDouble() < share) allowed[t / 64] |= 1ul << (t % 64);
        return allowed;
    }

    private static float[] Row(string kind, Random random)
    {
        float[] row = new float[Vocabulary];
        for (int t = 0; t < row.Length; t++)
        {
            double normal = Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
            row[t] = kind switch
            {
                "normal" => (float)(normal * 4),
                "peaked" => (float)(normal - (random.Next(500) == 0 ? -20 : 10)),
                "flat" => (float)(normal * 0.01),
                "equal" => 3.25f,
                "two values" => random.Next(3) == 0 ? 1f : 0.5f,
                "grid" => MathF.Round((float)normal * 4) / 4,
                "neighbours" => BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(20f) + random.Next(40)),
                "saturated" => (float)(300 + normal * 50),
                "barred" => random.Next(50) == 0 ? (float)normal : float.MinValue,
                "nothing" => 0f * (random.Next(2) - 0.5f),
                "rising" => t * 1e-3f - 5,
                _ => 5 - t * 1e-3f,
            };
        }
        return row;
    }
}
