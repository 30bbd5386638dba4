using GemmaServer.Compute;
using GemmaServer.Engine;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>Guesses, right or wrong, change no token, no logprob and no probability.</summary>
public class SpeculationTests(ITestOutputHelper output)
{
    public static IEnumerable<object[]> Models() => ServingHarness.Models();

    [Theory]
    [MemberData(nameof(Models))]
    public async Task Answers_with_guesses_are_those_without(string name, string type)
    {
        string path = GoldenModel.Open(name, type).Path;
        using ServingHarness plain = new(path);
        plain.Engine.Start();
        (int[] Prompt, SamplingParams Sampling)[] requests = [.. Enumerable.Range(0, 14).Select(i => (plain.Prompt(3 + 9 * i, i), Sampling(i)))];
        TokenEvent[][] expected = new TokenEvent[requests.Length][];
        for (int i = 0; i < requests.Length; i++) expected[i] = await EventsAsync(plain.Submit(requests[i].Prompt, requests[i].Sampling, 80));

        // All at once, so that the rows of one sequence's guesses are spread over two portions of logits.
        int[] Answer(int[] prompt, ulong seed) =>
            [.. expected[Array.FindIndex(requests, r => r.Sampling.Seed == seed && r.Prompt.SequenceEqual(prompt))].Select(e => e.Token)];
        using ServingHarness guessing = new(path, wrap: runner => new GuessingRunner(runner, Answer, accuracy: 80));
        guessing.Engine.Start();
        Generation[] running = [.. requests.Select(r => guessing.Submit(r.Prompt, r.Sampling, 80))];
        for (int i = 0; i < running.Length; i++) AssertSame(expected[i], await EventsAsync(running[i]));

        EngineMetrics metrics = guessing.Engine.Metrics;
        output.WriteLine($"{name} {type}: {metrics.GeneratedTokens} tokens in {metrics.Steps} steps, {metrics.AcceptedDrafts} of {metrics.Drafts} guesses right");
        Assert.Empty(guessing.Errors);
        Assert.True(metrics.AcceptedDrafts > 200 && metrics.Drafts > metrics.AcceptedDrafts + 50);
        Assert.True(metrics.Steps < plain.Engine.Metrics.Steps / 2);
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

    private static void AssertSame(TokenEvent[] expected, TokenEvent[] actual)
    {
        Assert.Equal(expected.Select(e => (e.Token, e.Logprob, e.Finish)), actual.Select(e => (e.Token, e.Logprob, e.Finish)));
        for (int i = 0; i < expected.Length; i++) Assert.Equal(expected[i].TopLogprobs, actual[i].TopLogprobs);
    }

    private static async Task<TokenEvent[]> EventsAsync(Generation generation)
    {
        List<TokenEvent> events = [];
        while (await generation.WaitToReadAsync())
            while (generation.TryRead(out TokenEvent e)) events.Add(e);
        Assert.Equal(FinishReason.Length, events[^1].Finish);
        return [.. events];
    }
}
