using System.Text.Json;

namespace GemmaServer.Tests.Http;

public sealed class CompletionTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private const string Path = "/v1/completions";

    private TestHost Host => fixture.Host;

    [Fact]
    public async Task Text_gives_text_with_16_tokens_at_most()
    {
        JsonElement answer = await Host.AskAsync(Path, """{"prompt":"hello","max_tokens":100}""");
        Assert.Equal("text_completion", answer.GetProperty("object").GetString());
        Assert.Equal("""{"index":0,"text":"Hello! I am a test.","logprobs":null,"finish_reason":"stop","stop_reason":null}""", answer.GetProperty("choices")[0].GetRawText());
        answer = await Host.AskAsync(Path, """{"prompt":"long"}""");
        Assert.Equal(16, answer.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        Assert.Equal("length", answer.GetProperty("choices")[0].GetProperty("finish_reason").GetString());
    }

    [Fact]
    public async Task Prompts_of_all_four_forms_give_choices_in_order()
    {
        int[] ids = TestHost.Tokenizer.Encode("hello", parseSpecial: false);
        string tokens = string.Join(',', ids);
        JsonElement one = await Host.AskAsync(Path, $"{{\"prompt\":[{tokens}],\"max_tokens\":100}}");
        Assert.Equal(ids.Length, one.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
        foreach (string prompt in (string[])["[\"hello\",\"stop me\"]", $"[[{tokens}],\"stop me\"]"])
        {
            JsonElement answer = await Host.AskAsync(Path, $"{{\"prompt\":{prompt},\"n\":2,\"max_tokens\":100}}");
            Assert.Equal(["0 Hello! I am a test.", "1 Hello! I am a test.", "2 one two STOP three", "3 one two STOP three"],
                answer.GetProperty("choices").EnumerateArray().Select(static c => $"{c.GetProperty("index").GetInt32()} {c.GetProperty("text").GetString()}"));
        }
    }

    [Fact]
    public async Task Control_tokens_in_a_raw_prompt_are_control_tokens_and_one_bos_goes_before_it()
    {
        JsonElement answer = await Host.AskAsync(Path, """{"prompt":"<|turn>user\nhello<turn|>\n<|turn>model\n","max_tokens":100}""");
        Assert.Equal("Hello! I am a test.", answer.GetProperty("choices")[0].GetProperty("text").GetString());
        Assert.StartsWith("<bos><|turn>user\nhello<turn|>", Host.Runner.LastPrompt);
        await Host.AskAsync(Path, """{"prompt":"<bos>hello"}""");
        Assert.Equal("<bos>hello", Host.Runner.LastPrompt);
        await Host.AskAsync(Path, """{"prompt":"hello","add_special_tokens":false}""");
        Assert.Equal("hello", Host.Runner.LastPrompt);
    }

    [Fact]
    public async Task Echo_with_logprobs_and_no_new_tokens_scores_the_prompt()
    {
        JsonElement choice = (await Host.AskAsync(Path, """{"prompt":"score me","max_tokens":0,"echo":true,"logprobs":2}""")).GetProperty("choices")[0];
        Assert.Equal("score me", choice.GetProperty("text").GetString());
        Assert.Equal("length", choice.GetProperty("finish_reason").GetString());
        JsonElement logprobs = choice.GetProperty("logprobs");
        int[] ids = [TestHost.Tokenizer.Special.Bos, .. TestHost.Tokenizer.Encode("score me", parseSpecial: false)];
        Assert.Equal(ids.Length, logprobs.GetProperty("tokens").GetArrayLength());
        Assert.Equal(JsonValueKind.Null, logprobs.GetProperty("token_logprobs")[0].ValueKind);
        Assert.Equal(JsonValueKind.Null, logprobs.GetProperty("top_logprobs")[0].ValueKind);
        int offset = 0;
        for (int i = 0; i < ids.Length; i++)
        {
            Assert.Equal(offset, logprobs.GetProperty("text_offset")[i].GetInt32());
            if (i == 0) continue;
            offset += logprobs.GetProperty("tokens")[i].GetString()!.Length;
            Assert.Equal(ScriptedRunner.LogprobOf(ids[i]), logprobs.GetProperty("token_logprobs")[i].GetSingle());
            Assert.InRange(logprobs.GetProperty("top_logprobs")[i].EnumerateObject().Count(), 1, 3);
        }
        Assert.Equal("score me".Length, offset);
    }

    [Fact]
    public async Task Tokens_can_be_named_by_id()
    {
        JsonElement logprobs = (await Host.AskAsync(Path, """{"prompt":"hello","logprobs":0,"return_tokens_as_token_ids":true,"max_tokens":100}""")).GetProperty("choices")[0].GetProperty("logprobs");
        int[] expected = [.. TestHost.Tokenizer.Encode("Hello! I am a test.", parseSpecial: false), TestHost.Tokenizer.Special.TurnEnd];
        Assert.Equal(expected.Select(static id => $"token_id:{id}"), logprobs.GetProperty("tokens").EnumerateArray().Select(static t => t.GetString()));
    }

    [Fact]
    public async Task A_stream_joined_is_the_whole_answer_and_ends_with_the_usage()
    {
        const string request = """{"prompt":["unicode","stop me"],"echo":true,"logprobs":1,"max_tokens":100,"stop":"STOP"}""";
        JsonElement whole = await Host.AskAsync(Path, request);
        List<string> lines = await Host.StreamAsync(Path, request[..^1] + ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
        Assert.Equal("[DONE]", lines[^1]);
        JsonElement last = TestHost.Json(lines[^2]);
        Assert.Equal(0, last.GetProperty("choices").GetArrayLength());
        Assert.Equal(whole.GetProperty("usage").GetProperty("prompt_tokens").GetInt32(), last.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
        List<JsonElement> choices = [.. lines[..^2].Select(static l => TestHost.Json(l).GetProperty("choices")[0])];
        for (int i = 0; i < 2; i++)
        {
            JsonElement expected = whole.GetProperty("choices")[i];
            List<JsonElement> own = [.. choices.Where(c => c.GetProperty("index").GetInt32() == i)];
            Assert.Equal(expected.GetProperty("text").GetString(), string.Concat(own.Select(static c => c.GetProperty("text").GetString())));
            Assert.Equal(expected.GetProperty("finish_reason").GetString(), own[^1].GetProperty("finish_reason").GetString());
            foreach (string list in (string[])["tokens", "token_logprobs", "text_offset"])
            {
                Assert.Equal(expected.GetProperty("logprobs").GetProperty(list).EnumerateArray().Select(static t => t.GetRawText()),
                    own.SelectMany(c => c.GetProperty("logprobs").GetProperty(list).EnumerateArray()).Select(static t => t.GetRawText()));
            }
        }
    }

    [Fact]
    public async Task Special_tokens_can_be_kept_in_the_text()
    {
        JsonElement choice = (await Host.AskAsync(Path, """{"prompt":"think","skip_special_tokens":false,"max_tokens":200}""")).GetProperty("choices")[0];
        Assert.Equal(ScriptedHost.Scripts["think"] + "<turn|>", choice.GetProperty("text").GetString());
    }
}
