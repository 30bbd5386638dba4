using System.Net;
using System.Text;
using System.Text.Json;
using GemmaServer.Tests.Text;

namespace GemmaServer.Tests.Http;

/// <summary>Anthropic's Messages API.</summary>
public sealed class AnthropicTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private const string Path = "/v1/messages";
    private const string Tools = "\"tools\":[{\"name\":\"get_weather\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}},\"cache_control\":{\"type\":\"ephemeral\"}}]";

    public static TheoryData<string> Scripts => [.. ScriptedHost.Scripts.Keys.Where(static k => k != "tool result")];

    private TestHost Host => fixture.Host;

    private static string Ask(string user, string more = "") => Body($"{{\"role\":\"user\",\"content\":{JsonSerializer.Serialize(user)}}}", more);

    private static string Body(string messages, string more = "") =>
        $"{{\"model\":\"scripted\",\"max_tokens\":200,\"messages\":[{messages}]{(more.Length > 0 ? "," : "")}{more}}}";

    [Fact]
    public async Task A_whole_message_has_every_member_that_clients_require()
    {
        using HttpResponseMessage response = await Host.PostAsync(Path, Ask("hello", "\"metadata\":{\"user_id\":\"u\"},\"service_tier\":\"auto\",\"system\":\"whole message\""));
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal(response.Headers.GetValues("x-request-id"), response.Headers.GetValues("request-id"));
        JsonElement message = TestHost.Json(await response.Content.ReadAsStringAsync());
        Assert.StartsWith("msg_", message.Str("id"));
        Assert.Equal("message", message.Str("type"));
        Assert.Equal("assistant", message.Str("role"));
        Assert.Equal("scripted", message.Str("model"));
        Assert.Equal("""[{"type":"text","text":"Hello! I am a test.","citations":null}]""", message.GetProperty("content").GetRawText());
        Assert.Equal("end_turn", message.Str("stop_reason"));
        Assert.Equal(JsonValueKind.Null, message.GetProperty("stop_sequence").ValueKind);
        JsonElement usage = message.GetProperty("usage");
        Assert.Equal(TestHost.Tokenizer.Encode("Hello! I am a test.", parseSpecial: false).Length + 1, usage.GetProperty("output_tokens").GetInt32());
        Assert.True(usage.GetProperty("input_tokens").GetInt32() > 0);
        Assert.Equal(0, usage.GetProperty("cache_creation_input_tokens").GetInt32());
        Assert.Equal(0, usage.GetProperty("cache_read_input_tokens").GetInt32());
        Assert.False(message.TryGetProperty("choices", out _));
    }

    [Theory]
    [MemberData(nameof(Scripts))]
    public async Task A_stream_joined_is_the_whole_message(string user)
    {
        string more = Tools + ",\"thinking\":{\"type\":\"adaptive\"}";
        JsonElement whole = await Host.AskAsync(Path, Ask(user, more));
        AnthropicStream stream = await AnthropicStream.AskAsync(Host, Ask(user, more + ",\"stream\":true"));
        Assert.Equal(AnthropicStream.Content(whole), stream.Joined());
        Assert.Equal(whole.Str("stop_reason"), stream.End.GetProperty("delta").Str("stop_reason"));
        Assert.Equal(Total(whole.GetProperty("usage")), Total(stream.End.GetProperty("usage")));
        Assert.Equal(whole.GetProperty("usage").GetProperty("output_tokens").GetInt32(), stream.End.GetProperty("usage").GetProperty("output_tokens").GetInt32());
        Assert.Equal(0, stream.Start.GetProperty("content").GetArrayLength());
        Assert.Equal(JsonValueKind.Null, stream.Start.GetProperty("stop_reason").ValueKind);
        Assert.Equal(Total(whole.GetProperty("usage")), Total(stream.Start.GetProperty("usage")));

        static int Total(JsonElement usage) => usage.GetProperty("input_tokens").GetInt32() + usage.GetProperty("cache_read_input_tokens").GetInt32();
    }

    [Fact]
    public async Task The_events_of_a_stream_come_in_exactly_this_order()
    {
        AnthropicStream stream = await AnthropicStream.AskAsync(Host, Ask("two calls", "\"stream\":true"));
        List<string> order = [];
        foreach (string name in stream.Names)
            if (order.Count == 0 || order[^1] != name || name != "content_block_delta") order.Add(name);
        string[] block = ["content_block_start", "content_block_delta", "content_block_stop"];
        Assert.Equal(["message_start", .. block, .. block, .. block, "message_delta", "message_stop"], order);
        JsonElement call = stream.Events.Where(static e => e.Name == "content_block_start").ElementAt(1).Data.GetProperty("content_block");
        Assert.Equal(["type", "id", "name", "input", "caller"], call.EnumerateObject().Select(static m => m.Name));
        Assert.StartsWith("toolu_", call.Str("id"));
        Assert.Equal("{}", call.GetProperty("input").GetRawText());
        Assert.Equal("tool_use", stream.End.GetProperty("delta").Str("stop_reason"));
    }

    [Fact]
    public async Task Thinking_is_a_block_of_its_own_with_a_signature()
    {
        JsonElement message = await Host.AskAsync(Path, Ask("think", "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":2000}"));
        JsonElement[] blocks = [.. message.GetProperty("content").EnumerateArray()];
        Assert.Equal("Two and two. Four.", blocks[0].Str("thinking"));
        Assert.NotEqual("", blocks[0].Str("signature"));
        Assert.Equal("The answer is 4.", blocks[1].Str("text"));
        Assert.Contains("<|think|>", Host.Runner.LastPrompt);
        Assert.True(message.GetProperty("usage").GetProperty("output_tokens_details").GetProperty("thinking_tokens").GetInt32() > 0);

        await Host.AskAsync(Path, Ask("hello", "\"thinking\":{\"type\":\"disabled\"}"));
        Assert.DoesNotContain("<|think|>", Host.Runner.LastPrompt);
        await Host.AskAsync(Path, Ask("hello", "\"output_config\":{\"effort\":\"high\"}"));
        Assert.DoesNotContain("<|think|>", Host.Runner.LastPrompt);
        JsonElement quiet = await Host.AskAsync(Path, Ask("think", "\"thinking\":{\"type\":\"adaptive\",\"display\":\"omitted\"}"));
        Assert.Equal(["text : The answer is 4."], AnthropicStream.Content(quiet));
    }

    [Fact]
    public async Task A_tool_round_trip()
    {
        JsonElement first = await Host.AskAsync(Path, Ask("weather", Tools));
        Assert.Equal("tool_use", first.Str("stop_reason"));
        JsonElement call = Assert.Single(first.GetProperty("content").EnumerateArray());
        Assert.Equal("Paris", call.GetProperty("input").Str("city"));
        string more = $"{{\"role\":\"user\",\"content\":\"weather\"}},{{\"role\":\"assistant\",\"content\":{first.GetProperty("content").GetRawText()}}},"
            + $"{{\"role\":\"user\",\"content\":[{{\"type\":\"tool_result\",\"tool_use_id\":\"{call.Str("id")}\",\"content\":[{{\"type\":\"text\",\"text\":\"sunny\"}}]}}]}}";
        JsonElement second = await Host.AskAsync(Path, Body(more, Tools));
        Assert.Equal(["text : It is sunny in Paris."], AnthropicStream.Content(second));
        Assert.Contains("sunny", Host.Runner.LastPrompt);
    }

    [Fact]
    public async Task Results_go_before_the_text_beside_them_and_errors_say_so()
    {
        const string messages = """
            {"role":"user","content":"go"},
            {"role":"assistant","content":[{"type":"text","text":"Two things."},{"type":"tool_use","id":"a","name":"f","input":{"x":1}},{"type":"tool_use","id":"b","name":"g","input":{}}]},
            {"role":"user","content":[{"type":"text","text":"hello"},{"type":"tool_result","tool_use_id":"a","content":"one"},{"type":"tool_result","tool_use_id":"b","is_error":true,"content":"two"}]}
            """;
        await Host.AskAsync(Path, Body(messages));
        string prompt = Host.Runner.LastPrompt;
        int one = prompt.IndexOf("one", StringComparison.Ordinal), two = prompt.IndexOf("Error: two", StringComparison.Ordinal);
        Assert.True(0 < one && one < two && two < prompt.IndexOf("<|turn>user\nhello", StringComparison.Ordinal), prompt);
    }

    [Fact]
    public async Task Blocks_are_translated_to_the_chat_body_that_says_the_same()
    {
        const string body = """
            {"model":"scripted","temperature":0.5,"top_k":3,"top_p":0.9,"stream":true,"stop_sequences":["a","b"],
             "system":[{"type":"text","text":"x-anthropic-billing-header: cc=1"},{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],
             "tools":[{"type":"custom","name":"f","description":"d","input_schema":{"type":"object"},"strict":true}],
             "tool_choice":{"type":"any","disable_parallel_tool_use":true},
             "thinking":{"type":"enabled","budget_tokens":1500},"output_config":{"effort":"max","format":{"type":"json_schema","schema":{"type":"object"}}},
             "metadata":{"user_id":"u"},
             "messages":[
              {"role":"user","content":[{"type":"text","text":"one"},{"type":"document","title":"T","source":{"type":"text","media_type":"text/plain","data":"two"}}]},
              {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"x"},{"type":"text","text":"three"},{"type":"tool_use","id":"t","name":"f","input":{"k":[1.50]}}]},
              {"role":"user","content":[{"type":"tool_result","tool_use_id":"t"}]}]}
            """;
        using JsonDocument document = JsonDocument.Parse(body);
        using ChatTranslation chat = new();
        Assert.Null(MessagesRequestReader.Translate(new FieldReader(document.RootElement), chat, TestHost.Options));
        using JsonDocument translated = chat.Close();
        const string expected = """
            {"model":"scripted","temperature":0.5,"top_k":3,"top_p":0.9,"stream":true,"stop":["a","b"],
             "thinking_token_budget":1500,"chat_template_kwargs":{"enable_thinking":true},"reasoning_effort":"max",
             "json_schema":{"type":"object"},"user":"u",
             "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":true}}],
             "tool_choice":"required","parallel_tool_calls":false,
             "messages":[
              {"role":"system","content":"Be brief."},
              {"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"T\ntwo"}]},
              {"role":"assistant","content":"three","reasoning":"hm","tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":{"k":[1.50]}}}]},
              {"role":"tool","tool_call_id":"t","content":""}]}
            """;
        using JsonDocument wanted = JsonDocument.Parse(expected);
        Assert.Equal(JsonSerializer.Serialize(wanted.RootElement), JsonSerializer.Serialize(translated.RootElement));
        await Task.CompletedTask;
    }

    [Fact]
    public async Task A_system_message_may_come_later()
    {
        await Host.AskAsync(Path, Body("{\"role\":\"user\",\"content\":\"hello\"},{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"Mind this.\"}]},{\"role\":\"user\",\"content\":\"nothing\"}"));
        Assert.Contains("<|turn>system\nMind this.<turn|>", Host.Runner.LastPrompt);
    }

    [Theory]
    [InlineData("""{"type":"auto"}""", "\"auto\"")]
    [InlineData("""{"type":"none"}""", "\"none\"")]
    [InlineData("""{"type":"tool","name":"f"}""", """{"type":"function","function":{"name":"f"}}""")]
    public void Every_tool_choice_has_its_chat_form(string choice, string expected)
    {
        using JsonDocument document = JsonDocument.Parse($"{{\"model\":\"m\",\"tool_choice\":{choice},\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}]}}");
        using ChatTranslation chat = new();
        Assert.Null(MessagesRequestReader.Translate(new FieldReader(document.RootElement), chat, TestHost.Options));
        using JsonDocument translated = chat.Close();
        Assert.Equal(expected, translated.RootElement.GetProperty("tool_choice").GetRawText());
    }

    [Fact]
    public async Task Sampling_reaches_the_model()
    {
        await Host.AskAsync(Path, Ask("hello", "\"temperature\":0.25,\"top_k\":7,\"top_p\":0.5,\"tool_choice\":{\"type\":\"none\"}"));
        GemmaServer.Compute.SamplingParams sampling = Host.Runner.LastSampling!;
        Assert.Equal((0.25f, 7, 0.5f), (sampling.Temperature, sampling.TopK, sampling.TopP));
        Assert.Contains(TestHost.Tokenizer.Special.ToolCallStart, sampling.BannedTokens);
    }

    [Fact]
    public async Task A_stop_sequence_is_named()
    {
        JsonElement message = await Host.AskAsync(Path, Ask("stop me", "\"stop_sequences\":[\"nobody\",\"STOP\"]"));
        Assert.Equal("stop_sequence", message.Str("stop_reason"));
        Assert.Equal("STOP", message.Str("stop_sequence"));
        Assert.Equal(["text : one two "], AnthropicStream.Content(message));
        AnthropicStream stream = await AnthropicStream.AskAsync(Host, Ask("stop me", "\"stop_sequences\":[\"STOP\"],\"stream\":true"));
        Assert.Equal("STOP", stream.End.GetProperty("delta").Str("stop_sequence"));
        Assert.Equal(["text : one two "], stream.Joined());
    }

    [Fact]
    public async Task The_token_limit_is_max_tokens_and_the_end_of_the_context_its_own_reason()
    {
        string request = Ask("long").Replace("200", "5");
        JsonElement message = await Host.AskAsync(Path, request);
        Assert.Equal("max_tokens", message.Str("stop_reason"));
        Assert.Equal(5, message.GetProperty("usage").GetProperty("output_tokens").GetInt32());

        string filler = string.Concat(Enumerable.Repeat("a ", 1200));
        await using TestHost host = await TestHost.StartAsync(script: r => r.Answers[filler.Trim()] = string.Concat(Enumerable.Repeat("word ", 4000)));
        JsonElement full = await host.AskAsync(Path, Ask(filler).Replace("200", "100000"));
        Assert.Equal("model_context_window_exceeded", full.Str("stop_reason"));
    }

    [Fact]
    public async Task A_last_assistant_message_is_the_beginning_of_the_answer()
    {
        await Host.AskAsync(Path, Body("{\"role\":\"user\",\"content\":\"hello\"},{\"role\":\"assistant\",\"content\":\"Hello! I\"}"));
        Assert.EndsWith("<|turn>model\nHello! I", Host.Runner.LastPrompt);
    }

    [Theory]
    [InlineData("")]
    [InlineData("\"system\":\"You are kind.\"")]
    [InlineData("\"thinking\":{\"type\":\"adaptive\"},\"system\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]")]
    [InlineData(Tools)]
    public async Task Counted_tokens_are_those_of_the_request(string more)
    {
        JsonElement usage = (await Host.AskAsync(Path, Ask("hello", more))).GetProperty("usage");
        JsonElement count = await Host.AskAsync(Path + "/count_tokens", Ask("hello", more).Replace("\"max_tokens\":200,", ""));
        Assert.Equal(["input_tokens"], count.EnumerateObject().Select(static m => m.Name));
        Assert.Equal(usage.GetProperty("input_tokens").GetInt32() + usage.GetProperty("cache_read_input_tokens").GetInt32(), count.GetProperty("input_tokens").GetInt32());
    }

    [Fact]
    public async Task Input_tokens_leave_out_those_of_the_cache()
    {
        string question = Ask("hello", $"\"system\":{JsonSerializer.Serialize(string.Concat(Enumerable.Repeat("cached words ", 20)))}");
        int all = (await Host.AskAsync(Path + "/count_tokens", question)).GetProperty("input_tokens").GetInt32();
        JsonElement first = (await Host.AskAsync(Path, question)).GetProperty("usage");
        Assert.Equal(all, first.GetProperty("input_tokens").GetInt32());
        JsonElement again = (await Host.AskAsync(Path, question)).GetProperty("usage");
        int cached = again.GetProperty("cache_read_input_tokens").GetInt32();
        Assert.True(cached > 0);
        Assert.Equal(all - cached, again.GetProperty("input_tokens").GetInt32());
    }

    [Fact]
    public async Task A_silent_stream_pings()
    {
        await using TestHost host = await TestHost.StartAsync(script: r => r.SlowStep = TimeSpan.FromMilliseconds(600), settings: static s => s.KeepAlive = TimeSpan.FromMilliseconds(50));
        AnthropicStream stream = await AnthropicStream.AskAsync(host, Ask(ScriptedRunner.Slow, "\"stream\":true"));
        Assert.True(stream.Pings > 0);
        Assert.Equal(["text : You said: slow"], stream.Joined());
    }

    [Fact]
    public async Task A_failure_before_the_first_token_is_an_HTTP_error_and_later_an_event()
    {
        await using TestHost host = await TestHost.StartAsync();
        using HttpResponseMessage early = await host.PostAsync(Path, Ask(ScriptedRunner.Explode, "\"stream\":true"));
        Assert.Equal(HttpStatusCode.InternalServerError, early.StatusCode);
        JsonElement body = TestHost.Json(await early.Content.ReadAsStringAsync());
        Assert.Equal("error", body.Str("type"));
        Assert.Equal("api_error", body.GetProperty("error").Str("type"));
        Assert.Equal(early.Headers.GetValues("request-id").Single(), body.Str("request_id"));

        using HttpResponseMessage late = await host.PostAsync(Path, Ask(ScriptedRunner.BreakOff, "\"stream\":true"));
        Assert.Equal(HttpStatusCode.OK, late.StatusCode);
        AnthropicStream stream = AnthropicStream.Of(await late.Content.ReadAsStringAsync());
        Assert.Equal("error", stream.Names.Last());
        Assert.Equal("api_error", stream.Events[^1].Data.GetProperty("error").Str("type"));
        Assert.DoesNotContain("message_stop", stream.Names);
    }

    [Fact]
    public async Task A_client_that_leaves_frees_the_work()
    {
        await using TestHost host = await TestHost.StartAsync();
        using CancellationTokenSource leave = new();
        using HttpResponseMessage response = await host.PostAsync(Path, Ask(ScriptedRunner.Marathon, "\"stream\":true"), HttpCompletionOption.ResponseHeadersRead, leave.Token);
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 1, "it runs");
        response.Dispose();
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 0 && host.Server.InFlight == 0, "the slot is free");
    }

    [Fact]
    public async Task A_key_goes_in_x_api_key_and_errors_have_Anthropics_shape()
    {
        await using TestHost host = await TestHost.StartAsync(new ServerOptions { Port = 0, LogLevel = Microsoft.Extensions.Logging.LogLevel.None, ServedModelName = ["scripted"], ApiKey = ["secret"] });
        using HttpResponseMessage refused = await host.PostAsync(Path, Ask("hi"));
        Assert.Equal(HttpStatusCode.Unauthorized, refused.StatusCode);
        Assert.Equal("authentication_error", TestHost.Json(await refused.Content.ReadAsStringAsync()).GetProperty("error").Str("type"));
        using HttpRequestMessage request = new(HttpMethod.Post, Path) { Content = new StringContent(Ask("hi"), Encoding.UTF8, "application/json") };
        request.Headers.Add("x-api-key", "secret");
        request.Headers.Add("anthropic-version", "2023-06-01");
        using HttpResponseMessage answer = await host.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
    }
}
