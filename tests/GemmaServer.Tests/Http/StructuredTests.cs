using System.Net;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests.Http;

/// <summary>A host whose scripts do not care for the formats that requests ask for: the masks alone make answers right.</summary>
public sealed class StructuredHost : IAsyncLifetime
{
    internal TestHost Host { get; private set; } = null!;

    public async Task InitializeAsync() => Host = await TestHost.StartAsync(script: static runner =>
    {
        runner.Answers["json"] = "{\"name\": \"Ada\", \"age\": 36}";
        runner.Answers["think json"] = "<|channel>thought\nA name and an age.<channel|>{\"name\": \"Ada\", \"age\": 36}";
        runner.Answers["prose"] = "Sure! Here is your JSON.";
        runner.Answers["think prose"] = "<|channel>thought\nI will think about it for a while.<channel|>Sure! Here it is.";
        runner.Answers["weather"] = "<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>,days:2}<tool_call|><|tool_response>";
        runner.Answers["two"] = "<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>,days:2}<tool_call|><|tool_call>call:other{x:1}<tool_call|><|tool_response>";
    });

    public async Task DisposeAsync() => await Host.DisposeAsync();
}

public sealed class StructuredTests(StructuredHost fixture) : IClassFixture<StructuredHost>
{
    private const string Path = "/v1/chat/completions";
    private const string Person = """{"type":"object","properties":{"name":{"type":"string","maxLength":10},"age":{"type":"integer"}},"required":["name","age"],"additionalProperties":false}""";
    private const string Format = "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"person\",\"strict\":true,\"schema\":" + Person + "}}";
    private const string Thinking = "\"reasoning_effort\":\"max\"";
    private const string Weather = """{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string","maxLength":20},"days":{"type":"integer"}},"required":["city","days"],"additionalProperties":false}}}""";
    private const string Other = """{"type":"function","function":{"name":"other","parameters":{"type":"object","properties":{"x":{"type":"integer"}}}}}""";
    private const string Tools = "\"tools\":[" + Weather + "," + Other + "]";

    private TestHost Host => fixture.Host;

    public static TheoryData<string> JsonFormats =>
    [
        Format,
        "\"response_format\":{\"type\":\"json_object\"}",
        "\"response_format\":{\"type\":\"json_object\",\"schema\":" + Person + "}",
        "\"structured_outputs\":{\"json\":" + Person + "}",
        "\"structured_outputs\":{\"json\":" + JsonSerializer.Serialize(Person) + "}",
        "\"structured_outputs\":{\"json_object\":true}",
        "\"guided_json\":" + Person,
        "\"guided_json\":" + JsonSerializer.Serialize(Person),
        "\"json_schema\":" + Person,
    ];

    [Theory]
    [MemberData(nameof(JsonFormats))]
    public async Task Json_is_what_comes_whatever_the_model_would_say(string format)
    {
        foreach (string user in (string[])["json", "prose", "think prose"])
        {
            JsonElement choice = Choice(await Host.AskAsync(Path, TestHost.Chat(user, format)));
            JsonElement value = TestHost.Json(choice.GetProperty("message").GetProperty("content").GetString()!);
            Assert.Equal(JsonValueKind.Object, value.ValueKind);
            if (format.Contains("age")) Assert.Equal(["name", "age"], value.EnumerateObject().Select(static m => m.Name));
            if (user == "json") Assert.Equal("{\"name\": \"Ada\", \"age\": 36}", choice.GetProperty("message").GetProperty("content").GetString());
            Assert.Equal("stop", choice.GetProperty("finish_reason").GetString());
            Assert.False(choice.GetProperty("message").TryGetProperty("reasoning_content", out _));
        }
    }

    [Theory]
    [InlineData("think json")]
    [InlineData("think prose")]
    [InlineData("json")]
    public async Task A_thought_may_come_first_and_is_free(string user)
    {
        string request = TestHost.Chat(user, Format + "," + Thinking);
        JsonElement message = Choice(await Host.AskAsync(Path, request)).GetProperty("message");
        Assert.Equal(["name", "age"], TestHost.Json(message.GetProperty("content").GetString()!).EnumerateObject().Select(static m => m.Name));
        string thought = message.TryGetProperty("reasoning_content", out JsonElement text) ? text.GetString()! : "";
        Assert.Equal(user switch { "think json" => "A name and an age.", "think prose" => "I will think about it for a while.", _ => "" }, thought);
        ChatTests.Joined joined = ChatTests.Joined.Of(await Host.StreamAsync(Path, request[..^1] + ",\"stream\":true}"));
        Assert.Equal((message.GetProperty("content").GetString(), thought), (joined.Content.ToString(), joined.Reasoning.ToString()));
    }

