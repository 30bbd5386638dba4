using System.Text.Json;

namespace GemmaServer.Tests.Http;

/// <summary>Fields of other servers: token ids, token lists, times, predictions, guesses.</summary>
public sealed class ExtensionFieldTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private const string Path = "/v1/chat/completions";

    private TestHost Host => fixture.Host;

    [Fact]
    public async Task Token_ids_of_prompt_and_answer_are_told_whole_and_streamed()
    {
        string request = TestHost.Chat("think", "\"return_token_ids\":true,\"enable_thinking\":true");
        JsonElement answer = await Host.AskAsync(Path, request);
        int[] expected = [.. TestHost.Tokenizer.Encode(ScriptedHost.Scripts["think"], parseSpecial: true), TestHost.Tokenizer.Special.TurnEnd];
        Assert.Equal(expected, Ids(answer.GetProperty("choices")[0], "token_ids"));
        Assert.Equal(Host.Runner.LastPrompt, TestHost.Tokenizer.Decode(Ids(answer, "prompt_token_ids"), skipSpecial: false));

        List<JsonElement> chunks = [.. (await Host.StreamAsync(Path, request[..^1] + ",\"stream\":true}"))[..^1].Select(TestHost.Json)];
        Assert.Equal(expected, chunks.SelectMany(static c => Ids(c.GetProperty("choices")[0], "token_ids")));
        Assert.Equal(Ids(answer, "prompt_token_ids"), Ids(chunks[0], "prompt_token_ids"));
        Assert.All(chunks[1..], static c => Assert.False(c.TryGetProperty("prompt_token_ids", out _)));

        JsonElement text = await Host.AskAsync("/v1/completions", """{"prompt":["hello","nothing"],"return_token_ids":true,"max_tokens":40}""");
        Assert.Equal([.. TestHost.Tokenizer.Encode(ScriptedHost.Scripts["hello"], parseSpecial: true), TestHost.Tokenizer.Special.TurnEnd], Ids(text.GetProperty("choices")[0], "token_ids"));
        Assert.Equal([TestHost.Tokenizer.Special.Bos, .. TestHost.Tokenizer.Encode("nothing", parseSpecial: true)], Ids(text.GetProperty("choices")[1], "prompt_token_ids"));
        Assert.False((await Host.AskAsync(Path, TestHost.Chat("hello"))).TryGetProperty("prompt_token_ids", out _));
    }

    [Fact]
    public async Task Logprobs_may_name_tokens_by_id()
    {
        JsonElement answer = await Host.AskAsync(Path, TestHost.Chat("hello", "\"logprobs\":true,\"top_logprobs\":1,\"return_tokens_as_token_ids\":true"));
        JsonElement first = answer.GetProperty("choices")[0].GetProperty("logprobs").GetProperty("content")[0];
        Assert.Equal($"token_id:{TestHost.Tokenizer.Encode("Hello!", parseSpecial: false)[0]}", first.GetProperty("token").GetString());
        Assert.StartsWith("token_id:", first.GetProperty("top_logprobs")[0].GetProperty("token").GetString());
    }

    [Fact]
    public async Task Bad_words_do_not_come_and_listed_tokens_alone_do()
    {
        string hello = Content(await Host.AskAsync(Path, TestHost.Chat("hello", "\"bad_words\":[\"test\",\"am\"]")));
        Assert.StartsWith("Hello! I ", hello);
        Assert.DoesNotContain("test", hello);
        Assert.DoesNotContain(" am", hello);
        int[] tokens = [.. TestHost.Tokenizer.Encode("Hello!", parseSpecial: false), TestHost.Tokenizer.Special.TurnEnd];
        JsonElement answer = await Host.AskAsync(Path, TestHost.Chat("hello", $"\"allowed_token_ids\":[{string.Join(',', tokens)}],\"return_token_ids\":true,\"max_tokens\":30"));
        Assert.All(Ids(answer.GetProperty("choices")[0], "token_ids"), t => Assert.Contains(t, tokens));
        Assert.StartsWith("Hello!", Content(answer));
    }

    [Fact]
    public async Task Times_are_told_to_those_who_ask()
    {
        JsonElement answer = await Host.AskAsync(Path, TestHost.Chat("hello", "\"metrics\":true,\"timings\":true,\"cache_salt\":\"times\""));
        JsonElement timings = answer.GetProperty("timings");
        Assert.Equal(answer.GetProperty("usage").GetProperty("prompt_tokens").GetInt32(), timings.GetProperty("prompt_n").GetInt32());
        Assert.Equal(answer.GetProperty("usage").GetProperty("completion_tokens").GetInt32(), timings.GetProperty("predicted_n").GetInt32());
        Assert.True(answer.GetProperty("metrics").GetProperty("time_to_first_token_ms").GetDouble() >= answer.GetProperty("metrics").GetProperty("queue_time_ms").GetDouble());
        List<string> lines = await Host.StreamAsync(Path, TestHost.Chat("hello", "\"metrics\":true,\"stream\":true"));
        JsonElement last = TestHost.Json(lines[^2]);
        Assert.Equal(0, last.GetProperty("choices").GetArrayLength());
        Assert.True(last.TryGetProperty("metrics", out _) && !last.TryGetProperty("usage", out _) && !last.TryGetProperty("timings", out _));
        Assert.False((await Host.AskAsync(Path, TestHost.Chat("hello"))).TryGetProperty("timings", out _));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_right_prediction_saves_steps_and_is_counted(bool asParts)
    {
        string text = JsonSerializer.Serialize(ScriptedHost.Scripts["long"]);
        string content = asParts ? $"[{{\"type\":\"text\",\"text\":{text}}}]" : text;
        int before = Host.Runner.Steps;
        JsonElement plain = await Host.AskAsync(Path, TestHost.Chat("long"));
        int steps = Host.Runner.Steps - before;
        before = Host.Runner.Steps;
        JsonElement predicted = await Host.AskAsync(Path, TestHost.Chat("long", $"\"prediction\":{{\"type\":\"content\",\"content\":{content}}}"));
        Assert.True(Host.Runner.Steps - before < steps / 3, $"{Host.Runner.Steps - before} steps instead of {steps}");
        Assert.Equal(Content(plain), Content(predicted));
        JsonElement details = predicted.GetProperty("usage").GetProperty("completion_tokens_details");
        Assert.InRange(details.GetProperty("accepted_prediction_tokens").GetInt32(), 40, predicted.GetProperty("usage").GetProperty("completion_tokens").GetInt32() - 1);
        Assert.InRange(details.GetProperty("rejected_prediction_tokens").GetInt32(), 0, 16);
        Assert.Equal(0, plain.GetProperty("usage").GetProperty("completion_tokens_details").GetProperty("accepted_prediction_tokens").GetInt32());

        before = Host.Runner.Steps;
        await Host.AskAsync(Path, TestHost.Chat("long", $"\"speculative\":false,\"prediction\":{{\"type\":\"content\",\"content\":{content}}}"));
        Assert.InRange(Host.Runner.Steps - before, steps - 1, steps + 1);
    }

    [Fact]
    public async Task Long_prompts_are_cut_at_the_front_where_that_is_wanted()
    {
        JsonElement answer = await Host.AskAsync("/v1/completions", """{"prompt":"one two three hello","truncate_prompt_tokens":3,"return_token_ids":true,"max_tokens":2}""");
        int[] all = TestHost.Tokenizer.Encode("one two three hello", parseSpecial: true);
        Assert.Equal(all[^3..], Ids(answer.GetProperty("choices")[0], "prompt_token_ids"));
        Assert.Equal(3, answer.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
    }

    [Fact]
    public async Task Special_tokens_show_in_text_completions_only_where_wanted_and_never_in_a_chat()
    {
        string shown = (await Host.AskAsync("/v1/completions", """{"prompt":"think","skip_special_tokens":false,"max_tokens":60}""")).GetProperty("choices")[0].GetProperty("text").GetString()!;
        Assert.StartsWith("<|channel>thought\nTwo", shown);
        string hidden = (await Host.AskAsync("/v1/completions", """{"prompt":"think","max_tokens":60}""")).GetProperty("choices")[0].GetProperty("text").GetString()!;
        Assert.StartsWith("thought\nTwo", hidden);
        Assert.Equal("The answer is 4.", Content(await Host.AskAsync(Path, TestHost.Chat("think", "\"skip_special_tokens\":false"))));
    }

    private static string Content(JsonElement answer) => answer.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString()!;

    private static int[] Ids(JsonElement owner, string name) => [.. owner.GetProperty(name).EnumerateArray().Select(static t => t.GetInt32())];
}
