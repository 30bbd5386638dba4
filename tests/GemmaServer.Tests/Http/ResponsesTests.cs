using System.Text.Json;
using static GemmaServer.Tests.Http.ResponseStreamReader;

namespace GemmaServer.Tests.Http;

/// <summary><c>POST /v1/responses</c>: what an answer holds, whole and streamed.</summary>
public sealed class ResponsesTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private const string Path = "/v1/responses";
    private const string Tools = "\"tools\":[{\"type\":\"function\",\"name\":\"get_weather\",\"description\":\"d\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}}}]";

    public static TheoryData<string> Scripts => [.. ScriptedHost.Scripts.Keys.Where(static k => k != "tool result")];

    private TestHost Host => fixture.Host;

    internal static string Ask(string input, string more = "") => $"{{\"input\":{JsonSerializer.Serialize(input)}{(more.Length > 0 ? "," : "")}{more}}}";

    private static string Streamed(string request) => request[..^1] + ",\"stream\":true}";

    [Fact]
    public async Task A_whole_answer_has_every_member_that_clients_require()
    {
        JsonElement answer = await Host.AskAsync(Path, Ask("hello", "\"cache_salt\":\"whole\",\"temperature\":0.5"));
        Assert.Matches("^resp_[0-9a-f]{32}$", answer.GetProperty("id").GetString());
        JsonElement item = answer.GetProperty("output")[0];
        Assert.Matches("^msg_[0-9a-f]{32}$", item.GetProperty("id").GetString());
        long created = answer.GetProperty("created_at").GetInt64();
        Assert.InRange(created, DateTimeOffset.UtcNow.ToUnixTimeSeconds() - 600, answer.GetProperty("completed_at").GetInt64());
        int prompt = answer.GetProperty("usage").GetProperty("input_tokens").GetInt32();
        int output = TestHost.Tokenizer.Encode("Hello! I am a test.", parseSpecial: false).Length + 1;      // and the stop token
        Assert.Equal(
            "{\"id\":0,\"object\":\"response\",0,0,\"status\":\"completed\",\"error\":null,\"incomplete_details\":null,\"model\":\"scripted\","
            + "\"output\":[{\"id\":0,\"type\":\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hello! I am a test.\",\"annotations\":[],\"logprobs\":[]}]}],"
            + "\"background\":false,\"instructions\":null,\"max_output_tokens\":null,\"max_tool_calls\":null,\"parallel_tool_calls\":true,\"previous_response_id\":null,\"prompt_cache_key\":null,"
            + "\"reasoning\":{\"effort\":null,\"summary\":null},\"safety_identifier\":null,\"service_tier\":\"default\",\"temperature\":0.5,\"text\":{\"format\":{\"type\":\"text\"},\"verbosity\":\"medium\"},"
            + "\"tool_choice\":\"auto\",\"tools\":[],\"top_logprobs\":0,\"top_p\":0.95,\"truncation\":\"disabled\",\"presence_penalty\":0,\"frequency_penalty\":0,\"store\":true,\"metadata\":{},"
            + $"\"usage\":{{\"input_tokens\":{prompt},\"input_tokens_details\":{{\"cached_tokens\":0,\"cache_write_tokens\":0}},\"output_tokens\":{output},\"output_tokens_details\":{{\"reasoning_tokens\":0}},\"total_tokens\":{prompt + output}}}}}",
            WithoutIds(answer));
    }

    [Fact]
    public async Task What_the_request_set_is_repeated()
    {
        JsonElement answer = await Host.AskAsync(Path, Ask("hello", Tools + ",\"instructions\":\"Be short.\",\"max_output_tokens\":99,\"max_tool_calls\":3,\"parallel_tool_calls\":false,"
            + "\"prompt_cache_key\":\"k\",\"reasoning\":{\"effort\":\"low\",\"summary\":\"auto\"},\"safety_identifier\":\"s\",\"service_tier\":\"flex\",\"text\":{\"format\":{\"type\":\"text\"},\"verbosity\":\"low\"},"
            + "\"tool_choice\":\"none\",\"top_p\":0.5,\"truncation\":\"auto\",\"presence_penalty\":1,\"frequency_penalty\":-1,\"store\":false,\"metadata\":{\"a\":\"b\"},\"user\":\"u\",\"model\":\"alias/of it\""));
        Assert.Equal(
            "\"instructions\":\"Be short.\",\"max_output_tokens\":99,\"max_tool_calls\":3,\"parallel_tool_calls\":false,\"previous_response_id\":null,\"prompt_cache_key\":\"k\","
            + "\"reasoning\":{\"effort\":\"low\",\"summary\":\"auto\"},\"safety_identifier\":\"s\",\"service_tier\":\"default\",\"temperature\":1,\"text\":{\"format\":{\"type\":\"text\"},\"verbosity\":\"low\"},"
            + "\"tool_choice\":\"none\",\"tools\":[{\"type\":\"function\",\"name\":\"get_weather\",\"description\":\"d\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}},\"strict\":false}],"
            + "\"top_logprobs\":0,\"top_p\":0.5,\"truncation\":\"auto\",\"presence_penalty\":1,\"frequency_penalty\":-1,\"user\":\"u\",\"store\":false,\"metadata\":{\"a\":\"b\"}",
            Between(answer.GetRawText(), "\"background\":false,", ",\"usage\""));
    }

    [Fact]
    public async Task Sampling_reaches_the_sampler()
    {
        await Host.AskAsync(Path, Ask("hello", "\"temperature\":0.5,\"top_p\":0.25,\"top_k\":7,\"seed\":9,\"presence_penalty\":1,\"max_output_tokens\":3"));
        var sampling = Host.Runner.LastSampling!;
        Assert.Equal((0.5f, 0.25f, 7, 9ul, 1f), (sampling.Temperature, sampling.TopP, sampling.TopK, sampling.Seed, sampling.PresencePenalty));
    }

    [Theory]
    [MemberData(nameof(Scripts))]
    public async Task A_stream_joined_is_the_whole_answer(string user)
    {
        string request = Ask(user, Tools + ",\"reasoning\":{\"effort\":\"low\"},\"include\":[\"message.output_text.logprobs\"],\"top_logprobs\":1,\"cache_salt\":\"" + user + "\"");
        JsonElement whole = await Host.AskAsync(Path, request);
        List<JsonElement> events = await Host.StreamResponseAsync(Streamed(request).Replace("cache_salt\":\"", "cache_salt\":\"2"));
        Assert.Equal("response.completed", TypeOf(events[^1]));
        JsonElement last = events[^1].GetProperty("response");
        Assert.Equal(WithoutIds(whole), WithoutIds(last));

        List<JsonElement> items = [.. last.GetProperty("output").EnumerateArray()];
        Assert.Equal(items.Select(static i => (i.GetProperty("type").GetString()!, TextOf(i))), Join(events));
        Assert.Equal(items.Select(static i => i.GetRawText()), events.Where(static e => TypeOf(e) == "response.output_item.done").Select(static e => e.GetProperty("item").GetRawText()));
        Assert.Equal(
            items.Where(static i => i.GetProperty("type").GetString() == "message").SelectMany(static i => i.GetProperty("content")[0].GetProperty("logprobs").EnumerateArray()).Select(static l => l.GetRawText()),
            events.Where(static e => TypeOf(e) == "response.output_text.delta").SelectMany(static e => e.GetProperty("logprobs").EnumerateArray()).Select(static l => l.GetRawText()));
    }

    [Fact]
    public async Task Text_streams_in_the_published_order()
    {
        List<JsonElement> events = await Host.StreamResponseAsync(Ask("long", "\"stream\":true"));
        Assert.Equal(
            ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"], Order(events));
        Assert.InRange(events.Count(static e => TypeOf(e) == "response.output_text.delta"), 2, 200);    // no more than AnswerLoop.MostAtOnce tokens in one
        foreach (JsonElement first in events[..2].Select(static e => e.GetProperty("response")))
        {
            Assert.Equal("in_progress", first.GetProperty("status").GetString());
            Assert.Equal(0, first.GetProperty("output").GetArrayLength());
            Assert.Equal(events[^1].GetProperty("response").GetProperty("id").GetString(), first.GetProperty("id").GetString());
            Assert.Equal(events[^1].GetProperty("response").EnumerateObject().Select(static m => m.Name), first.EnumerateObject().Select(static m => m.Name));
        }
    }

    [Fact]
    public async Task Every_event_has_its_members()
    {
        Dictionary<string, string> members = new()
        {
            ["output_item.added"] = "output_index,item", ["output_item.done"] = "output_index,item",
            ["content_part.added"] = "item_id,output_index,content_index,part", ["content_part.done"] = "item_id,output_index,content_index,part",
            ["output_text.delta"] = "item_id,output_index,content_index,delta,logprobs", ["output_text.done"] = "item_id,output_index,content_index,text,logprobs",
            ["reasoning_text.delta"] = "item_id,output_index,content_index,delta", ["reasoning_text.done"] = "item_id,output_index,content_index,text",
            ["function_call_arguments.delta"] = "item_id,output_index,delta", ["function_call_arguments.done"] = "item_id,output_index,name,arguments",
            ["created"] = "response", ["in_progress"] = "response", ["completed"] = "response",
        };
        HashSet<string> seen = [];
        foreach (string user in (string[])["think", "two calls"])
        {
            foreach (JsonElement e in await Host.StreamResponseAsync(Ask(user, "\"stream\":true,\"reasoning\":{\"effort\":\"low\"}")))
            {
                string name = TypeOf(e)["response.".Length..];
                seen.Add(name);
                Assert.Equal($"type,sequence_number,{members[name]}", string.Join(',', e.EnumerateObject().Select(static m => m.Name)));
            }
        }
        Assert.Equal(members.Keys.Order(), seen.Order());
    }

    [Fact]
    public async Task A_thought_is_an_item_of_its_own_before_the_message()
    {
        string request = Ask("think", "\"reasoning\":{\"effort\":\"low\"}");
        JsonElement answer = await Host.AskAsync(Path, request);
        Assert.Contains("<|think|>", Host.Runner.LastPrompt);
        Assert.Equal("""[{"id":0,"type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"Two and two. Four."}]},{"id":0,"type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"The answer is 4.","annotations":[],"logprobs":[]}]}]""",
            WithoutIds(answer.GetProperty("output")));
        int thought = TestHost.Tokenizer.Encode("Two and two. Four.", parseSpecial: false).Length;
        Assert.InRange(answer.GetProperty("usage").GetProperty("output_tokens_details").GetProperty("reasoning_tokens").GetInt32(), thought, thought + 12);
        Assert.Equal(
            ["created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done",
             "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"],
            Order(await Host.StreamResponseAsync(Streamed(request))));
        await Host.AskAsync(Path, Ask("think", "\"reasoning\":{\"effort\":\"none\"}"));
        Assert.DoesNotContain("<|think|>", Host.Runner.LastPrompt);
    }

    [Fact]
    public async Task Parallel_calls_and_the_text_before_them_are_items_in_order()
    {
        string request = Ask("two calls", Tools);
        JsonElement output = (await Host.AskAsync(Path, request)).GetProperty("output");
        Assert.Equal(
            """[{"id":0,"type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Let me see.","annotations":[],"logprobs":[]}]},"""
            + """{"id":0,"type":"function_call","status":"completed","call_id":0,"name":"first","arguments":"{\"x\":1.50,\"deep\":{\"list\":[true,null,\"ä\\\"\\\\\"]}}"},"""
            + """{"id":0,"type":"function_call","status":"completed","call_id":0,"name":"second","arguments":"{}"}]""", WithoutIds(output));
        Assert.Equal(5, output.EnumerateArray().SelectMany(static i => i.EnumerateObject()).Where(static m => m.Name is "id" or "call_id").Select(static m => m.Value.GetString()).Distinct().Count());
        List<JsonElement> events = await Host.StreamResponseAsync(Streamed(request));
        Assert.Equal(
            ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
             "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
             "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done", "completed"], Order(events));
        foreach (JsonElement call in events.Where(static e => TypeOf(e) == "response.output_item.added").Select(static e => e.GetProperty("item")).Skip(1))
            Assert.Equal("", call.GetProperty("arguments").GetString());
        Assert.Single((await Host.AskAsync(Path, Ask("weather", Tools + ",\"parallel_tool_calls\":false"))).GetProperty("output").EnumerateArray());
    }

    [Fact]
    public async Task Text_after_a_call_is_a_message_of_its_own_with_its_own_logprobs()
    {
        await using TestHost host = await TestHost.StartAsync(script: static r =>
            r.Answers["both sides"] = "One.<|tool_call>call:f{}<tool_call|>Two.<|tool_call>call:g{}<tool_call|><|channel>thought\nHm.<channel|>Three.");
        string request = Ask("both sides", "\"reasoning\":{\"effort\":\"low\"},\"include\":[\"message.output_text.logprobs\"]");
        List<JsonElement> items = [.. (await host.AskAsync(Path, request)).GetProperty("output").EnumerateArray()];
        Assert.Equal(["message One.", "function_call {}", "message Two.", "function_call {}", "reasoning Hm.", "message Three."], items.Select(static i => i.GetProperty("type").GetString() + " " + TextOf(i)));
        List<JsonElement> last = [.. (await host.StreamResponseAsync(Streamed(request)))[^1].GetProperty("response").GetProperty("output").EnumerateArray()];
        foreach (JsonElement message in items.Concat(last).Where(static i => i.GetProperty("type").GetString() == "message"))
            Assert.Equal(TextOf(message), string.Concat(message.GetProperty("content")[0].GetProperty("logprobs").EnumerateArray().Select(static l => l.GetProperty("token").GetString())));
    }

    [Fact]
    public async Task The_token_limit_makes_a_response_incomplete()
    {
        string request = Ask("long", "\"max_output_tokens\":5");
        JsonElement answer = await Host.AskAsync(Path, request);
        Assert.Equal("incomplete", answer.GetProperty("status").GetString());
        Assert.Equal("""{"reason":"max_output_tokens"}""", answer.GetProperty("incomplete_details").GetRawText());
        Assert.Equal(JsonValueKind.Null, answer.GetProperty("completed_at").ValueKind);
        Assert.Equal("incomplete", answer.GetProperty("output")[0].GetProperty("status").GetString());
        Assert.Equal(5, answer.GetProperty("usage").GetProperty("output_tokens").GetInt32());
        List<JsonElement> events = await Host.StreamResponseAsync(Streamed(request));
        Assert.Equal(["output_item.done", "incomplete"], Order(events)[^2..]);
        Assert.Equal(WithoutIds(answer.GetProperty("output")), WithoutIds(events[^1].GetProperty("response").GetProperty("output")));
    }

    [Fact]
    public async Task A_call_that_the_limit_cut_is_incomplete_and_its_arguments_are_never_done()
    {
        int tokens = TestHost.Tokenizer.Encode("<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>,", parseSpecial: true).Length;
        string request = Ask("weather", Tools + $",\"max_output_tokens\":{tokens}");
        JsonElement answer = await Host.AskAsync(Path, request);
        JsonElement call = Assert.Single(answer.GetProperty("output").EnumerateArray());
        Assert.Equal(("function_call", "incomplete"), (call.GetProperty("type").GetString(), call.GetProperty("status").GetString()));
        List<JsonElement> events = await Host.StreamResponseAsync(Streamed(request));
        Assert.DoesNotContain("function_call_arguments.done", Order(events));
        Assert.Equal(["output_item.done", "incomplete"], Order(events)[^2..]);

        // It needs no output to go on.
        JsonElement next = await Host.AskAsync(Path, Ask("hello", $"\"previous_response_id\":\"{answer.GetProperty("id").GetString()}\""));
        Assert.Equal("completed", next.GetProperty("status").GetString());
        Assert.DoesNotContain("call:get_weather", Host.Runner.LastPrompt);
    }

    [Fact]
    public async Task An_answer_without_a_word_is_an_empty_message()
    {
        JsonElement item = Assert.Single((await Host.AskAsync(Path, Ask("nothing"))).GetProperty("output").EnumerateArray());
        Assert.Equal(("message", ""), (item.GetProperty("type").GetString(), TextOf(item)));
        Assert.Equal(
            ["created", "in_progress", "output_item.added", "content_part.added", "output_text.done", "content_part.done", "output_item.done", "completed"],
            Order(await Host.StreamResponseAsync(Ask("nothing", "\"stream\":true"))));
    }

    [Fact]
    public async Task Cached_tokens_are_told()
    {
        string request = Ask("hello", "\"cache_salt\":\"told\"");
        JsonElement first = (await Host.AskAsync(Path, request)).GetProperty("usage"), second = (await Host.AskAsync(Path, request)).GetProperty("usage");
        Assert.Equal(0, first.GetProperty("input_tokens_details").GetProperty("cached_tokens").GetInt32());
        int cached = second.GetProperty("input_tokens_details").GetProperty("cached_tokens").GetInt32();
        Assert.Equal((second.GetProperty("input_tokens").GetInt32() - 1) / 16 * 16, cached);
        Assert.True(cached > 0);
    }

    [Fact]
    public async Task Counting_gives_the_prompt_that_a_response_would_have()
    {
        foreach (string request in (string[])[Ask("hello"), Ask("think", Tools + ",\"instructions\":\"Be short.\",\"reasoning\":{\"effort\":\"low\"}")])
        {
            JsonElement count = await Host.AskAsync(Path + "/input_tokens", request);
            Assert.Equal("response.input_tokens", count.GetProperty("object").GetString());
            Assert.Equal((await Host.AskAsync(Path, request)).GetProperty("usage").GetProperty("input_tokens").GetInt32(), count.GetProperty("input_tokens").GetInt32());
        }
        // What is too long to be answered can be counted: that is what it is for.
        Assert.InRange((await Host.AskAsync(Path + "/input_tokens", Ask(string.Concat(Enumerable.Repeat("word ", 6000))))).GetProperty("input_tokens").GetInt32(), TestHost.MaxModelLength, 60_000);
    }

    [Fact]
    public async Task A_disconnect_frees_the_slot_whole_and_streamed()
    {
        await using TestHost host = await TestHost.StartAsync();
        foreach (string more in (string[])["\"stream\":true", "\"stream\":false"])
        {
            using CancellationTokenSource leave = new();
            Task<HttpResponseMessage> request = host.PostAsync(Path, Ask(ScriptedRunner.Marathon, more), HttpCompletionOption.ResponseHeadersRead, leave.Token);
            await TestHost.UntilAsync(() => host.Runner.OpenSlots > 0, "the request runs");
            if (more.Contains("true")) (await request).Dispose();
            await leave.CancelAsync();
            await TestHost.UntilAsync(() => host.Runner.OpenSlots == 0 && host.Server.InFlight == 0, "the slot is free");
            await Assert.ThrowsAnyAsync<Exception>(async () => await (await request).Content.ReadAsStringAsync());
        }
        Assert.Equal(0, host.Server.Responses.Count);
    }

    [Fact]
    public async Task Errors_come_as_http_errors_before_the_first_event_and_as_a_failed_response_after_it()
    {
        await using TestHost host = await TestHost.StartAsync();
        using HttpResponseMessage response = await host.PostAsync(Path, Ask(ScriptedRunner.Explode, "\"stream\":true"));
        Assert.Equal(500, (int)response.StatusCode);

        await using TestHost breaking = await TestHost.StartAsync(script: static r => r.Answers[ScriptedRunner.BreakOff] = "one two three four five six seven eight");
        List<JsonElement> events = await breaking.StreamResponseAsync(Ask(ScriptedRunner.BreakOff, "\"stream\":true"));
        Assert.Equal("response.created", TypeOf(events[0]));
        Assert.Equal("response.failed", TypeOf(events[^1]));
        JsonElement failed = events[^1].GetProperty("response");
        Assert.Equal("failed", failed.GetProperty("status").GetString());
        Assert.Equal("server_error", failed.GetProperty("error").GetProperty("code").GetString());
        Assert.Contains("request id: ", failed.GetProperty("error").GetProperty("message").GetString());
        Assert.Equal(0, breaking.Server.Responses.Count);
    }

    [Fact]
    public async Task A_silent_stream_shows_life_in_comments()
    {
        await using TestHost host = await TestHost.StartAsync(settings: static s => s.KeepAlive = TimeSpan.FromMilliseconds(50), maxSequences: 1);
        Task<HttpResponseMessage> running = host.PostAsync(Path, Ask(ScriptedRunner.Marathon));
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 1, "one runs");
        using HttpResponseMessage waiting = await host.PostAsync(Path, Ask("hello", "\"stream\":true"), HttpCompletionOption.ResponseHeadersRead);
        using StreamReader stream = new(await waiting.Content.ReadAsStreamAsync());
        string text = "";
        while (!text.EndsWith(": keep-alive\n\n", StringComparison.Ordinal)) text += await stream.ReadLineAsync() + "\n";
        host.Runner.EndMarathon = true;
        text += await stream.ReadToEndAsync();
        Assert.Equal("response.completed", TypeOf(Events(text)[^1]));
        (await running).Dispose();
    }

    private static string Between(string text, string from, string to)
    {
        int start = text.IndexOf(from, StringComparison.Ordinal) + from.Length;
        return text[start..text.IndexOf(to, start, StringComparison.Ordinal)];
    }
}