    [Fact]
    public async Task Every_choice_has_its_own_place_in_the_grammar()
    {
        JsonElement answer = await Host.AskAsync(Path, TestHost.Chat("prose", Format + ",\"n\":4,\"logprobs\":true,\"top_logprobs\":2"));
        Assert.Equal(4, answer.GetProperty("choices").GetArrayLength());
        foreach (JsonElement choice in answer.GetProperty("choices").EnumerateArray())
        {
            Assert.Equal(2, TestHost.Json(choice.GetProperty("message").GetProperty("content").GetString()!).GetPropertyCount());
            Assert.NotEqual(0, choice.GetProperty("logprobs").GetProperty("content").GetArrayLength());
        }
    }

    [Theory]
    [InlineData("\"ignore_eos\":true")]
    [InlineData("\"min_tokens\":50")]
    [InlineData("\"logit_bias\":{\"106\":-100,\"1\":-100}")]
    public async Task A_complete_answer_ends_whatever_else_was_asked_for(string more)
    {
        JsonElement choice = Choice(await Host.AskAsync(Path, TestHost.Chat("json", Format + ",\"max_tokens\":60," + more)));
        Assert.Equal("stop", choice.GetProperty("finish_reason").GetString());
        Assert.Equal(2, TestHost.Json(choice.GetProperty("message").GetProperty("content").GetString()!).GetPropertyCount());
    }

    [Fact]
    public async Task Choices_are_exactly_one_of_them_on_both_endpoints()
    {
        const string choice = "\"structured_outputs\":{\"choice\":[\"yes\",\"no way\"]}";
        Assert.Contains(Choice(await Host.AskAsync(Path, TestHost.Chat("prose", choice))).GetProperty("message").GetProperty("content").GetString(), (string[])["yes", "no way"]);
        JsonElement text = Choice(await Host.AskAsync("/v1/completions", $$"""{"prompt":"prose","max_tokens":30,"guided_choice":["yes","no way"]}"""));
        Assert.Contains(text.GetProperty("text").GetString(), (string[])["yes", "no way"]);
        Assert.Equal("stop", text.GetProperty("finish_reason").GetString());
    }

    [Theory]
    [InlineData("\"structured_outputs\":{\"regex\":\"[0-9]{3}-[a-c]+x\"}")]
    [InlineData("\"guided_regex\":\"[0-9]{3}-[a-c]+x\"")]
    [InlineData("\"regex\":\"[0-9]{3}-[a-c]+x\"")]
    [InlineData("\"grammar\":\"root ::= [0-9]{3} \\\"-\\\" [a-c]+ \\\"x\\\"\"")]
    [InlineData("\"ebnf\":\"root ::= [0-9]{3} \\\"-\\\" [a-c]+ \\\"x\\\"\"")]
    [InlineData("\"structured_outputs\":{\"grammar\":\"root ::= [0-9]{3} \\\"-\\\" [a-c]+ \\\"x\\\"\"}")]
    public async Task Patterns_and_grammars_are_matched_from_end_to_end(string format)
    {
        fixture.Host.Runner.Answers["pattern"] = "007-abcax and more";
        Assert.Equal("007-abcax", Choice(await Host.AskAsync(Path, TestHost.Chat("pattern", format))).GetProperty("message").GetProperty("content").GetString());
        JsonElement text = Choice(await Host.AskAsync("/v1/completions", $$"""{"prompt":"pattern","max_tokens":60,{{format}}}"""));
        Assert.Equal(("007-abcax", "stop"), (text.GetProperty("text").GetString(), text.GetProperty("finish_reason").GetString()));
        string cut = Choice(await Host.AskAsync("/v1/completions", $$"""{"prompt":"prose","max_tokens":2,{{format}}}""")).GetProperty("text").GetString()!;
        Assert.Matches("^[0-9]", cut);
    }

