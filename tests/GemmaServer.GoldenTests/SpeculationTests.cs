using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Tests;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>Guesses, right or wrong, change no token, no logprob and no probability.</summary>
public class SpeculationTests(ITestOutputHelper output)
{
    public static IEnumerable<object[]> Models() => ServingHarness.Models();

    private static string Target => GoldenModel.Open("tiny-e", (string)GoldenModel.All().First(m => (string)m[0] == "tiny-e")[1]).Path;

    private static string Drafter => GoldenData.At("tiny-e-assistant", "tiny-e-assistant-Q8_0.gguf");

    [Theory]
    [MemberData(nameof(Models))]
    public async Task Answers_with_guesses_are_those_without(string name, string type)
    {
        string path = GoldenModel.Open(name, type).Path;
        using ServingHarness plain = new(path);
        plain.Engine.Start();
        (int[] Prompt, SamplingParams Sampling)[] requests = [.. Enumerable.Range(0, 14).Select(i => (plain.Prompt(3 + 9 * i, i), Sampling(i)))];
        TokenEvent[][] expected = new TokenEvent[requests.Length][];
        for (int i = 0; i < requests.Length; i++) expected[i] = await ServingHarness.EventsAsync(plain.Submit(requests[i].Prompt, requests[i].Sampling, 80));

        // All at once, so that the rows of one sequence's guesses are spread over two portions of logits.
        int[] Answer(int[] prompt, ulong seed) =>
            [.. expected[Array.FindIndex(requests, r => r.Sampling.Seed == seed && r.Prompt.SequenceEqual(prompt))].Select(e => e.Token)];
        using ServingHarness guessing = new(path, wrap: runner => new GuessingRunner(runner, Answer, accuracy: 80));
        guessing.Engine.Start();
        Generation[] running = [.. requests.Select(r => guessing.Submit(r.Prompt, r.Sampling, 80))];
        for (int i = 0; i < running.Length; i++) ServingHarness.AssertSame(expected[i], await ServingHarness.EventsAsync(running[i]));

        EngineMetrics metrics = guessing.Engine.Metrics;
        output.WriteLine($"{name} {type}: {metrics.GeneratedTokens} tokens in {metrics.Steps} steps, {metrics.AcceptedDrafts} of {metrics.Drafts} guesses right");
        Assert.Empty(guessing.Errors);
        Assert.True(metrics.AcceptedDrafts > 200 && metrics.Drafts > metrics.AcceptedDrafts + 50);
        Assert.True(metrics.Steps < plain.Engine.Metrics.Steps / 2);
    }

    public static IEnumerable<object[]> DraftCosts() => GoldenDevices.With([[0.2], [0.0]], [[0.0]], slow: false, simulated: false);

    /// <summary>Four guesses a step whatever becomes of them at cost 0; drafted over pages that are shared, taken away and given back.</summary>
    [Theory]
    [MemberData(nameof(DraftCosts))]
    public async Task Answers_with_an_mtp_drafter_are_those_without(string device, double draftCost)
    {
        using ServingHarness plain = new(Target, device: device);
        plain.Engine.Start();
        // Steps of what computes a GPU's kernels are few and slow: all requests at once, and answers half as long.
        bool isCpu = device == GoldenDevices.Cpu;
        int tokens = isCpu ? 80 : 40;
        (int[] Prompt, SamplingParams Sampling)[] requests = [.. Enumerable.Range(0, 14).Select(i => (plain.Prompt(3 + 9 * i, i), Sampling(i)))];
        TokenEvent[][] expected = new TokenEvent[requests.Length][];
        Generation[] first = isCpu ? [] : [.. requests.Select(r => plain.Submit(r.Prompt, r.Sampling, tokens))];
        for (int i = 0; i < requests.Length; i++)
            expected[i] = await ServingHarness.EventsAsync(isCpu ? plain.Submit(requests[i].Prompt, requests[i].Sampling, tokens) : first[i]);

        using ServingHarness drafting = new(Target, sparePages: 40, drafter: Drafter, draftCost: draftCost, device: device);
        drafting.Engine.Start();
        Generation[] running = [.. requests.Select(r => drafting.Submit(r.Prompt, r.Sampling, tokens))];
        for (int i = 0; i < running.Length; i++) ServingHarness.AssertSame(expected[i], await ServingHarness.EventsAsync(running[i]));
        for (int again = 0; again < (isCpu ? 2 : 1); again++)     // the second time over pages of the first
            for (int i = 11; i < 14; i++) ServingHarness.AssertSame(expected[i], await ServingHarness.EventsAsync(drafting.Submit(requests[i].Prompt, requests[i].Sampling, tokens)));
        EngineMetrics metrics = drafting.Engine.Metrics;
        output.WriteLine(
            $"{metrics.GeneratedTokens} tokens, {metrics.AcceptedDrafts} of {metrics.Drafts} guesses right in {metrics.Rows} rows, {metrics.Preemptions} preemptions, {metrics.PrefixCacheHits} cached");
        Assert.Empty(drafting.Errors);
        Assert.True(metrics.Preemptions > 0 && metrics.PrefixCacheHits > 0);
        // A drafter of random weights is hardly ever right.
        if (draftCost > 0) Assert.True(metrics.Drafts > 10 && metrics.Drafts < 0.03 * metrics.Rows);
        else Assert.True(metrics.Drafts > (isCpu ? 2500 : 1000) && metrics.AcceptedDrafts > 0);
    }

