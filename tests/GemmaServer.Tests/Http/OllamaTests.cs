using System.Net;
using System.Text;
using System.Text.Json;
using GemmaServer.Tests.Text;

namespace GemmaServer.Tests.Http;

/// <summary>Ollama's API.</summary>
public sealed class OllamaTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private const string Chat = "/api/chat";
    private const string Generate = "/api/generate";
    private const string Tools = "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"d\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}}}}]";

    private static readonly string[] Figures = ["total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"];

    public static TheoryData<string> Scripts => [.. ScriptedHost.Scripts.Keys.Where(static k => k != "tool result")];

    private TestHost Host => fixture.Host;

    private static string Ask(string user, string more = "") => Body($"{{\"role\":\"user\",\"content\":{JsonSerializer.Serialize(user)}}}", more);

    private static string Body(string messages, string more = "") => $"{{\"model\":\"scripted\",\"messages\":[{messages}]{(more.Length > 0 ? "," : "")}{more}}}";

    private static string Prompt(string prompt, string more = "") => $"{{\"model\":\"scripted\",\"prompt\":{JsonSerializer.Serialize(prompt)}{(more.Length > 0 ? "," : "")}{more}}}";

    [Fact]
    public async Task A_whole_chat_answer_has_every_member()
    {
        JsonElement answer = await Host.AskAsync(Chat, Ask("hello", "\"stream\":false,\"keep_alive\":\"5m\""));
        Assert.Equal(["model", "created_at", "message", "done_reason", "done", .. Figures], answer.EnumerateObject().Select(static m => m.Name).Order(Comparer));
        Assert.Equal("scripted", answer.Str("model"));
        Assert.Equal("""{"role":"assistant","content":"Hello! I am a test."}""", answer.GetProperty("message").GetRawText());
        Assert.Equal("stop", answer.Str("done_reason"));
        Assert.True(answer.GetProperty("done").GetBoolean());
        Assert.True(answer.GetProperty("created_at").GetDateTimeOffset() > DateTimeOffset.UnixEpoch);
        Assert.Equal(TestHost.Tokenizer.Encode("Hello! I am a test.", parseSpecial: false).Length + 1, answer.GetProperty("eval_count").GetInt32());
        long[] figures = [.. Figures.Select(f => answer.GetProperty(f).GetInt64())];
        Assert.All(figures, static f => Assert.True(f > 0));
        Assert.True(figures[0] >= figures[3] + figures[5] - 1000);
    }

    private static Comparer<string> Comparer { get; } = Comparer<string>.Create(static (a, b) => Place(a).CompareTo(Place(b)));

    private static int Place(string member) => Array.IndexOf(["model", "created_at", "message", "response", "done_reason", "done", .. Figures], member);

    [Theory]
    [MemberData(nameof(Scripts))]
    public async Task Lines_joined_are_the_whole_chat_answer(string user)
    {
        string more = Tools + ",\"think\":true";
        JsonElement whole = await Host.AskAsync(Chat, Ask(user, more + ",\"stream\":false"));
        List<JsonElement> lines = await LinesAsync(Chat, Ask(user, more));
        Assert.All(lines[..^1], static l => Assert.False(l.GetProperty("done").GetBoolean()));
        Assert.All(lines[..^1], static l => Assert.False(l.TryGetProperty("eval_count", out _)));
        Assert.Equal("", lines[^1].GetProperty("message").Str("content"));
        Assert.Equal(Said(whole.GetProperty("message")), Said([.. lines.Select(static l => l.GetProperty("message"))]));
        Assert.True(lines[^1].GetProperty("done").GetBoolean());
        Assert.Equal(whole.Str("done_reason"), lines[^1].Str("done_reason"));
        Assert.Equal(whole.GetProperty("eval_count").GetInt32(), lines[^1].GetProperty("eval_count").GetInt32());
        Assert.Equal(whole.GetProperty("prompt_eval_count").GetInt32(), lines[^1].GetProperty("prompt_eval_count").GetInt32());
    }

    [Theory]
    [InlineData("hello")]
    [InlineData("think")]
    [InlineData("unicode")]
    public async Task Generate_gives_the_answer_as_response(string prompt)
    {
        JsonElement whole = await Host.AskAsync(Generate, Prompt(prompt, "\"stream\":false,\"think\":true,\"system\":\"Be kind.\""));
        List<JsonElement> lines = await LinesAsync(Generate, Prompt(prompt, "\"think\":true,\"system\":\"Be kind.\",\"context\":[1,2],\"template\":\"\",\"suffix\":\"\""));
        Assert.Contains("Be kind.", Host.Runner.LastPrompt);
        Assert.Equal(whole.Str("response"), string.Concat(lines.Select(static l => l.Str("response"))));
        Assert.Equal(Thinking(whole), string.Concat(lines.Select(Thinking)));
        Assert.Equal(prompt == "think", Thinking(whole).Length > 0);
        Assert.False(whole.TryGetProperty("message", out _));
        Assert.EndsWith(whole.Str("response"), ScriptedHost.Scripts[prompt]);

        static string Thinking(JsonElement line) => line.TryGetProperty("thinking", out JsonElement thinking) ? thinking.GetString()! : "";
    }

    [Fact]
    public async Task A_raw_prompt_goes_to_the_model_as_it_is()
    {
        JsonElement whole = await Host.AskAsync(Generate, Prompt("just this", "\"raw\":true,\"stream\":false"));
        Assert.Equal("<bos>just this", Host.Runner.LastPrompt);
        Assert.Equal("You said: just this", whole.Str("response"));
        List<JsonElement> lines = await LinesAsync(Generate, Prompt("just this", "\"raw\":true"));
        Assert.Equal("You said: just this", string.Concat(lines.Select(static l => l.Str("response"))));
        Assert.Equal("stop", lines[^1].Str("done_reason"));
    }

    [Fact]
    public async Task An_empty_request_asks_only_whether_the_model_is_loaded()
    {
        foreach ((string path, string body) in ((string, string)[])[(Generate, "{\"model\":\"scripted\"}"), (Generate, Prompt("")), (Chat, "{\"model\":\"scripted\"}"), (Chat, Body(""))])
        {
            int before = Host.Runner.Opened.Count;
            JsonElement answer = await Host.AskAsync(path, body);
            Assert.Equal("load", answer.Str("done_reason"));
            Assert.True(answer.GetProperty("done").GetBoolean());
            Assert.Equal(before, Host.Runner.Opened.Count);
        }
    }

    [Fact]
    public async Task A_tool_round_trip_by_name_and_order()
    {
        JsonElement first = (await Host.AskAsync(Chat, Ask("weather", Tools + ",\"stream\":false"))).GetProperty("message");
        JsonElement call = first.GetProperty("tool_calls")[0].GetProperty("function");
        Assert.Equal("get_weather", call.Str("name"));
        Assert.Equal("""{"city":"Paris","days":2}""", call.GetProperty("arguments").GetRawText());
        foreach (string answers in (string[])["\"tool_name\":\"get_weather\"", "\"name\":\"get_weather\"", $"\"tool_call_id\":\"{first.GetProperty("tool_calls")[0].Str("id")}\"", "\"x\":1"])
        {
            string messages = $"{{\"role\":\"user\",\"content\":\"weather\"}},{first.GetRawText()},{{\"role\":\"tool\",{answers},\"content\":\"sunny\"}}";
            JsonElement second = await Host.AskAsync(Chat, Body(messages, Tools + ",\"stream\":false"));
            Assert.Equal("It is sunny in Paris.", second.GetProperty("message").Str("content"));
            Assert.Contains("sunny", Host.Runner.LastPrompt);
        }
    }

    [Fact]
    public async Task Two_results_of_calls_without_ids_go_to_their_calls()
    {
        const string messages = """
            {"role":"user","content":"go"},
            {"role":"assistant","content":"","thinking":"hm","tool_calls":[{"function":{"name":"f","arguments":{"x":1}}},{"function":{"name":"g","arguments":{}}}]},
            {"role":"tool","tool_name":"g","content":"from g"},{"role":"tool","tool_name":"f","content":"from f"}
            """;
        await Host.AskAsync(Chat, Body(messages, "\"stream\":false"));
        string prompt = Host.Runner.LastPrompt;
        Assert.Contains("response:f{value:<|\"|>from f", prompt);
        Assert.Contains("response:g{value:<|\"|>from g", prompt);
    }

    [Fact]
    public async Task An_answer_that_the_client_began_goes_on()
    {
        const string user = "{\"role\":\"user\",\"content\":\"go\"}";
        await Host.AskAsync(Chat, Body(user + ",{\"role\":\"assistant\",\"content\":\"Once upon\"}", "\"stream\":false"));
        Assert.EndsWith("<|turn>model\nOnce upon", Host.Runner.LastPrompt);
        await Host.AskAsync(Chat, Body(user + ",{\"role\":\"assistant\",\"content\":\"Once upon\"}," + user, "\"stream\":false"));
        Assert.EndsWith("<|turn>model\n", Host.Runner.LastPrompt);
    }

    [Fact]
    public async Task Options_reach_the_model()
    {
        const string options = "\"options\":{\"temperature\":0.25,\"top_k\":7,\"top_p\":0.5,\"min_p\":0.125,\"repeat_penalty\":1.5,\"presence_penalty\":0.5,\"frequency_penalty\":-0.5,\"seed\":42,\"num_ctx\":2048,\"num_predict\":3,\"mirostat\":0}";
        foreach ((string path, string body) in ((string, string)[])[(Chat, Ask("long", options + ",\"stream\":false")), (Generate, Prompt("long", options + ",\"stream\":false")), (Generate, Prompt("long", options + ",\"stream\":false,\"raw\":true"))])
        {
            JsonElement answer = await Host.AskAsync(path, body);
            Assert.Equal("length", answer.Str("done_reason"));
            Assert.Equal(3, answer.GetProperty("eval_count").GetInt32());
            GemmaServer.Compute.SamplingParams s = Host.Runner.LastSampling!;
            Assert.Equal((0.25f, 7, 0.5f, 0.125f), (s.Temperature, s.TopK, s.TopP, s.MinP));
            Assert.Equal((1.5f, 0.5f, -0.5f, 42ul), (s.RepetitionPenalty, s.PresencePenalty, s.FrequencyPenalty, s.Seed));
        }
    }

    [Fact]
    public async Task Stop_strings_and_no_limit()
    {
        JsonElement answer = await Host.AskAsync(Chat, Ask("stop me", "\"stream\":false,\"options\":{\"stop\":[\"STOP\"],\"num_predict\":-1}"));
        Assert.Equal("one two ", answer.GetProperty("message").Str("content"));
        Assert.Equal("stop", answer.Str("done_reason"));
        Assert.Equal(ScriptedHost.Scripts["long"], (await Host.AskAsync(Chat, Ask("long", "\"stream\":false,\"options\":{\"num_predict\":-2}"))).GetProperty("message").Str("content"));
    }

    [Fact]
    public async Task Thinking_is_on_when_asked_for()
    {
        await Host.AskAsync(Chat, Ask("hello", "\"stream\":false"));
        Assert.DoesNotContain("<|think|>", Host.Runner.LastPrompt);
        await Host.AskAsync(Chat, Ask("hello", "\"stream\":false,\"think\":false"));
        Assert.DoesNotContain("<|think|>", Host.Runner.LastPrompt);
        JsonElement answer = await Host.AskAsync(Chat, Ask("think", "\"stream\":false,\"think\":\"high\""));
        Assert.Contains("<|think|>", Host.Runner.LastPrompt);
        Assert.Equal("""{"role":"assistant","content":"The answer is 4.","thinking":"Two and two. Four."}""", answer.GetProperty("message").GetRawText());
    }

    [Fact]
    public async Task Names_go_with_and_without_latest_and_content_types_do_not_matter()
    {
        foreach (string name in (string[])["scripted", "scripted:latest", "alias/of it", "alias/of it:latest"])
        {
            using HttpResponseMessage response = await Host.Client.PostAsync(Chat, new StringContent(Ask("hello", "\"stream\":false").Replace("\"scripted\"", $"\"{name}\""), Encoding.UTF8, "application/x-www-form-urlencoded"));
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            Assert.Equal(name, TestHost.Json(await response.Content.ReadAsStringAsync()).Str("model"));
        }
        ByteArrayContent bare = new(Encoding.UTF8.GetBytes(Ask("hello", "\"stream\":false")));
        using HttpResponseMessage untyped = await Host.Client.PostAsync(Chat, bare);
        Assert.Equal(HttpStatusCode.OK, untyped.StatusCode);
        using HttpResponseMessage elsewhere = await Host.Client.PostAsync("/v1/chat/completions", new ByteArrayContent(Encoding.UTF8.GetBytes(TestHost.Chat("hello"))));
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, elsewhere.StatusCode);
    }

    [Fact]
    public async Task Models_are_listed_shown_and_running()
    {
        JsonElement tags = TestHost.Json(await Host.Client.GetStringAsync("/api/tags")).GetProperty("models");
        Assert.Equal(["scripted:latest", "alias/of it:latest"], tags.EnumerateArray().Select(static m => m.Str("name")));
        Assert.All(tags.EnumerateArray(), static m => Assert.Equal("gemma4", m.GetProperty("details").Str("family")));
        Assert.All(tags.EnumerateArray(), static m => Assert.Equal(64, m.Str("digest").Length));
        JsonElement running = TestHost.Json(await Host.Client.GetStringAsync("/api/ps")).GetProperty("models")[0];
        Assert.Equal(TestHost.MaxModelLength, running.GetProperty("context_length").GetInt32());
        Assert.True(running.GetProperty("expires_at").GetDateTimeOffset() > DateTimeOffset.UtcNow);
        foreach (string member in (string[])["model", "name"])
        {
            JsonElement shown = await Host.AskAsync("/api/show", $"{{\"{member}\":\"scripted:latest\"}}");
            Assert.Equal(["completion", "tools", "thinking"], shown.GetProperty("capabilities").EnumerateArray().Select(static c => c.GetString()!));
            Assert.Equal("gemma4", shown.GetProperty("model_info").Str("general.architecture"));
            Assert.Equal(TestHost.MaxModelLength, shown.GetProperty("model_info").GetProperty("gemma4.context_length").GetInt32());
        }
        string version = TestHost.Json(await Host.Client.GetStringAsync("/api/version")).Str("version");
        Assert.True(Version.Parse(version) >= new Version(0, 6, 4));
    }

    [Theory]
    [InlineData("POST", "/api/pull")]
    [InlineData("POST", "/api/push")]
    [InlineData("POST", "/api/create")]
    [InlineData("POST", "/api/copy")]
    [InlineData("DELETE", "/api/delete")]
    [InlineData("POST", "/api/blobs/sha256:00")]
    [InlineData("POST", "/api/embed")]
    [InlineData("POST", "/api/embeddings")]
    public async Task What_is_not_here_says_so(string method, string path)
    {
        using HttpRequestMessage request = new(new HttpMethod(method), path) { Content = new StringContent("{}", Encoding.UTF8, "application/json") };
        using HttpResponseMessage response = await Host.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.NotImplemented, response.StatusCode);
        JsonElement error = TestHost.Json(await response.Content.ReadAsStringAsync());
        Assert.Equal(["error"], error.EnumerateObject().Select(static m => m.Name));
        Assert.True(error.Str("error").Length > 10);
    }

    [Theory]
    [InlineData("""{"messages":[{"role":"user","content":"x"}]}""", "model")]
    [InlineData("""{"model":5}""", "model")]
    [InlineData("""{"model":"scripted","messages":{}}""", "messages")]
    [InlineData("""{"model":"scripted","messages":["x"]}""", "messages[0]")]
    [InlineData("""{"model":"scripted","messages":[{"content":"x"}]}""", "messages[0].role")]
    [InlineData("""{"model":"scripted","messages":[{"role":"wizard","content":"x"}]}""", "messages[0].role")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":["x"]}]}""", "messages[0].content")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x","images":["AAAA"]}]}""", "messages[0].images")]
    [InlineData("""{"model":"scripted","messages":[{"role":"tool","content":"x"}]}""", "messages[0]")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{}}}]},{"role":"tool","tool_name":"g","content":""}]}""", "messages[2]")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{}]}]}""", "messages[1].tool_calls[0].function")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"no"}}]},{"role":"tool","content":""}]}""", "messages[1].tool_calls[0].function.arguments")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"stream":"yes"}""", "stream")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"think":1}""", "think")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"think":"a lot"}""", "think")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"format":"xml"}""", "format")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"format":3}""", "format")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"format":{"type":"thing"}}""", "format")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"tools":[{}]}""", "tools[0].type")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"options":[]}""", "options")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"options":{"temperature":"hot"}}""", "options.temperature")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"options":{"repeat_penalty":-1}}""", "options.repeat_penalty")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"options":{"num_predict":"all"}}""", "options.num_predict")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"options":{"seed":1.5}}""", "options.seed")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"options":{"stop":[1]}}""", "options.stop[0]")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"x"}],"logprobs":true}""", "logprobs")]
    public async Task Bad_chat_requests_name_the_field(string body, string field) => await CheckAsync(Chat, body, 400, field);

    [Theory]
    [InlineData("""{"prompt":"x"}""", "model")]
    [InlineData("""{"model":"scripted","prompt":5}""", "prompt")]
    [InlineData("""{"model":"scripted","prompt":"x","suffix":"y"}""", "suffix")]
    [InlineData("""{"model":"scripted","prompt":"x","template":"{{ .Prompt }}"}""", "template")]
    [InlineData("""{"model":"scripted","prompt":"x","images":["AAAA"]}""", "images")]
    [InlineData("""{"model":"scripted","prompt":"x","system":[]}""", "system")]
    [InlineData("""{"model":"scripted","prompt":"x","raw":"yes"}""", "raw")]
    [InlineData("""{"model":"scripted","prompt":"x","raw":true,"options":{"top_p":7}}""", "options.top_p")]
    public async Task Bad_generate_requests_name_the_field(string body, string field) => await CheckAsync(Generate, body, 400, field);

    [Theory]
    [InlineData(Chat)]
    [InlineData(Generate)]
    [InlineData("/api/show")]
    public async Task A_model_that_is_not_there(string path) => await CheckAsync(path, "{\"model\":\"llama3.2\"}", 404, "llama3.2");

    [Fact]
    public async Task A_failure_before_the_first_token_is_an_HTTP_error_and_later_a_line()
    {
        await using TestHost host = await TestHost.StartAsync();
        using HttpResponseMessage early = await host.PostAsync(Chat, Ask(ScriptedRunner.Explode));
        Assert.Equal(HttpStatusCode.InternalServerError, early.StatusCode);
        using HttpResponseMessage late = await host.PostAsync(Chat, Ask(ScriptedRunner.BreakOff));
        Assert.Equal(HttpStatusCode.OK, late.StatusCode);
        string[] lines = (await late.Content.ReadAsStringAsync()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(["error"], TestHost.Json(lines[^1]).EnumerateObject().Select(static m => m.Name));
        Assert.DoesNotContain("\"done\":true", string.Concat(lines));
    }

    [Fact]
    public async Task A_client_that_leaves_frees_the_work()
    {
        await using TestHost host = await TestHost.StartAsync();
        using HttpResponseMessage response = await host.PostAsync(Chat, Ask(ScriptedRunner.Marathon), HttpCompletionOption.ResponseHeadersRead);
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 1, "it runs");
        response.Dispose();
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 0 && host.Server.InFlight == 0, "the slot is free");
    }

    private async Task<List<JsonElement>> LinesAsync(string path, string body)
    {
        using HttpResponseMessage response = await Host.PostAsync(path, body, HttpCompletionOption.ResponseHeadersRead);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == HttpStatusCode.OK, text);
        Assert.Equal("application/x-ndjson", response.Content.Headers.ContentType!.ToString());
        Assert.EndsWith("\n", text);
        return [.. text[..^1].Split('\n').Select(TestHost.Json)];
    }

    private static string Said(params IReadOnlyList<JsonElement> messages) =>
        string.Concat(messages.Select(static m => m.TryGetProperty("thinking", out JsonElement t) ? t.GetString() : "")) + "|"
        + string.Concat(messages.Select(static m => m.Str("content"))) + "|"
        + string.Join(';', messages.SelectMany(static m => m.TryGetProperty("tool_calls", out JsonElement c) ? c.EnumerateArray() : []).Select(static c => c.GetProperty("function").GetRawText()));

    private async Task CheckAsync(string path, string body, int status, string field)
    {
        using HttpResponseMessage response = await Host.PostAsync(path, body);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True((int)response.StatusCode == status, $"{(int)response.StatusCode}: {text}");
        JsonElement root = TestHost.Json(text);
        Assert.Equal(["error"], root.EnumerateObject().Select(static m => m.Name));
        string message = root.Str("error");
        Assert.DoesNotContain("response_format", message);      // chat's name for it
        Assert.True(message.StartsWith(field + ":", StringComparison.Ordinal) || message.Contains($"'{field}'", StringComparison.Ordinal), $"{message} does not name {field}");
    }
}
