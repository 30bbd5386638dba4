using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;

namespace GemmaServer.Tests.Http;

/// <summary>Conversations over several responses: by items sent again, by <c>previous_response_id</c>, by references; and what is stored.</summary>
public sealed class ResponsesConversationTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private const string Path = "/v1/responses";
    private const string Tools = "\"tools\":[{\"type\":\"function\",\"name\":\"get_weather\",\"parameters\":{\"type\":\"object\"}}]";

    private TestHost Host => fixture.Host;

    private static string Ask(string input, string more = "") => ResponsesTests.Ask(input, more);

    private static string Id(JsonElement response) => response.GetProperty("id").GetString()!;

    private static ServerOptions Options(string[]? keys = null, int store = 1000) =>
        new() { Port = 0, LogLevel = Microsoft.Extensions.Logging.LogLevel.None, ServedModelName = ["scripted"], ApiKey = keys ?? [], ResponseStore = store };

    private async Task<string> PromptAsync(string json)
    {
        await Host.AskAsync(Path, json);
        return Host.Runner.LastPrompt;
    }

    private static async Task<JsonElement> ErrorAsync(TestHost host, string path, string json, int status)
    {
        using HttpResponseMessage response = await host.PostAsync(path, json);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(status == (int)response.StatusCode, text);
        return TestHost.Json(text).GetProperty("error");
    }

    [Fact]
    public async Task A_previous_response_brings_the_conversation_but_not_its_instructions()
    {
        JsonElement first = await Host.AskAsync(Path, Ask("hello", "\"instructions\":\"First rules.\""));
        JsonElement second = await Host.AskAsync(Path, Ask("unicode", $"\"previous_response_id\":\"{Id(first)}\""));
        Assert.Equal(Id(first), second.GetProperty("previous_response_id").GetString());
        Assert.Equal("<bos><|turn>user\nhello<turn|>\n<|turn>model\nHello! I am a test.<turn|>\n<|turn>user\nunicode<turn|>\n<|turn>model\n", Host.Runner.LastPrompt);
        string third = await PromptAsync(Ask("think", $"\"previous_response_id\":\"{Id(second)}\",\"instructions\":\"Third rules.\""));
        Assert.StartsWith("<bos><|turn>system\nThird rules.<turn|>\n<|turn>user\nhello<turn|>\n<|turn>model\nHello! I am a test.<turn|>\n<|turn>user\nunicode<turn|>\n<|turn>model\nGrüße", third);
        Assert.EndsWith("<|turn>user\nthink<turn|>\n<|turn>model\n", third);
        // It may branch.
        Assert.DoesNotContain("unicode", await PromptAsync(Ask("think", $"\"previous_response_id\":\"{Id(first)}\"")));
    }

    [Theory]
    [InlineData("weather")]
    [InlineData("two calls")]
    public async Task A_tool_round_trip_by_id_by_items_and_by_references_gives_one_prompt(string user)
    {
        JsonElement first = await Host.AskAsync(Path, Ask(user, Tools));
        List<JsonElement> calls = [.. first.GetProperty("output").EnumerateArray().Where(static i => i.GetProperty("type").GetString() == "function_call")];
        string results = string.Join(',', calls.Select(static (c, i) => $"{{\"type\":\"function_call_output\",\"call_id\":\"{c.GetProperty("call_id").GetString()}\",\"output\":\"result {i}\"}}"));
        string byId = await PromptAsync($"{{\"input\":[{results}],\"previous_response_id\":\"{Id(first)}\",{Tools}}}");
        string items = string.Join(',', first.GetProperty("output").EnumerateArray().Select(static i => i.GetRawText()));
        string byItems = await PromptAsync($"{{\"input\":[{{\"role\":\"user\",\"content\":\"{user}\"}},{items},{results}],{Tools}}}");
        string references = string.Join(',', first.GetProperty("output").EnumerateArray().Select(static i => $"{{\"type\":\"item_reference\",\"id\":{i.GetProperty("id").GetRawText()}}}"));
        string byReferences = await PromptAsync($"{{\"input\":[{{\"role\":\"user\",\"content\":\"{user}\"}},{references},{results}],{Tools}}}");
        Assert.Equal(byId, byItems);
        Assert.Equal(byId, byReferences);
        for (int i = 0; i < calls.Count; i++) Assert.Contains($"<|tool_response>response:{calls[i].GetProperty("name").GetString()}{{value:<|\"|>result {i}<|\"|>}}<tool_response|>", byId);

        // The chat API makes the same of the same conversation.
        string chatCalls = string.Join(',', calls.Select(static c => $"{{\"id\":{c.GetProperty("call_id").GetRawText()},\"type\":\"function\",\"function\":{{\"name\":{c.GetProperty("name").GetRawText()},\"arguments\":{c.GetProperty("arguments").GetRawText()}}}}}"));
        string chatResults = string.Join(',', calls.Select(static (c, i) => $"{{\"role\":\"tool\",\"tool_call_id\":{c.GetProperty("call_id").GetRawText()},\"content\":\"result {i}\"}}"));
        string content = user == "two calls" ? "\"Let me see.\"" : "null";
        await Host.AskAsync("/v1/chat/completions", $"{{\"messages\":[{{\"role\":\"user\",\"content\":\"{user}\"}},{{\"role\":\"assistant\",\"content\":{content},\"tool_calls\":[{chatCalls}]}},{chatResults}],"
            + "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":\"object\"}}}]}");
        Assert.Equal(Host.Runner.LastPrompt, byId);
    }

    [Fact]
    public async Task A_thought_comes_back_in_the_open_or_sealed_and_damage_is_found()
    {
        JsonElement first = await Host.AskAsync(Path, Ask("think", "\"reasoning\":{\"effort\":\"low\"},\"store\":false,\"include\":[\"reasoning.encrypted_content\"]"));
        JsonElement thought = first.GetProperty("output")[0];
        string sealedThought = thought.GetProperty("encrypted_content").GetString()!;
        Assert.DoesNotContain("Four", sealedThought);
        const string call = "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"ok\"}";
        string With(string reasoning) => $"{{\"input\":[{{\"role\":\"user\",\"content\":\"think\"}},{reasoning},{call}],\"reasoning\":{{\"effort\":\"low\"}}}}";
        string open = await PromptAsync(With(thought.GetRawText()));
        Assert.Contains("<|channel>thought\nTwo and two. Four.\n<channel|><|tool_call>call:f{}<tool_call|>", open);
        Assert.Equal(open, await PromptAsync(With($"{{\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":\"{sealedThought}\"}}")));
        Assert.Equal(open, await PromptAsync(With("{\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"Two and two. Four.\"}]}")));

        char last = sealedThought.TrimEnd('=')[^2];
        foreach (string bad in (string[])["AAAA", "not base64", sealedThought[..^4], sealedThought.Replace(last, last == 'A' ? 'B' : 'A')])
        {
            JsonElement error = await ErrorAsync(Host, Path, With($"{{\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":\"{bad}\"}}"), 400);
            Assert.Equal(("invalid_encrypted_content", "input[1].encrypted_content"), (error.GetProperty("code").GetString(), error.GetProperty("param").GetString()));
        }
    }

    [Fact]
    public async Task What_is_stored_can_be_read_listed_and_deleted()
    {
        JsonElement answer = await Host.AskAsync(Path,
            """{"input":[{"role":"developer","content":"Be kind."},{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]},{"role":"assistant","content":"c","id":"msg_mine"},{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"t"}]},{"type":"function_call","call_id":"x","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"x","output":[{"type":"input_text","text":"r"}]},{"role":"user","content":"hello"}]}""");
        string url = $"{Path}/{Id(answer)}";
        Assert.Equal(answer.GetRawText(), await Host.Client.GetStringAsync(url));

        JsonElement all = TestHost.Json(await Host.Client.GetStringAsync(url + "/input_items?order=asc"));
        List<JsonElement> items = [.. all.GetProperty("data").EnumerateArray()];
        Assert.Equal(
            ["message developer", "message user", "message assistant", "reasoning", "function_call", "function_call_output", "message user"],
            items.Select(static i => i.GetProperty("type").GetString() + (i.TryGetProperty("role", out JsonElement role) ? " " + role.GetString() : "")));
        Assert.Equal("msg_mine", items[2].GetProperty("id").GetString());
        Assert.Equal("""[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]""", items[1].GetProperty("content").GetRawText());
        Assert.Equal("""[{"type":"output_text","text":"c","annotations":[],"logprobs":[]}]""", items[2].GetProperty("content").GetRawText());
        Assert.Equal("r", items[5].GetProperty("output").GetString());
        Assert.Equal((items[0].GetProperty("id").GetString(), items[6].GetProperty("id").GetString(), false),
            (all.GetProperty("first_id").GetString(), all.GetProperty("last_id").GetString(), all.GetProperty("has_more").GetBoolean()));

        // Pages, latest first unless asked otherwise.
        List<string> paged = [];
        bool more = true;
        for (string after = ""; more; after = "&after=" + paged[^1])
        {
            JsonElement page = TestHost.Json(await Host.Client.GetStringAsync(url + "/input_items?limit=3" + after));
            paged.AddRange(page.GetProperty("data").EnumerateArray().Select(static i => i.GetProperty("id").GetString()!));
            Assert.Equal(paged[^1], page.GetProperty("last_id").GetString());
            more = page.GetProperty("has_more").GetBoolean();
        }
        Assert.Equal(items.Select(static i => i.GetProperty("id").GetString()).Reverse(), paged);

        JsonElement cancel = await ErrorAsync(Host, url + "/cancel", "{}", 400);
        Assert.Equal("Cannot cancel a synchronous response.", cancel.GetProperty("message").GetString());
        using HttpResponseMessage deleted = await Host.Client.DeleteAsync(url);
        Assert.Equal($"{{\"id\":\"{Id(answer)}\",\"object\":\"response\",\"deleted\":true}}", await deleted.Content.ReadAsStringAsync());
        foreach (HttpResponseMessage gone in (HttpResponseMessage[])[await Host.Client.GetAsync(url), await Host.Client.DeleteAsync(url), await Host.Client.GetAsync(url + "/input_items"), await Host.PostAsync(url + "/cancel", "{}")])
        {
            Assert.Equal(HttpStatusCode.NotFound, gone.StatusCode);
            Assert.Contains($"Response with id '{Id(answer)}' not found.", await gone.Content.ReadAsStringAsync());
        }
        JsonElement previous = await ErrorAsync(Host, Path, Ask("hello", $"\"previous_response_id\":\"{Id(answer)}\""), 400);
        Assert.Equal(("previous_response_not_found", "previous_response_id"), (previous.GetProperty("code").GetString(), previous.GetProperty("param").GetString()));
    }

    [Fact]
    public async Task A_streamed_response_is_stored_as_its_last_event_tells_it()
    {
        List<JsonElement> events = await Host.StreamResponseAsync(Ask("two calls", "\"stream\":true"));
        JsonElement response = events[^1].GetProperty("response");
        Assert.Equal(response.GetRawText(), await Host.Client.GetStringAsync($"{Path}/{Id(response)}"));
    }

    [Fact]
    public async Task Nothing_is_stored_that_was_not_to_be()
    {
        JsonElement answer = await Host.AskAsync(Path, Ask("hello", "\"store\":false"));
        Assert.False(answer.GetProperty("store").GetBoolean());
        Assert.Equal(HttpStatusCode.NotFound, (await Host.Client.GetAsync($"{Path}/{Id(answer)}")).StatusCode);
        JsonElement reference = await ErrorAsync(Host, Path, $"{{\"input\":[{{\"type\":\"item_reference\",\"id\":{answer.GetProperty("output")[0].GetProperty("id").GetRawText()}}}]}}", 404);
        Assert.Equal("input", reference.GetProperty("param").GetString());

        await using TestHost off = await TestHost.StartAsync(Options(store: 0));
        answer = await off.AskAsync(Path, Ask("hello"));
        Assert.False(answer.GetProperty("store").GetBoolean());
        Assert.Equal(HttpStatusCode.NotFound, (await off.Client.GetAsync($"{Path}/{Id(answer)}")).StatusCode);
        JsonElement error = await ErrorAsync(off, Path, Ask("hello", $"\"previous_response_id\":\"{Id(answer)}\""), 400);
        Assert.Equal(("unsupported_parameter", "previous_response_id"), (error.GetProperty("code").GetString(), error.GetProperty("param").GetString()));
    }

    [Fact]
    public async Task The_oldest_responses_leave_a_full_store()
    {
        await using TestHost host = await TestHost.StartAsync(Options(store: 2));
        List<string> ids = [];
        for (int i = 0; i < 3; i++) ids.Add(Id(await host.AskAsync(Path, Ask("hello"))));
        List<int> statuses = [];
        foreach (string id in ids) statuses.Add((int)(await host.Client.GetAsync($"{Path}/{id}")).StatusCode);
        Assert.Equal("404 200 200", string.Join(' ', statuses));
        Assert.Equal(2, host.Server.Responses.Count);
    }

    [Fact]
    public async Task Nobody_sees_what_was_stored_with_another_key_or_for_another_tenant()
    {
        await using TestHost host = await TestHost.StartAsync(Options(keys: ["one", "two"]));
        async Task<HttpResponseMessage> As(string key, string? tenant, HttpMethod method, string path, string? json = null)
        {
            HttpRequestMessage request = new(method, path) { Content = json is null ? null : new StringContent(json, new MediaTypeHeaderValue("application/json")) };
            request.Headers.Authorization = new("Bearer", key);
            if (tenant is not null) request.Headers.Add(RequestOrigin.FairnessHeader, tenant);
            return await host.Client.SendAsync(request);
        }
        JsonElement answer = TestHost.Json(await (await As("one", null, HttpMethod.Post, Path, Ask("hello"))).Content.ReadAsStringAsync());
        string url = $"{Path}/{Id(answer)}", next = Ask("hello", $"\"previous_response_id\":\"{Id(answer)}\"");
        string reference = $"{{\"input\":[{{\"id\":{answer.GetProperty("output")[0].GetProperty("id").GetRawText()}}}]}}";
        foreach ((string key, string? tenant) in ((string, string?)[])[("two", null), ("one", "other"), ("two", "other")])
        {
            Assert.Equal(404, (int)(await As(key, tenant, HttpMethod.Get, url)).StatusCode);
            Assert.Equal(404, (int)(await As(key, tenant, HttpMethod.Get, url + "/input_items")).StatusCode);
            Assert.Equal(404, (int)(await As(key, tenant, HttpMethod.Post, url + "/cancel", "{}")).StatusCode);
            Assert.Equal(404, (int)(await As(key, tenant, HttpMethod.Delete, url)).StatusCode);
            Assert.Equal(400, (int)(await As(key, tenant, HttpMethod.Post, Path, next)).StatusCode);
            Assert.Equal(404, (int)(await As(key, tenant, HttpMethod.Post, Path, reference)).StatusCode);
        }
        Assert.Equal(200, (int)(await As("one", null, HttpMethod.Get, url)).StatusCode);
        Assert.Equal(200, (int)(await As("one", null, HttpMethod.Post, Path, next)).StatusCode);
        Assert.Equal(401, (int)(await As("three", null, HttpMethod.Get, url)).StatusCode);
    }

    [Fact]
    public async Task Truncation_drops_the_oldest_turns_until_the_rest_fits()
    {
        string filler = string.Concat(Enumerable.Repeat("word ", 200));
        string turns = string.Join(',', Enumerable.Range(0, 30).Select(i => $"{{\"role\":\"user\",\"content\":\"turn {i} {filler}\"}},{{\"role\":\"assistant\",\"content\":\"answer {i}\"}}"));
        string request = $"{{\"instructions\":\"Rules.\",\"input\":[{turns},{{\"role\":\"user\",\"content\":\"hello\"}}],\"max_output_tokens\":4}}";
        JsonElement error = await ErrorAsync(Host, Path, request, 400);
        Assert.Equal(("context_length_exceeded", "input"), (error.GetProperty("code").GetString(), error.GetProperty("param").GetString()));

        JsonElement answer = await Host.AskAsync(Path, request[..^1] + ",\"truncation\":\"auto\"}");
        string prompt = Host.Runner.LastPrompt;
        Assert.StartsWith("<bos><|turn>system\nRules.<turn|>\n<|turn>user\nturn ", prompt);
        Assert.EndsWith("answer 29<turn|>\n<|turn>user\nhello<turn|>\n<|turn>model\n", prompt);
        // No more went than had to: one turn more would not have fitted.
        int kept = Enumerable.Range(0, 30).Count(i => prompt.Contains($"turn {i} w"));
        int tokens = answer.GetProperty("usage").GetProperty("input_tokens").GetInt32();
        Assert.InRange(tokens, TestHost.MaxModelLength - tokens / kept - 50, TestHost.MaxModelLength - 1);
        Assert.DoesNotContain($"answer {29 - kept}<", prompt);

        // A question that is too long by itself stays refused.
        error = await ErrorAsync(Host, Path, Ask(string.Concat(Enumerable.Repeat(filler, 40)), "\"truncation\":\"auto\""), 400);
        Assert.Equal("context_length_exceeded", error.GetProperty("code").GetString());
    }
}
