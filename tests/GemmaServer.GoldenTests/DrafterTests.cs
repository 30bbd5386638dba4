using System.Text.Json;
using GemmaServer.Compute;
using GemmaServer.Model;
using GemmaServer.Tests;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>Drafters over a real target's pages, against llama.cpp and Hugging Face (stored chains) and against plain double loops.</summary>
public class DrafterTests(ITestOutputHelper output)
{
    private const double MaxError = 3e-3, MaxRms = 3e-4;

    private static readonly SamplingParams s_greedy = new() { Temperature = 0 };

    public static IEnumerable<object[]> Goldens() => GoldenDevices.With(
        ((string[])["hf", "tiny-e-assistant-BF16.gguf", "tiny-e-assistant-Q8_0.gguf"]).Where(f => GoldenData.Has("tiny-e-assistant", f)).Select(f => new object[] { f }));

    // Seed, window, threads; with a window of one no key is left.
    public static IEnumerable<object[]> Drafters() =>
        GoldenDevices.With([[1, 17, 1], [2, 17, 2], [3, 2, 3], [4, 1, 2], [5, 64, 2]], [[1, 17, 1], [4, 1, 1]], slow: false);

    public static IEnumerable<object[]> CentroidsUsed() => GoldenDevices.With([[1], [3]], slow: false);

    public static IEnumerable<object[]> Heads() => GoldenDevices.With([[0], [3]], slow: false);

    public static IEnumerable<object[]> Devices() => GoldenDevices.Each(slow: false);

    [Theory]
    [MemberData(nameof(Goldens))]
    public void A_chain_is_the_references(string device, string file)
    {
        SafetensorsFile golden = new(GoldenData.At("tiny-e-assistant", "golden.safetensors"));
        JsonElement chains = JsonDocument.Parse(File.ReadAllBytes(GoldenData.At("tiny-e-assistant", "golden.json"))).RootElement.GetProperty("chains");
        // The chains were made with a target in BF16; so were the drafters that are not quantised.
        bool exact = !file.Contains("Q8", StringComparison.Ordinal);
        GoldenModel target = GoldenModel.Open("tiny-e", "master");
        using DrafterHarness harness = new(target.Path, GoldenData.At("tiny-e-assistant", file), device: device);
        foreach (string prompt in GoldenModel.PromptNames)
            foreach ((int chunk, bool stored) in new[] { (512, true), (512, false), (7, false) })
            {
                int[] tokens = target.Prompt(prompt);
                float[] h0 = golden.Floats($"{prompt}/h0", out _).ToArray();
                DrafterHarness.Outcome o = harness.Prefill(harness.Open(s_greedy), tokens, 4, chunk, stored ? h0 : null);
                Assert.Equal([chains.GetProperty(prompt).GetProperty("first_token").GetInt32()], o.Tokens);
                Assert.Equal(chains.GetProperty(prompt).GetProperty("draft_tokens").EnumerateArray().Select(t => t.GetInt32()), o.Drafts);
                Assert.Equal(Enumerable.Range(tokens.Length, 4), o.Positions);
                foreach (string name in (string[])["logits", "hf_logits_reach31", "h"])
                {
                    float[][] expected = Rows(golden, $"{prompt}/{name}"), actual = name == "h" ? o.Hidden : o.Logits;
                    (double max, double rms) = Errors(expected, actual);
                    output.WriteLine($"{device} {file} {prompt} {name}, chunk {chunk}, stored h0 {stored}: max {max:0.0e+00}, rms {rms:0.0e+00}");
                    Assert.True(exact ? max <= MaxError && rms <= MaxRms : rms <= 0.15, $"{prompt} {name}: max {max}, rms {rms}");
                }
            }
    }

    [Theory]
    [MemberData(nameof(Drafters))]
    public void Any_drafter_meets_the_reference_after_prefill_and_after_verification(string device, int seed, int window, int threads)
    {
        using RandomDrafter random = new(seed, window: window);
        using DrafterHarness harness = new(random.Target.Path, random.Path, threads: threads, device: device);
        int[] prompt = Prompt(random, seed, 90);
        DrafterHarness.Sequence sequence = harness.Open(s_greedy);
        List<int> fixedTokens = [.. prompt];

        DrafterHarness.Outcome o = harness.Prefill(sequence, prompt, wanted: 4, chunk: 33);
        for (int round = 0; round < 12; round++)
        {
            fixedTokens.AddRange(o.Tokens);
            Compare(random, fixedTokens, o, 4);
            // Right guesses, as many as the round says, then a wrong one.
            int right = round % 4;
            int[] next = [.. Greedy(random.Target.Model, fixedTokens, right + 1)];
            int[] guesses = [.. next[..right], (next[right] + 1) % random.Target.Shape.Vocabulary];
            o = harness.Step(null, (sequence, [fixedTokens[^1], .. guesses], guesses.Length, true, 4))[0];
            Assert.Equal(next, o.Tokens);
        }
    }