    [Fact]
    public async Task Repeating_text_takes_fewer_steps_than_tokens()
    {
        object[] model = Models().First();
        string path = GoldenModel.Open((string)model[0], (string)model[1]).Path;
        foreach (float temperature in (float[])[0, 1])
        {
            using ServingHarness plain = new(path, maxLength: 600);
            using ServingHarness lookup = new(path, maxLength: 600, promptLookup: 8);
            plain.Engine.Start();
            lookup.Engine.Start();
            // A model with six words repeats itself.
            SamplingParams sampling = new() { Temperature = temperature, Seed = 3, LogitBias = [.. Enumerable.Range(40, 6).Select(t => KeyValuePair.Create(t, 60f))] };
            int[] prompt = plain.Prompt(20, 1);
            int[] expected = await EngineHarness.TokensAsync(plain.Submit(prompt, sampling, 500));
            Assert.Equal(expected, await EngineHarness.TokensAsync(lookup.Submit(prompt, sampling, 500)));
            EngineMetrics metrics = lookup.Engine.Metrics;
            output.WriteLine($"temperature {temperature}: {metrics.Steps} steps for 500 tokens, {metrics.AcceptedDrafts} of {metrics.Drafts} guesses right");
            Assert.True(metrics.Steps < 400);
        }
    }

    /// <summary>
    /// Tokens sampled where a guess was verified, and those after a guess that was right, against the model's own probabilities:
    /// chi-square over 16,000 answers with fixed seeds, alpha 1e-4.
    /// </summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Guesses_do_not_change_the_distribution(bool byDrafter)
    {
        string path = Target;
        using ServingHarness plain = new(path);
        plain.Engine.Start();
        int[] prompt = plain.Prompt(40, 2);
        int[] greedy = await EngineHarness.TokensAsync(plain.Submit(prompt, new SamplingParams { Temperature = 0 }, 8));
        double[] second = await ProbabilitiesAsync(plain, [.. prompt, greedy[0]]);
        double[] third = await ProbabilitiesAsync(plain, [.. prompt, greedy[0], greedy[1]]);

        // Always the likeliest continuation is guessed, whatever was sampled; or what the drafter says, with the noise of the target.
        using ServingHarness guessing = byDrafter
            ? new(path, drafter: Drafter, draftCost: 0)
            : new(path, wrap: runner => new GuessingRunner(runner, (_, _) => greedy, accuracy: 100));
        guessing.Engine.Start();
        int[] seconds = new int[second.Length], thirds = new int[second.Length];
        for (int wave = 0; wave < 16; wave++)
        {
            Generation[] running = [.. Enumerable.Range(0, 1000).Select(i => guessing.Submit(prompt, new SamplingParams { Temperature = 1.5f, Seed = (ulong)(wave * 1000 + i) }, 4))];
            foreach (Generation generation in running)
            {
                int[] tokens = await EngineHarness.TokensAsync(generation);
                if (tokens[0] != greedy[0]) continue;
                seconds[tokens[1]]++;
                if (tokens[1] == greedy[1]) thirds[tokens[2]]++;
            }
        }
        EngineMetrics metrics = guessing.Engine.Metrics;
        output.WriteLine($"{seconds.Sum()} and {thirds.Sum()} samples, {metrics.AcceptedDrafts} of {metrics.Drafts} guesses right");
        Assert.True(thirds.Sum() > 500 && metrics.AcceptedDrafts > (byDrafter ? 50 : 500) && metrics.Drafts > metrics.AcceptedDrafts + 500);
        AssertFollows(second, seconds);
        AssertFollows(third, thirds);

        // The test sees a sampler that, after a wrong guess, gives the guess a second chance.
        double p = second[greedy[1]];
        double[] twice = [.. second.Select((q, token) => token == greedy[1] ? p + (1 - p) * p : (1 - p) * q)];
        Assert.True(ChiSquare(twice, seconds).Value > ChiSquare(twice, seconds).Limit);
    }

