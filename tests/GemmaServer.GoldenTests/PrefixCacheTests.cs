using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.GoldenTests;

/// <summary>What comes from the prefix cache is what would have been computed, bit for bit.</summary>
public class PrefixCacheTests
{
    public static IEnumerable<object[]> Models() => ServingHarness.Models();

    public static IEnumerable<object[]> ModelsOnDevices() => ServingHarness.OnDevices();

    [Theory]
    [MemberData(nameof(ModelsOnDevices))]
    public void The_same_request_again_uses_the_cache_and_changes_no_bit(string device, string name, string type)
    {
        using ServingHarness serving = new(GoldenModel.Open(name, type).Path, maxLength: 512, device: device);
        int block = Block(serving);
        int[] prompt = serving.Prompt(300, 1);
        Answer first = Ask(serving, prompt);
        Assert.Equal(0, first.Cached);
        Answer again = Ask(serving, prompt);
        Assert.Equal(299 / block * block, again.Cached);
        Assert.True(again.Cached > 0);
        AssertSame(first, again);
        Assert.Equal(0, Ask(serving, prompt, "salt").Cached);
        AssertSame(first, Ask(serving, prompt, "salt"));
        Assert.Empty(serving.Errors);
        serving.Engine.CheckIntegrity();
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void A_conversation_that_reuses_its_history_says_what_a_fresh_engine_says(string name, string type)
    {
        string path = GoldenModel.Open(name, type).Path;
        using ServingHarness serving = new(path, maxLength: 512);
        int block = Block(serving);
        int[] history = serving.Prompt(75, 2);
        int computed = 0;
        for (int turn = 0; turn < 5; turn++)
        {
            Answer answer = Ask(serving, history);
            Assert.Equal(computed / block * block, answer.Cached);
            Assert.True(turn == 0 || answer.Cached > 0);
            using ServingHarness fresh = new(path, maxLength: 512);
            Answer expected = Ask(fresh, history);
            Assert.Equal(0, expected.Cached);
            AssertSame(expected, answer);
            computed = history.Length + answer.Events.Count;
            history = [.. history, .. answer.Events.Select(e => e.Token), .. serving.Prompt(13, 100 + turn)];
        }
        Assert.Empty(serving.Errors);
        serving.Engine.CheckIntegrity();
    }

    private static int Block(ServingHarness serving)
    {
        long block = 1;
        foreach (int tokens in serving.TokensPerPage)
        {
            long multiple = block;
            while (multiple % tokens != 0) multiple += block;
            block = multiple;
        }
        return (int)block;
    }

    private static Answer Ask(ServingHarness serving, int[] prompt, string? salt = null)
    {
        GenerationRequest request = new()
        {
            Id = "prefix", Prompt = prompt, MaxTokens = 40, CacheSalt = salt,
            Sampling = new SamplingParams { Temperature = 1, TopK = 64, TopP = 0.95f, Seed = 7, Logprobs = 5, PresencePenalty = 0.3f },
        };
        Assert.Equal(SubmitResult.Accepted, serving.Engine.TrySubmit(request, out Generation? generation));
        while (serving.Engine.Step())
        {
        }
        List<TokenEvent> events = [];
        while (generation!.TryRead(out TokenEvent e)) events.Add(e);
        Assert.Equal(FinishReason.Length, events[^1].Finish);
        return new(generation.CachedTokens, events);
    }

    private static void AssertSame(Answer expected, Answer actual)
    {
        Assert.Equal(40, actual.Events.Count);
        for (int i = 0; i < 40; i++)
        {
            Assert.Equal(expected.Events[i].Token, actual.Events[i].Token);
            Assert.Equal(BitConverter.SingleToInt32Bits(expected.Events[i].Logprob), BitConverter.SingleToInt32Bits(actual.Events[i].Logprob));
            Assert.Equal(expected.Events[i].TopLogprobs!, actual.Events[i].TopLogprobs!);
        }
    }

    private sealed record Answer(int Cached, List<TokenEvent> Events);
}