    [Fact]
    public async Task A_prefilled_answer_is_continued_by_the_format_alone()
    {
        string request = $$"""{"messages":[{"role":"user","content":"json"},{"role":"assistant","content":"Here: "}],"continue_final_message":true,{{Format}},{{Thinking}}}""";
        JsonElement message = Choice(await Host.AskAsync(Path, request)).GetProperty("message");
        Assert.Equal(2, TestHost.Json(message.GetProperty("content").GetString()!).GetPropertyCount());
    }

    [Theory]
    [InlineData("\"tool_choice\":\"required\"")]
    [InlineData("\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"get_weather\"}}")]
    [InlineData("\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":\"required\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\"}}]}}")]
    [InlineData("\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"required\",\"tools\":[{\"type\":\"function\",\"name\":\"get_weather\"}]}")]
    public async Task A_forced_call_is_a_call_that_follows_its_schema(string choice)
    {
        foreach (string user in (string[])["weather", "prose", "think prose", "two"])
        {
            foreach (string more in (string[])["", "," + Thinking, ",\"parallel_tool_calls\":false"])
            {
                string request = TestHost.Chat(user, $"{Tools},{choice}{more},\"max_tokens\":400");
                JsonElement answer = Choice(await Host.AskAsync(Path, request));
                JsonElement message = answer.GetProperty("message");
                Assert.Equal("tool_calls", answer.GetProperty("finish_reason").GetString());
                Assert.Equal(JsonValueKind.Null, message.GetProperty("content").ValueKind);
                if (more.Contains("parallel")) Assert.Equal(1, message.GetProperty("tool_calls").GetArrayLength());
                foreach (JsonElement call in message.GetProperty("tool_calls").EnumerateArray())
                {
                    JsonElement function = call.GetProperty("function");
                    if (choice.Contains("get_weather")) Assert.Equal("get_weather", function.GetProperty("name").GetString());
                    JsonElement arguments = TestHost.Json(function.GetProperty("arguments").GetString()!);
                    if (function.GetProperty("name").GetString() == "get_weather") Assert.Equal(["city", "days"], arguments.EnumerateObject().Select(static m => m.Name));
                    if (user == "weather") Assert.Equal("{\"city\":\"Paris\",\"days\":2}", function.GetProperty("arguments").GetString());
                }
            }
        }
    }

    [Fact]
    public async Task Allowing_fewer_tools_changes_what_is_called_and_not_the_prompt()
    {
        await Host.AskAsync(Path, TestHost.Chat("two", Tools));
        string prompt = Host.Runner.LastPrompt;
        const string onlyOther = "\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":\"auto\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"other\"}}]}}";
        JsonElement message = Choice(await Host.AskAsync(Path, TestHost.Chat("two", $"{Tools},{onlyOther},\"max_tokens\":300"))).GetProperty("message");
        Assert.Equal(prompt, Host.Runner.LastPrompt);
        Assert.All(message.GetProperty("tool_calls").EnumerateArray(), static c => Assert.Equal("other", c.GetProperty("function").GetProperty("name").GetString()));
        JsonElement plain = Choice(await Host.AskAsync(Path, TestHost.Chat("prose", $"{Tools},{onlyOther}"))).GetProperty("message");
        Assert.Equal("Sure! Here is your JSON.", plain.GetProperty("content").GetString());
        JsonElement none = Choice(await Host.AskAsync(Path, TestHost.Chat("two", $"{Tools},\"tool_choice\":\"none\""))).GetProperty("message");
        Assert.False(none.TryGetProperty("tool_calls", out _));
    }

    [Fact]
    public async Task Strict_tools_bind_their_arguments_and_leave_text_and_other_tools_alone()
    {
        string tools = "\"tools\":[" + Weather.Replace("\"name\":\"get_weather\"", "\"strict\":true,\"name\":\"get_weather\"") + "," + Other + "],\"max_tokens\":300";
        JsonElement calls = Choice(await Host.AskAsync(Path, TestHost.Chat("two", tools))).GetProperty("message").GetProperty("tool_calls");
        Assert.Equal("{\"city\":\"Paris\",\"days\":2}", calls[0].GetProperty("function").GetProperty("arguments").GetString());
        Assert.Equal("{\"x\":1}", calls[1].GetProperty("function").GetProperty("arguments").GetString());
        Assert.Equal("Sure! Here is your JSON.", Choice(await Host.AskAsync(Path, TestHost.Chat("prose", tools))).GetProperty("message").GetProperty("content").GetString());
        string otherSchema = tools.Replace("\"days\":{\"type\":\"integer\"}", "\"days\":{\"type\":\"boolean\"}");
        JsonElement bound = Choice(await Host.AskAsync(Path, TestHost.Chat("weather", otherSchema))).GetProperty("message").GetProperty("tool_calls")[0];
        JsonElement arguments = TestHost.Json(bound.GetProperty("function").GetProperty("arguments").GetString()!);
        Assert.Contains(arguments.GetProperty("days").ValueKind, (JsonValueKind[])[JsonValueKind.True, JsonValueKind.False]);
    }

