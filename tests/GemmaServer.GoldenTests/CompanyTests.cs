using GemmaServer.Compute;
using GemmaServer.Engine;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>An answer is the same whoever else is served, and however often its pages are taken away.</summary>
public class CompanyTests(ITestOutputHelper output)
{
    public static IEnumerable<object[]> Models() => ServingHarness.Models();

    [Theory]
    [MemberData(nameof(Models))]
    public async Task Requests_short_of_pages_get_the_tokens_they_get_alone(string name, string type)
    {
        string path = GoldenModel.Open(name, type).Path;
        (int Length, SamplingParams Sampling)[] requests = [.. Enumerable.Range(0, 12).Select(i => (5 + 7 * i, Sampling(i)))];
        TokenEvent[][] alone = await AloneAsync(path, requests, 100);

        using ServingHarness tight = new(path, sparePages: 3);
        tight.Engine.Start();
        Generation[] running = [.. requests.Select((r, i) => tight.Submit(tight.Prompt(r.Length, i), r.Sampling, 100))];
        for (int i = 0; i < running.Length; i++) ServingHarness.AssertSame(alone[i], await ServingHarness.EventsAsync(running[i]));
        output.WriteLine($"{name} {type}: {tight.Engine.Metrics.TotalPages} pages, {tight.Engine.Metrics.Preemptions} preemptions");
        Assert.True(tight.Engine.Metrics.Preemptions > 0, "The pool was not tight.");
        Assert.Empty(tight.Errors);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public async Task A_request_gets_the_same_tokens_alone_and_among_thirty_one_others(string name, string type)
    {
        string path = GoldenModel.Open(name, type).Path;
        (int Length, SamplingParams Sampling)[] requests = [.. Enumerable.Range(0, 32).Select(i => (1 + 6 * i, Sampling(i)))];
        TokenEvent[][] alone = await AloneAsync(path, requests, 40);

        using ServingHarness busy = new(path, maxSequences: 32);
        busy.Engine.Start();
        Generation[] running = [.. requests.Select((r, i) => busy.Submit(busy.Prompt(r.Length, i), r.Sampling, 40))];
        for (int i = 0; i < running.Length; i++) ServingHarness.AssertSame(alone[i], await ServingHarness.EventsAsync(running[i]));
        Assert.Equal(0, busy.Engine.Metrics.Preemptions);

        // Not a sampler that ignores its settings: another seed, and the same one without penalties, say something else.
        int[] prompt = busy.Prompt(requests[2].Length, 2);
        int[] otherSeed = await EngineHarness.TokensAsync(busy.Submit(prompt, Sampling(2 + 4 * 1000), 40));
        int[] noPenalty = await EngineHarness.TokensAsync(busy.Submit(prompt, new SamplingParams { TopK = 64, TopP = 0.95f, Seed = 2 }, 40));
        Assert.NotEqual(alone[2].Select(e => e.Token), otherSeed);
        Assert.NotEqual(alone[2].Select(e => e.Token), noPenalty);
    }

    /// <summary>In turns: greedy with logprobs; temperature with top-k and top-p; the same with penalties; greedy with penalties.</summary>
    private static SamplingParams Sampling(int i) => (i % 4) switch
    {
        0 => new SamplingParams { Temperature = 0, Logprobs = 3 },
        1 => new SamplingParams { Temperature = 1, TopK = 64, TopP = 0.95f, Seed = (ulong)i },
        2 => new SamplingParams { Temperature = 1, TopK = 64, TopP = 0.95f, Seed = (ulong)i, FrequencyPenalty = 0.7f, PresencePenalty = 0.4f, RepetitionPenalty = 1.2f, Logprobs = 1 },
        _ => new SamplingParams { Temperature = 0, FrequencyPenalty = 0.7f, PresencePenalty = 0.4f, RepetitionPenalty = 1.2f },
    };

    private static async Task<TokenEvent[][]> AloneAsync(string path, (int Length, SamplingParams Sampling)[] requests, int tokens)
    {
        using ServingHarness quiet = new(path);
        quiet.Engine.Start();
        TokenEvent[][] answers = new TokenEvent[requests.Length][];
        for (int i = 0; i < requests.Length; i++)
        {
            answers[i] = await ServingHarness.EventsAsync(quiet.Submit(quiet.Prompt(requests[i].Length, i), requests[i].Sampling, tokens));
            Assert.Equal(tokens, answers[i].Length);
        }
        Assert.Equal(0, quiet.Engine.Metrics.Preemptions);
        return answers;
    }
}
