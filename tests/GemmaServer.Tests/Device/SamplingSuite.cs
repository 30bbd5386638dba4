using GemmaServer.Compute;

namespace GemmaServer.Tests.Device;

/// <summary>The end of a step on every device: rows that get logits, drafts, logprobs, two steps under way, a drafter's guesses.</summary>
[Trait("Category", "Device")]
public sealed class SamplingSuite
{
    private const int Hidden = 64, Vocabulary = 3_000, Rows = 48, Slots = 8;

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Decode_steps_two_under_way(string device)
    {
        using DevicePair pair = new(device);
        (List<string> Seen, List<float> Numbers)[] results = pair.Both(d =>
        {
            using Bench bench = new(pair, d);
            for (int s = 0; s < Slots; s++)
            {
                d.OpenSlot(s, new SamplingParams
                {
                    Temperature = s % 3 * 0.6f, TopK = s % 2 * 20, TopP = s == 5 ? 0.8f : 1, Seed = (ulong)s, Logprobs = s % 4 == 1 ? 20 : -1,
                    FrequencyPenalty = s == 6 ? 1.5f : 0, RepetitionPenalty = s == 3 ? 1.3f : 1, MinTokens = 2, EndTokens = [5],
                }, [1, 2, 3], s == 6 ? [4, 4] : []);
            }
            for (int n = 0; n < 6; n++)
            {
                StepBatch batch = new(Rows, Slots);
                for (int s = 0; s < Slots; s++) batch.Add(Slice(s, 10 + n) with { Sample = true }, [n == 0 ? 3 : StepBatch.LastSampled]);
                bench.Start(batch, n);
                // From the second on, one is always under way where the device can.
                if (!d.IsAsynchronous || n > 0) bench.Collect();
            }
            if (d.IsAsynchronous) bench.Collect();
            return bench.Noted;
        });
        AssertSame(results);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Every_parameter(string device)
    {
        using DevicePair pair = new(device);
        SamplingParams[] sampling =
        [
            new() { Temperature = 1, TopP = 0.9f, Seed = 1 },
            new() { Temperature = 0.7f, MinP = 0.05f, Seed = 2 },
            new() { Temperature = 1, Seed = 3 },
            new() { Temperature = 1.3f, TopK = 5, TopP = 0.5f, MinP = 0.1f, Seed = 4, Logprobs = 0 },
            new() { Temperature = 0, LogitBias = [new(70, 50), new(71, 30), new(71, 40)], PresencePenalty = 60 },
            new() { Temperature = 0, BannedTokens = [.. Enumerable.Range(0, 2_900)], Logprobs = 3 },
            new() { Temperature = 1, TopK = 2_000, TopP = 0.99f, Seed = 5 },
            new() { Temperature = 0.5f, TopP = 0.3f, LogitBias = [new(2_999, 9)], Seed = ulong.MaxValue },
        ];
        (List<string> Seen, List<float> Numbers)[] results = pair.Both(d =>
        {
            using Bench bench = new(pair, d);
            for (int s = 0; s < Slots; s++) d.OpenSlot(s, sampling[s], [1, 2, 3], []);
            for (int n = 0; n < 4; n++)
            {
                StepBatch batch = new(Rows, Slots);
                for (int s = 0; s < Slots; s++) batch.Add(Slice(s, 10 + n) with { Sample = true }, [n == 0 ? 3 : StepBatch.LastSampled]);
                ulong[] allowed = new ulong[(Vocabulary + 63) / 64];
                allowed[1] = allowed[^1] = ulong.MaxValue;
                batch.Allow(7, allowed);
                bench.Start(batch, 90 + n);
                bench.Collect();
            }
            return bench.Noted;
        });
        AssertSame(results);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Guesses_count_until_one_is_wrong_and_prompts_have_logprobs(string device)
    {
        using DevicePair pair = new(device);
        (List<string> Seen, List<float> Numbers)[] results = pair.Both(d =>
        {
            using Bench bench = new(pair, d);
            SamplingParams sampling = new() { Temperature = 0, RepetitionPenalty = 1.8f, FrequencyPenalty = 0.5f, MinTokens = 3, EndTokens = [7], Logprobs = 2 };
            d.OpenSlot(0, sampling, [1, 2], []);
            d.OpenSlot(1, sampling, [1, 2], []);
            d.OpenSlot(2, new SamplingParams { Temperature = 0 }, [1], []);
            int[] guesses = [1, 1, 1];
            // Each turn the last answer is guessed again, so that guesses come true one after the other.
            for (int turn = 0; turn < 4; turn++)
            {
                StepBatch batch = new(Rows, Slots);
                batch.Add(Slice(0, 5) with { Sample = true, Drafts = 3, DraftsWanted = 2 }, [9, .. guesses]);
                batch.Add(Slice(2, 0) with { PromptLogprobs = 5, NextPromptToken = 77 }, [.. Enumerable.Range(20, 36)]);
                batch.Add(Slice(1, 5) with { Sample = true, DraftsWanted = 1 }, [9]);
                ulong[] allowed = new ulong[(Vocabulary + 63) / 64];
                allowed[4] = 0xF0;
                batch.Allow(40, allowed);
                bench.Start(batch, 50);
                StepResult result = bench.Collect();
                int[] tokens = [.. result.Tokens(0)];
                for (int i = 0; i < tokens.Length && i < 3; i++) guesses[i] = tokens[i];
                d.OpenSlot(0, sampling, [1, 2], []);
            }
            return bench.Noted;
        });
        AssertSame(results);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void A_drafter_guesses_with_and_without_clusters(string device)
    {
        const int Clusters = 60, Used = 7;
        using DevicePair pair = new(device);
        TestWeight vectors = pair.Weight(TensorType.F32, Clusters, Hidden, 21);
        int[] ordering = [.. Enumerable.Range(0, Vocabulary).Select(static i => i * 7 % Vocabulary)];
        foreach (bool clustered in new[] { false, true })
        {
            (List<string> Seen, List<float> Numbers)[] results = pair.Both(d =>
            {
                using Bench bench = new(pair, d);
                using DeviceCentroids? centroids = clustered ? d.LoadCentroids(vectors.Source, ordering, Used) : null;
                for (int s = 0; s < 3; s++) d.OpenSlot(s, new SamplingParams { Temperature = s * 0.5f, Seed = 5, EndTokens = [1] }, [1], []);
                StepBatch batch = new(Rows, Slots);
                for (int s = 0; s < 3; s++) batch.Add(Slice(s, 4) with { Sample = true, DraftsWanted = s + 1 }, [2]);
                bench.Start(batch, 60);
                StepResult result = bench.Collect();
                StepBatch drafts = new(Slots, Slots);
                for (int s = 0; s < 3; s++) drafts.Add(Slice(s, 5) with { DraftsWanted = s + 1 }, [StepBatch.LastSampled]);
                d.BeginStep(drafts);
                for (int depth = 0; depth < 3; depth++)
                {
                    bench.X.Write(DevicePair.Random(3 * Hidden, 70 + depth, 2));
                    bool goesOn = d.Draft(bench.X, bench.Head, centroids, depth, [0, 1, 2], result, null);
                    bench.Seen.Add($"{depth}: {goesOn}");
                    if (!goesOn) break;
                }
                for (int s = 0; s < 3; s++) bench.Seen.Add(string.Join(' ', result.Drafts(s).ToArray()));
                return bench.Noted;
            });
            AssertSame(results);
        }
    }

    private static void AssertSame((List<string> Seen, List<float> Numbers)[] results)
    {
        Assert.Equal(results[0].Seen, results[1].Seen);
        Assert.Equal(results[0].Numbers.Count, results[1].Numbers.Count);
        for (int i = 0; i < results[0].Numbers.Count; i++) Assert.Equal(results[0].Numbers[i], results[1].Numbers[i], 1e-3f);
    }

    private static SequenceSlice Slice(int slot, int context) =>
        new() { Slot = slot, ContextLength = context, Blocks = new BlockTable(0), PromptLogprobs = -1, NextPromptToken = -1 };

    /// <summary>A head over random rows; notes everything that comes out.</summary>
    private sealed class Bench : IDisposable
    {
        private readonly IComputeDevice _device;
        private readonly DeviceVector _norm;
        private readonly DeviceTensor _hidden;
        private readonly StepResult _result = new(Slots, 4);
        private readonly List<float> _numbers = [];

        public Bench(DevicePair pair, IComputeDevice device)
        {
            _device = device;
            X = device.CreateTensor(Rows, Hidden);
            _hidden = device.CreateTensor(Slots, Hidden);
            Head = device.LoadMatrix(pair.Weight(TensorType.F32, Vocabulary, Hidden, 11).Source);
            _norm = device.LoadVector(pair.Weight(TensorType.F32, 1, Hidden, 12).Source, 4);
            device.Reserve(Rows, Slots, Vocabulary);
        }

        public DeviceTensor X { get; }

        public DeviceMatrix Head { get; }

        public List<string> Seen { get; } = [];

        public (List<string>, List<float>) Noted => (Seen, _numbers);

        public void Start(StepBatch batch, int seed)
        {
            _device.BeginStep(batch);
            X.Write(DevicePair.Random(batch.TokenCount * Hidden, seed, 2));
            int drafting = batch.Slices.ToArray().Count(static s => s.DraftsWanted > 0);
            _device.Sample(X, _norm, Head, 30f, null, drafting > 0 ? _hidden : null);
            if (drafting > 0) _numbers.AddRange(DevicePair.Rows(_hidden, drafting));
        }

        public StepResult Collect()
        {
            _device.Collect(_result);
            for (int s = 0; s < _result.SequenceCount; s++)
            {
                for (int i = 0; i < _result.Tokens(s).Length; i++)
                {
                    bool has = !float.IsNaN(_result.Logprob(s, i));
                    if (has) _numbers.Add(_result.Logprob(s, i));
                    Seen.Add($"{_result.Tokens(s)[i]} {has} {Tokens(_result.TopLogprobs(s, i))}");
                }
                if (_result.PromptLogprobs(s) is { } prompt)
                    foreach (TokenLogprob[] row in prompt) Seen.Add($"prompt {Tokens(row)}");
            }
            return _result;
        }

        public void Dispose()
        {
            X.Dispose();
            _hidden.Dispose();
            Head.Dispose();
            _norm.Dispose();
        }

        private string Tokens(TokenLogprob[]? tokens)
        {
            if (tokens is null) return "none";
            _numbers.AddRange(tokens.Select(static t => t.Logprob));
            return string.Join(' ', tokens.Select(static t => t.Token));
        }
    }
}