    [Fact]
    public async Task Text_that_cannot_be_predicted_costs_few_rows()
    {
        object[] model = Models().First();
        using ServingHarness lookup = new(GoldenModel.Open((string)model[0], (string)model[1]).Path, promptLookup: 8);
        lookup.Engine.Start();
        // Hot enough that nothing repeats but by chance.
        Generation[] running = [.. Enumerable.Range(0, 16).Select(i => lookup.Submit(lookup.Prompt(30, i), new SamplingParams { Temperature = 2, Seed = (ulong)i }, 200))];
        foreach (Generation generation in running) await EngineHarness.TokensAsync(generation);
        EngineMetrics metrics = lookup.Engine.Metrics;
        output.WriteLine($"{metrics.Drafts} guesses verified ({metrics.AcceptedDrafts} right) in {metrics.Rows} rows");
        Assert.True(metrics.Drafts < 0.03 * metrics.Rows);
    }

    /// <summary>At the temperature of the test above.</summary>
    private static async Task<double[]> ProbabilitiesAsync(ServingHarness serving, int[] prompt)
    {
        TokenEvent[] events = await ServingHarness.EventsAsync(serving.Submit(prompt, new SamplingParams { Temperature = 0, Logprobs = serving.Vocabulary }, 1));
        double[] weights = new double[serving.Vocabulary];
        foreach (TokenLogprob t in events[0].TopLogprobs!) weights[t.Token] = Math.Exp(t.Logprob / 1.5);
        double sum = weights.Sum();
        return [.. weights.Select(w => w / sum)];
    }

    private void AssertFollows(double[] expected, int[] seen)
    {
        (double value, double limit) = ChiSquare(expected, seen);
        output.WriteLine($"chi-square {value:0.0}, limit {limit:0.0}");
        Assert.True(value < limit, $"chi-square {value}, limit {limit}");
    }

    /// <summary>Cells that expect fewer than five are one cell. The limit is that of alpha = 1e-4, by Wilson and Hilferty.</summary>
    private static (double Value, double Limit) ChiSquare(double[] expected, int[] seen)
    {
        int samples = seen.Sum(), cells = 0;
        double value = 0, restExpected = 0, restSeen = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            double e = expected[i] * samples;
            if (e < 5) (restExpected, restSeen) = (restExpected + e, restSeen + seen[i]);
            else (value, cells) = (value + (seen[i] - e) * (seen[i] - e) / e, cells + 1);
        }
        if (restExpected > 0) (value, cells) = (value + (restSeen - restExpected) * (restSeen - restExpected) / restExpected, cells + 1);
        double k = cells - 1, z = 3.719;
        return (value, k * Math.Pow(1 - 2 / (9 * k) + z * Math.Sqrt(2 / (9 * k)), 3));
    }

    private static SamplingParams Sampling(int i)
    {
        ulong seed = (ulong)i + 100;
        return (i % 7) switch
        {
            0 => new() { Temperature = 0, Seed = seed },
            1 => new() { Seed = seed },
            2 => new() { TopK = 64, TopP = 0.95f, Seed = seed },
            3 => new() { TopK = 64, Seed = seed, FrequencyPenalty = 0.7f, PresencePenalty = 0.4f, RepetitionPenalty = 1.2f },
            4 => new() { Temperature = 0, Seed = seed, Logprobs = 3, FrequencyPenalty = 0.5f },
            5 => new() { Seed = seed, Logprobs = 0 },
            _ => new() { TopP = 0.9f, Seed = seed, MinTokens = 40, EndTokens = [.. Enumerable.Range(0, 100)] },
        };
    }
}