    [Fact]
    public async Task With_a_format_a_model_may_still_call_but_not_chat()
    {
        string request = $"{Tools},{Format},\"max_tokens\":300";
        Assert.Equal("tool_calls", Choice(await Host.AskAsync(Path, TestHost.Chat("weather", request))).GetProperty("finish_reason").GetString());
        JsonElement message = Choice(await Host.AskAsync(Path, TestHost.Chat("json", request))).GetProperty("message");
        Assert.Equal(2, TestHost.Json(message.GetProperty("content").GetString()!).GetPropertyCount());
    }

    [Theory]
    [InlineData("\"reasoning_effort\":\"max\",\"thinking_token_budget\":6")]
    [InlineData("\"enable_thinking\":true,\"reasoning_budget_tokens\":6")]
    [InlineData("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":6}")]
    [InlineData("\"reasoning\":{\"max_tokens\":6}")]
    [InlineData("\"chat_template_kwargs\":{\"enable_thinking\":true},\"thinking_budget\":6")]
    public async Task A_thought_ends_when_its_budget_is_spent(string budget)
    {
        foreach (string more in (string[])["", "," + Format])
        {
            JsonElement answer = await Host.AskAsync(Path, TestHost.Chat("think prose", budget + more + ",\"max_tokens\":200"));
            JsonElement message = Choice(answer).GetProperty("message");
            Assert.Equal(8, answer.GetProperty("usage").GetProperty("completion_tokens_details").GetProperty("reasoning_tokens").GetInt32());    // with the channel's own
            Assert.StartsWith(message.GetProperty("reasoning").GetString(), "I will think about it for a while.");
            if (more.Length > 0) Assert.Equal(2, TestHost.Json(message.GetProperty("content").GetString()!).GetPropertyCount());
        }
    }

    [Theory]
    [InlineData("\"thinking\":{\"type\":\"disabled\"}", false)]
    [InlineData("\"reasoning\":{\"enabled\":false}", false)]
    [InlineData("\"reasoning\":{\"effort\":\"none\"}", false)]
    [InlineData("\"reasoning_effort\":\"high\",\"enable_thinking\":false", false)]
    [InlineData("\"reasoning\":{\"effort\":\"high\"}", true)]
    [InlineData("\"reasoning\":{\"enabled\":true}", true)]
    [InlineData("\"thinking\":{\"type\":\"adaptive\"}", true)]
    public async Task Thinking_is_switched_by_every_spelling(string member, bool isOn)
    {
        await Host.AskAsync(Path, TestHost.Chat("json", member));
        Assert.Equal(isOn, Host.Runner.LastPrompt.Contains("<|think|>"));
    }

    [Fact]
    public async Task Thoughts_can_be_left_out_of_the_answer()
    {
        foreach (string member in (string[])["\"include_reasoning\":false,\"enable_thinking\":true", "\"reasoning\":{\"enabled\":true,\"exclude\":true}"])
            Assert.False(Choice(await Host.AskAsync(Path, TestHost.Chat("think prose", member))).GetProperty("message").TryGetProperty("reasoning", out _));
    }

    [Fact]
    public async Task Grammars_are_compiled_once()
    {
        GrammarCache grammars = Host.Server.Grammars!;
        string format = Format.Replace("maxLength\":10", "maxLength\":9");
        (long hits, long misses) = (grammars.Hits, grammars.Misses);
        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Host.AskAsync(Path, TestHost.Chat("json", format))));
        Assert.Equal((hits + 7, misses + 1), (grammars.Hits, grammars.Misses));
        await Host.AskAsync(Path, TestHost.Chat("json", format + "," + Thinking));       // another answer around the same content
        Assert.Equal((hits + 7, misses + 2), (grammars.Hits, grammars.Misses));
        string metrics = await Host.Client.GetStringAsync("/metrics");
        Assert.Contains("gemmaserver_grammar_cache_hits_total", metrics);
        Assert.Contains("grammar_compile_seconds", metrics);
    }

    [Theory]
    [InlineData("{\"type\":\"strin\"}")]
    [InlineData("{\"$ref\":\"#/nowhere\"}")]
    [InlineData("{\"type\":\"object\",\"properties\":5}")]
    public async Task A_schema_that_cannot_be_followed_is_refused_by_its_name(string schema)
    {
        using HttpResponseMessage response = await Host.PostAsync(Path, TestHost.Chat("json", Format.Replace(Person, schema)));
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        JsonElement error = TestHost.Json(await response.Content.ReadAsStringAsync()).GetProperty("error");
        Assert.StartsWith("Invalid schema for response_format 'person': ", error.GetProperty("message").GetString());
        Assert.Equal("response_format", error.GetProperty("param").GetString());
        string tools = "\"tools\":[" + Other + ",{\"type\":\"function\",\"function\":{\"name\":\"bad\",\"strict\":true,\"parameters\":{\"type\":\"object\",\"$ref\":\"#/nowhere\"}}}]";
        using HttpResponseMessage tool = await Host.PostAsync(Path, TestHost.Chat("json", tools));
        error = TestHost.Json(await tool.Content.ReadAsStringAsync()).GetProperty("error");
        Assert.Equal(("invalid_function_parameters", "tools[1].function.parameters"), (error.GetProperty("code").GetString(), error.GetProperty("param").GetString()));
        Assert.StartsWith("Invalid schema for function 'bad': ", error.GetProperty("message").GetString());
    }

    [Theory]
    [InlineData("\"regex\":\"((a{1000}){1000}){1000}\"", null)]
    [InlineData("\"regex\":\"(.*a){40}.{40}\"", null)]
    [InlineData("\"structured_outputs\":{\"json\":{\"type\":\"array\",\"minItems\":1000000,\"items\":{\"type\":\"string\",\"minLength\":1000}}}", null)]
    [InlineData("\"grammar\":\"root ::= \\\"a\\\"{100000000}\"", "grammar")]
    [InlineData("\"structured_outputs\":{\"json\":{\"enum\":[\"a\"],\"minLength\":2}}", "structured_outputs.json")]
    public async Task A_grammar_that_asks_for_much_is_followed_or_refused_and_others_are_served_meanwhile(string format, string? param)
    {
        Task<HttpResponseMessage> hostile = Host.PostAsync(Path, TestHost.Chat("json", format + ",\"max_tokens\":5"));
        Assert.Equal("Sure! Here is your JSON.", Choice(await Host.AskAsync(Path, TestHost.Chat("prose"))).GetProperty("message").GetProperty("content").GetString());
        using HttpResponseMessage response = await hostile;
        if (param is null)
        {
            Assert.Contains((int)response.StatusCode, (int[])[200, 400]);
            return;
        }
        JsonElement error = TestHost.Json(await response.Content.ReadAsStringAsync()).GetProperty("error");
        Assert.Equal((400, "invalid_value", param), ((int)response.StatusCode, error.GetProperty("code").GetString(), error.GetProperty("param").GetString()));
    }

    [Fact]
    public async Task The_cache_of_grammars_is_bounded_and_keeps_no_failures()
    {
        using SemaphoreSlim gate = new(2);
        GrammarCache cache = new(TestHost.Tokenizer, TestHost.Tokenizer.VocabularySize, gate);
        for (int i = 0; i < GrammarCache.MaxCount + 10; i++) await cache.GetAsync($"{i}", GrammarNode.Literal($"a{i}"), default);
        Assert.Equal((GrammarCache.MaxCount, 0L, (long)GrammarCache.MaxCount + 10), (cache.Count, cache.Hits, cache.Misses));
        await cache.GetAsync("20", GrammarNode.Literal("not made"), default);
        await cache.GetAsync("0", GrammarNode.Literal("a0"), default);       // was forgotten
        Assert.Equal((1L, (long)GrammarCache.MaxCount + 11), (cache.Hits, cache.Misses));
        for (int i = 0; i < 2; i++)
            await Assert.ThrowsAsync<GrammarException>(() => cache.GetAsync("bad", GrammarNode.Choice(), default));
        Assert.Equal((long)GrammarCache.MaxCount + 13, cache.Misses);
        Assert.True(cache.CompileSeconds > 0);
    }

    private static JsonElement Choice(JsonElement answer) => answer.GetProperty("choices")[0];
}
