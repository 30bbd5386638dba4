using GemmaServer.Compute;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>
/// Checkpoints of shapes nobody has seen, in every spelling the loader takes, through the serving engine and against the
/// reference in doubles. A failure names its seed.
/// </summary>
public class RandomShapeTests(ITestOutputHelper output)
{
    private const int SeedCount = 80;
    private const double MaxError = 3e-3;

    /// <summary>rms of the integer path's error over the logits' deviation; 0.8 to 4.6 % seen, llama.cpp has 2 to 7 % on the stored models.</summary>
    private const double MaxInt8Share = 0.08;

    public static IEnumerable<object[]> Seeds() => Enumerable.Range(1, SeedCount).Select(s => new object[] { s });

    /// <summary>Even seeds with a quantised GGUF type; see <see cref="RandomCheckpoint"/>.</summary>
    public static IEnumerable<object[]> QuantisedSeeds() => Seeds().Where(s => (int)s[0] % 2 == 0 && (int)s[0] / 2 % 5 > 2);

    public static IEnumerable<object[]> EveryFourthSeed() => Seeds().Where(s => (int)s[0] % 4 is 1 or 2 && (int)s[0] % 8 < 4);

    [Theory]
    [MemberData(nameof(Seeds))]
    public async Task Exact_arithmetic_meets_the_reference_on_any_shape(int seed)
    {
        using RandomCheckpoint checkpoint = new(seed);
        output.WriteLine(checkpoint.Description);
        using EngineHarness engine = new(checkpoint.Path, ActivationType.F32, KvCacheType.F32, threads: 1 + seed % 3);
        int[][] prompts = Prompts(checkpoint, seed);
        float[][][] actual = await engine.LogitsAsync(prompts);
        int[] greedy = await engine.GreedyAsync(prompts[2], 20);

        // A row sees nothing behind it: the short prompts are the head of the long one, the chain's reference holds its prompt's.
        double[][] longest = checkpoint.Model.Logits(prompts[3]), chain = checkpoint.Model.Logits([.. prompts[2], .. greedy]);
        double[] errors = [.. Errors(actual[0], longest), .. Errors(actual[1], longest), .. Errors(actual[2], chain), .. Errors(actual[3], longest)];
        output.WriteLine($"max {errors.Max():0.0e+00}, logits' deviation {Deviation(longest):0.00}");
        Assert.True(Deviation(longest) > 1, "The logits are too flat to show a mistake.");

        double good = errors.Count(e => e <= MaxError) / (double)errors.Length;
        Assert.True(good >= (checkpoint.Shape.Experts > 0 ? 0.9 : 1), $"{good:P0} of positions within {MaxError}, worst {errors.Max()}; {checkpoint.Description}");
        Assert.Equal(20, greedy.Length);
        for (int i = 0; i < greedy.Length; i++)
        {
            double[] row = chain[prompts[2].Length - 1 + i];
            Assert.True(row[greedy[i]] >= row.Max() - 2 * MaxError, $"token {i} of the greedy chain is {row.Max() - row[greedy[i]]} below the best");
        }
    }