    [Fact]
    public void Guesses_do_not_depend_on_company_chunks_or_threads()
    {
        using RandomDrafter random = new(7);
        const int Count = 40; // more rows than the head takes at a time
        SamplingParams Sampling(int i) => i % 3 == 0 ? s_greedy : new SamplingParams { Temperature = 1, Seed = (ulong)i, TopK = i % 3 == 1 ? 0 : 20, TopP = 0.9f, PresencePenalty = 0.2f * (i % 2) };
        int Wanted(int i) => i % 5; // 0: this one wants none
        int[][] prompts = [.. Enumerable.Range(0, Count).Select(i => Prompt(random, i, 1 + i))];
        foreach (KvCacheType kv in (KvCacheType[])[KvCacheType.F32, KvCacheType.F16])
        {
            DrafterHarness.Outcome[] alone = new DrafterHarness.Outcome[Count];
            using (DrafterHarness harness = new(random.Target.Path, random.Path, ActivationType.Int8, kv, threads: 1))
                for (int i = 0; i < Count; i++) alone[i] = harness.Prefill(harness.Open(Sampling(i)), prompts[i], Wanted(i), chunk: 5);
            using DrafterHarness busy = new(random.Target.Path, random.Path, ActivationType.Int8, kv, threads: 3);
            List<(DrafterHarness.Sequence, int[], int, bool, int)> rows = [];
            for (int i = 0; i < Count; i++)
            {
                DrafterHarness.Sequence s = busy.Open(Sampling(i));
                if (i > 0) busy.Step(null, (s, prompts[i][..i], 0, false, 0));
                rows.Add((s, prompts[i][i..], 0, true, Wanted(i)));
            }
            DrafterHarness.Outcome[] together = busy.Step(null, [.. rows]);
            for (int i = 0; i < Count; i++)
            {
                Assert.Equal(Wanted(i), together[i].Drafts.Length);
                Assert.Equal(alone[i].Tokens, together[i].Tokens);
                Assert.Equal(alone[i].Drafts, together[i].Drafts);
                Assert.Equal(alone[i].Logits, together[i].Logits);
                Assert.Equal(alone[i].Hidden, together[i].Hidden);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_guess_is_drawn_with_the_noise_of_its_position(string device)
    {
        using RandomDrafter random = new(8);
        using DrafterHarness harness = new(random.Target.Path, random.Path, device: device);
        int differs = 0;
        for (ulong seed = 1; seed <= 30; seed++)
        {
            int[] prompt = Prompt(random, (int)seed, 20);
            DrafterHarness.Outcome o = harness.Prefill(harness.Open(new SamplingParams { Temperature = 0.8f, Seed = seed, BannedTokens = [5] }), prompt, wanted: 3);
            for (int i = 0; i < 3; i++)
            {
                // The first token after the prompt stands at position 20; the guesses behind it.
                int position = 21 + i;
                int best = Enumerable.Range(0, o.Logits[i].Length).Where(t => t != 5).MaxBy(t => o.Logits[i][t] / 0.8 + GumbelNoise.At(seed, position, t));
                Assert.Equal(best, o.Drafts[i]);
                if (best != Array.IndexOf(o.Logits[i], o.Logits[i].Max())) differs++;
            }
        }
        Assert.True(differs > 10, "The noise decides nothing here.");
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Nothing_is_guessed_behind_an_end_token(string device)
    {
        using RandomDrafter random = new(9);
        int[] prompt = Prompt(random, 9, 30);
        using DrafterHarness harness = new(random.Target.Path, random.Path, device: device);
        DrafterHarness.Outcome free = harness.Prefill(harness.Open(s_greedy), prompt, wanted: 5);
        Assert.Equal(5, free.Drafts.Length);
        int end = free.Drafts.Select((t, i) => (t, i)).First(x => x.i > 0 && !free.Drafts[..x.i].Contains(x.t) && x.t != free.Tokens[0]).t;

        SamplingParams ends = new() { Temperature = 0, EndTokens = [end] };
        int[] stopped = harness.Prefill(harness.Open(ends), prompt, wanted: 5).Drafts;
        Assert.Equal(free.Drafts[..(Array.IndexOf(free.Drafts, end) + 1)], stopped);
        ends = new() { Temperature = 0, EndTokens = [free.Tokens[0]] };
        Assert.Empty(harness.Prefill(harness.Open(ends), prompt, wanted: 5).Drafts);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Centroids_that_are_all_used_score_as_a_dense_head(string device)
    {
        using RandomDrafter dense = new(10), clustered = new(10, RandomDrafter.Clusters);
        (DrafterHarness.Outcome a, DrafterHarness.Outcome b) = (Draft(dense, device), Draft(clustered, device));
        Assert.Equal(a.Drafts, b.Drafts);
        Assert.True(Errors(a.Logits, b.Logits).Max < 1e-4);
    }

    [Theory]
    [MemberData(nameof(CentroidsUsed))]
    public void Only_the_best_clusters_tokens_get_logits(string device, int used)
    {
        using RandomDrafter random = new(11, used);
        int[] prompt = Prompt(random, 10, 40);
        DrafterHarness.Outcome o = Draft(random, device);
        List<int> tokens = [.. prompt, .. o.Tokens];
        (_, double[][] hidden, (double[][] Keys, double[][] Values)[] caches) = random.Target.Model.Run([.. tokens]);
        double[] g = hidden[prompt.Length - 1];
        int token = o.Tokens[0];
        for (int i = 0; i < o.Drafts.Length; i++)
        {
            (double[] logits, double[] row, g) = random.Model.Step(token, g, prompt.Length, caches);
            double[] scores = ReferenceModel.Times(random.Centroids, row);
            int[] best = [.. Enumerable.Range(0, RandomDrafter.Clusters).OrderByDescending(c => scores[c]).Take(used)];
            HashSet<int> allowed = [.. best.SelectMany(c => random.Ordering.Skip(c * RandomDrafter.ClusterSize).Take(RandomDrafter.ClusterSize))];
            for (int t = 0; t < logits.Length; t++)
            {
                if (!allowed.Contains(t)) Assert.Equal(float.NegativeInfinity, o.Logits[i][t]);
                else Assert.True(Math.Abs(logits[t] - o.Logits[i][t]) <= MaxError);
            }
            Assert.Equal(allowed.MaxBy(t => logits[t]), o.Drafts[i]);
            token = o.Drafts[i];
        }
    }

    /// <summary>ILGPU's simulator makes an object for each launch.</summary>
    public static IEnumerable<object[]> HeadsWithoutSimulators() => GoldenDevices.With([[0], [3]], slow: false, simulated: false);

    [Theory]
    [MemberData(nameof(HeadsWithoutSimulators))]
    public void Drafting_allocates_nothing(string device, int centroidsUsed)
    {
        using RandomDrafter random = new(12, centroidsUsed);
        using DrafterHarness harness = new(random.Target.Path, random.Path, threads: 1, device: device);
        for (int i = 0; i < 3; i++) harness.Prefill(harness.Open(new SamplingParams { TopK = 20, TopP = 0.9f, Seed = 3 }), Prompt(random, i, 40), wanted: 4);
        harness.Forward();
        harness.DraftAllocations();
        harness.Forward();
        Assert.Equal(0, harness.DraftAllocations());
    }

    [Fact]
    public void The_runner_gives_drafts_and_counts_the_drafter_in_its_plan()
    {
        using RandomDrafter random = new(13);
        using Checkpoint target = Checkpoint.Open(random.Target.Path), drafter = Checkpoint.Open(random.Path, CheckpointKind.Drafter);
        RunnerOptions options = new(KvCacheType.F32, 16, 8 << 20, 256, 4, 64);
        RunnerPlan bare = RunnerPlan.Make(target.Config, 0, options, DeviceBudget.Cpu(1L << 30)), plan = RunnerPlan.Make(target.Config, 0, options, DeviceBudget.Cpu(1L << 30), drafter);
        long weights = drafter.StoredTensors.Sum(t => t.Bytes);
        Assert.Equal(bare.WeightBytes + weights, plan.WeightBytes);
        Assert.True(plan.ActivationBytes > bare.ActivationBytes);
        Assert.Equal(plan.WeightBytes + plan.ActivationBytes - bare.WeightBytes - bare.ActivationBytes, plan.DrafterBytes);
        Assert.Contains(plan.Lines(), l => l.Contains("drafter", StringComparison.Ordinal));

        using ModelRunner runner = new(new CpuDevice(2, ActivationType.F32), target, plan, drafter, maxDrafts: 3);
        using DrafterHarness harness = new(random.Target.Path, random.Path);
        Assert.Equal(3, runner.MaxDrafts);
        int[] prompt = Prompt(random, 13, 40);
        DrafterHarness.Outcome expected = harness.Prefill(harness.Open(s_greedy), prompt, 3);
        BlockTable blocks = new(plan.KvCache.Groups.Count);
        for (int g = 0, page = 0; g < plan.KvCache.Groups.Count; g++)
            while (blocks.Count(g) * plan.KvCache.Groups[g].TokensPerPage < prompt.Length) blocks.Add(g, page++);
        StepBatch batch = new(64, 4);
        batch.Add(new SequenceSlice { Slot = 2, Sample = true, DraftsWanted = 3, PromptLogprobs = -1, Blocks = blocks }, prompt);
        runner.OpenSlot(2, s_greedy, prompt, []);
        StepResult result = runner.Collect(runner.Launch(batch));
        Assert.Equal(expected.Tokens, result.Tokens(0));
        Assert.Equal(expected.Drafts, result.Drafts(0));
        using ModelRunner plain = new(new CpuDevice(2, ActivationType.F32), target, bare);
        Assert.Equal(0, plain.MaxDrafts);
    }

    private static DrafterHarness.Outcome Draft(RandomDrafter random, string device)
    {
        using DrafterHarness harness = new(random.Target.Path, random.Path, device: device);
        return harness.Prefill(harness.Open(s_greedy), Prompt(random, 10, 40), wanted: 5);
    }

    /// <summary>Holds a chain of guesses behind <paramref name="tokens"/> against the reference.</summary>
    private void Compare(RandomDrafter random, List<int> tokens, DrafterHarness.Outcome o, int wanted)
    {
        (_, double[][] hidden, (double[][] Keys, double[][] Values)[] caches) = random.Target.Model.Run([.. tokens]);
        int position = tokens.Count - 1, token = tokens[^1];
        double[] g = hidden[position - 1];
        Assert.Equal(wanted, o.Drafts.Length);
        double worst = 0;
        for (int i = 0; i < o.Drafts.Length; i++)
        {
            (double[] logits, _, g) = random.Model.Step(token, g, position, caches);
            worst = Math.Max(worst, Math.Max(RandomShapeTests.Distance(logits, o.Logits[i]), RandomShapeTests.Distance(g, o.Hidden[i])));
            Assert.True(logits[o.Drafts[i]] >= logits.Max() - 2 * MaxError);
            token = o.Drafts[i];
        }
        output.WriteLine($"{tokens.Count} tokens: max {worst:0.0e+00}");
        Assert.True(worst <= MaxError, $"{tokens.Count} tokens: {worst}");
    }

    private static IEnumerable<int> Greedy(ReferenceModel model, List<int> tokens, int count)
    {
        List<int> all = [.. tokens];
        for (int i = 0; i < count; i++)
        {
            double[] logits = model.Logits([.. all])[^1];
            all.Add(Array.IndexOf(logits, logits.Max()));
            yield return all[^1];
        }
    }

    private static int[] Prompt(RandomDrafter random, int seed, int length)
    {
        Random r = new(seed);
        return [.. Enumerable.Range(0, length).Select(_ => r.Next(random.Target.Shape.Vocabulary))];
    }

    private static float[][] Rows(SafetensorsFile file, string name)
    {
        ReadOnlySpan<float> all = file.Floats(name, out int columns);
        float[][] rows = new float[all.Length / columns][];
        for (int i = 0; i < rows.Length; i++) rows[i] = all.Slice(i * columns, columns).ToArray();
        return rows;
    }

    private static (double Max, double Rms) Errors(float[][] expected, float[][] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        double max = 0, sum = 0;
        int count = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i].Length, actual[i].Length);
            for (int j = 0; j < expected[i].Length; j++, count++)
            {
                double d = Math.Abs((double)expected[i][j] - actual[i][j]);
                Assert.False(double.IsNaN(d));
                max = Math.Max(max, d);
                sum += d * d;
            }
        }
        return (max, Math.Sqrt(sum / count));
    }
}