    [Theory]
    [MemberData(nameof(EveryFourthSeed))]
    public async Task Chunks_mixed_batches_and_thread_counts_change_no_bit_on_any_shape(int seed)
    {
        using RandomCheckpoint checkpoint = new(seed);
        bool wholeBlocks = checkpoint.Shape.SlidingHeadDim % 32 == 0 && checkpoint.Shape.FullHeadDim % 32 == 0;
        KvCacheType kv = (seed / 4 % 3) switch { 0 => KvCacheType.F16, 1 => KvCacheType.BF16, _ => wholeBlocks ? KvCacheType.Q8_0 : KvCacheType.F32 };
        int[][] prompts = Prompts(checkpoint, seed);
        foreach (ActivationType activations in checkpoint.IsQuantised ? new[] { ActivationType.F32, ActivationType.Int8 } : [ActivationType.F32])
        {
            float[][][] plain = new float[prompts.Length][][];
            using (EngineHarness alone = new(checkpoint.Path, activations, kv))
                for (int i = 0; i < prompts.Length; i++) plain[i] = (await alone.LogitsAsync(prompts[i]))[0];
            foreach ((int chunk, int threads) in new[] { (7, 1), (33, 3) })
            {
                using EngineHarness engine = new(checkpoint.Path, activations, kv, chunk, threads);
                float[][][] mixed = await engine.LogitsAsync(prompts);
                for (int i = 0; i < prompts.Length; i++)
                    for (int p = 0; p < prompts[i].Length; p++)
                        Assert.True(plain[i][p].AsSpan().SequenceEqual(mixed[i][p]), $"{activations} {kv}, chunk {chunk}, prompt {i}, position {p} differs; {checkpoint.Description}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(QuantisedSeeds))]
    public async Task Integer_arithmetic_stays_near_the_exact_one_on_any_shape(int seed)
    {
        using RandomCheckpoint checkpoint = new(seed);
        Assert.True(checkpoint.IsQuantised);
        int[] prompt = Prompts(checkpoint, seed)[3];
        using EngineHarness engine = new(checkpoint.Path, ActivationType.Int8, KvCacheType.F32);
        float[][] actual = (await engine.LogitsAsync(prompt))[0];
        double[][] exact = checkpoint.Model.Logits(prompt);

        // An expert swap moves a row by whole units, and a row that attends to it by less; so the better part counts there.
        double[] squares = [.. actual.Select((row, p) => row.Select((v, t) => Math.Pow(v - exact[p][t], 2)).Average()).Order()];
        double rms = Math.Sqrt(squares.Take(checkpoint.Shape.Experts > 0 ? squares.Length / 2 : squares.Length).Average());
        double share = rms / Deviation(exact);
        output.WriteLine($"rms {rms:0.000}, {share:P1} of the logits' deviation; {checkpoint.Description}");
        Assert.True(share <= MaxInt8Share, $"{share:P1} of the logits' deviation; {checkpoint.Description}");
        Assert.True(rms > 1e-4, "This is not the integer path.");
    }

    [Fact]
    public void The_bound_sees_every_mistake_in_the_shape()
    {
        int mistakes = 0, seen = 0;
        foreach (int seed in Enumerable.Range(1, SeedCount).Where(s => s % 5 == 0))
        {
            using RandomCheckpoint checkpoint = new(seed);
            int[] prompt = Prompts(checkpoint, seed)[3];
            double[][] right = checkpoint.Model.Logits(prompt);
            ReferenceShape s = checkpoint.Shape;
            List<(string Name, Func<ReferenceShape, ReferenceShape> Make)> wrongs = [("full base", x => x with { FullBase = x.FullBase * 2 }), ("soft-cap", x => x with { Softcap = x.Softcap == 0 ? 30 : 0 })];
            if (s.Pattern.Contains('S')) wrongs.Add(("window", x => x with { Window = x.Window + 1 }));
            // A query that sees itself alone turns with its key, so no angle matters.
            if (s.Pattern.Contains('S') && s.Window > 1) wrongs.Add(("sliding base", x => x with { SlidingBase = x.SlidingBase * 2 }));
            if (s.Experts > s.TopExperts) wrongs.Add(("experts", x => x with { TopExperts = x.TopExperts + 1 }));
            if (s.RotaryFactor < 1) wrongs.Add(("rotary factor", x => x with { RotaryFactor = 1 }));
            foreach ((string name, Func<ReferenceShape, ReferenceShape> make) in wrongs)
            {
                double worst = checkpoint.Model.Mistaken(make).Logits(prompt).Select((row, p) => Distance(right[p], [.. row.Select(v => (float)v)])).Max();
                mistakes++;
                if (worst > 10 * MaxError) seen++;
                else output.WriteLine($"{name} shows only {worst:0.0e+00} in {checkpoint.Description}");
            }
        }
        output.WriteLine($"{seen} of {mistakes}");
        Assert.True(mistakes > 50 && seen == mistakes, $"{seen} of {mistakes} mistakes show");
    }

    /// <summary>Largest difference of two rows; infinite where one is not a number.</summary>
    internal static double Distance(double[] expected, float[] actual)
    {
        double max = expected.Length == actual.Length ? 0 : double.PositiveInfinity;
        for (int i = 0; i < Math.Min(expected.Length, actual.Length); i++)
        {
            double d = Math.Abs(expected[i] - actual[i]);
            max = double.IsNaN(d) ? double.PositiveInfinity : Math.Max(max, d);
        }
        return max;
    }

    private static IEnumerable<double> Errors(float[][] actual, double[][] expected) => actual.Select((row, p) => Distance(expected[p], row));

    /// <summary>Of 1, 9, 70 and 150 tokens; the first two are the head of the last.</summary>
    private static int[][] Prompts(RandomCheckpoint checkpoint, int seed)
    {
        Random random = new(seed + 1000);
        int[] Tokens(int count) => [.. Enumerable.Range(0, count).Select(_ => random.Next(checkpoint.Shape.Vocabulary))];
        int[] longest = Tokens(150);
        return [longest[..1], longest[..9], Tokens(70), longest];
    }

    private static double Deviation(double[][] logits)
    {
        double mean = logits.Average(r => r.Average());
        return Math.Sqrt(logits.Average(r => r.Average(v => (v - mean) * (v - mean))));
    }
}
