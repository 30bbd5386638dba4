using System.Net;
using System.Text;
using System.Text.Json;
using GemmaServer.Tests.Text;
using Microsoft.Extensions.Logging;

namespace GemmaServer.Tests.Http;

/// <summary>What operators ask for: abort, cache reset, load; what a request comes to; and where an answer stopped.</summary>
public sealed class OperationsTests
{
    private static ServerOptions Keys { get; } = new() { Port = 0, LogLevel = LogLevel.None, ServedModelName = ["scripted"], ApiKey = ["one", "two"], AdminKey = "boss" };

    [Fact]
    public async Task An_aborted_request_ends_with_an_error_and_frees_its_work()
    {
        await using TestHost host = await TestHost.StartAsync();
        Task<HttpResponseMessage> whole = SendAsync(host, "/v1/chat/completions", TestHost.Chat(ScriptedRunner.Marathon), id: "mine");
        Task<HttpResponseMessage> stream = SendAsync(host, "/v1/chat/completions", TestHost.Chat(ScriptedRunner.Marathon, "\"stream\":true"), id: "streamed");
        Task<HttpResponseMessage> raw = SendAsync(host, "/v1/completions", $"{{\"prompt\":\"{ScriptedRunner.Marathon}\",\"max_tokens\":3000}}", id: "raw");
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 3, "all run");

        JsonElement answer = await host.AskAsync("/abort_requests", """{"request_ids":["mine","streamed","raw","nobody","mine"]}""");
        Assert.Equal(3, answer.GetProperty("aborted").GetInt32());
        foreach (Task<HttpResponseMessage> task in (Task<HttpResponseMessage>[])[whole, raw])
        {
            using HttpResponseMessage aborted = await task;
            Assert.Equal(HttpStatusCode.Conflict, aborted.StatusCode);
            Assert.Equal("request_aborted", TestHost.Json(await aborted.Content.ReadAsStringAsync()).GetProperty("error").Str("code"));
            Assert.Equal("false", aborted.Headers.GetValues("x-should-retry").Single());
        }
        using HttpResponseMessage cut = await stream;
        string text = await cut.Content.ReadAsStringAsync();
        Assert.Contains("request_aborted", text);
        Assert.DoesNotContain("[DONE]", text);
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 0, "the slots are free");
        Assert.Equal(0, (await host.AskAsync("/abort_requests", """{"request_ids":["mine"]}""")).GetProperty("aborted").GetInt32());
    }

    [Fact]
    public async Task A_key_ends_its_own_requests_and_the_admin_key_all()
    {
        await using TestHost host = await TestHost.StartAsync(Keys);
        Task<HttpResponseMessage> first = SendAsync(host, "/v1/chat/completions", TestHost.Chat(ScriptedRunner.Marathon), "a", "one");
        Task<HttpResponseMessage> second = SendAsync(host, "/v1/chat/completions", TestHost.Chat(ScriptedRunner.Marathon), "b", "one");
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 2, "both run");
        Assert.Equal(0, await AbortAsync(host, "a", "two"));
        Assert.Equal(1, await AbortAsync(host, "a", "one"));
        Assert.Equal(1, await AbortAsync(host, "b", "boss"));
        (await first).Dispose();
        (await second).Dispose();
        using HttpResponseMessage refused = await SendAsync(host, "/abort_requests", """{"request_ids":["a"]}""", "c", key: null);
        Assert.Equal(HttpStatusCode.Unauthorized, refused.StatusCode);

        static async Task<int> AbortAsync(TestHost host, string id, string key)
        {
            using HttpResponseMessage response = await SendAsync(host, "/abort_requests", $"{{\"request_ids\":[\"{id}\"]}}", "x", key);
            return TestHost.Json(await response.Content.ReadAsStringAsync()).GetProperty("aborted").GetInt32();
        }
    }

    [Theory]
    [InlineData("{}", "request_ids")]
    [InlineData("""{"request_ids":"a"}""", "request_ids")]
    [InlineData("""{"request_ids":["a",1]}""", "request_ids[1]")]
    public async Task Abort_wants_ids(string body, string field)
    {
        await using TestHost host = await TestHost.StartAsync();
        using HttpResponseMessage response = await host.PostAsync("/abort_requests", body);
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Equal(field, TestHost.Json(await response.Content.ReadAsStringAsync()).GetProperty("error").Str("param"));
    }

    [Theory]
    [InlineData("/reset_prefix_cache")]
    [InlineData("/flush_cache")]
    public async Task A_reset_forgets_cached_prefixes_and_is_for_the_admin(string path)
    {
        await using TestHost host = await TestHost.StartAsync(Keys);
        string chat = TestHost.Chat(string.Concat(Enumerable.Repeat("cached words ", 20)));
        Assert.Equal(0, await CachedAsync());
        Assert.True(await CachedAsync() > 0);
        using HttpResponseMessage refused = await SendAsync(host, path, "", "r", "one");
        Assert.Equal(HttpStatusCode.Forbidden, refused.StatusCode);
        Assert.True(await CachedAsync() > 0);
        using HttpResponseMessage reset = await SendAsync(host, path, "", "r", "boss");
        Assert.Equal(HttpStatusCode.OK, reset.StatusCode);
        Assert.True(TestHost.Json(await reset.Content.ReadAsStringAsync()).GetProperty("pages").GetInt32() > 0);
        Assert.Equal(0, await CachedAsync());

        async Task<int> CachedAsync()
        {
            using HttpResponseMessage response = await SendAsync(host, "/v1/chat/completions", chat, "q", "one");
            JsonElement usage = TestHost.Json(await response.Content.ReadAsStringAsync()).GetProperty("usage");
            return usage.GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32();
        }
    }

    [Fact]
    public async Task A_reset_leaves_running_requests_alone()
    {
        await using TestHost host = await TestHost.StartAsync();
        Task<HttpResponseMessage> running = SendAsync(host, "/v1/chat/completions", TestHost.Chat(ScriptedRunner.Marathon), "m");
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 1, "it runs");
        await host.Model.Engine.ForgetPrefixesAsync();
        host.Runner.EndMarathon = true;
        using HttpResponseMessage answer = await running;
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal(0, host.Model.Engine.Metrics.Failures);
    }

    [Fact]
    public async Task Load_counts_what_is_being_answered()
    {
        await using TestHost host = await TestHost.StartAsync(Keys);
        Assert.Equal("""{"server_load":0}""", await host.Client.GetStringAsync("/load"));
        Task<HttpResponseMessage> running = SendAsync(host, "/v1/chat/completions", TestHost.Chat(ScriptedRunner.Marathon), "m", "one");
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 1, "it runs");
        Assert.Equal("""{"server_load":1}""", await host.Client.GetStringAsync("/load"));
        host.Runner.EndMarathon = true;
        (await running).Dispose();
    }

    [Fact]
    public async Task Props_tell_context_and_places()
    {
        await using TestHost host = await TestHost.StartAsync();
        JsonElement props = TestHost.Json(await host.Client.GetStringAsync("/props"));
        Assert.Equal(TestHost.MaxModelLength, props.GetProperty("default_generation_settings").GetProperty("n_ctx").GetInt32());
        Assert.Equal(TestHost.Options.MaxNumSeqs, props.GetProperty("total_slots").GetInt32());
        Assert.Equal("scripted", props.Str("model_alias"));
    }

    [Fact]
    public async Task Render_gives_the_tokens_and_sampling_of_a_chat_request()
    {
        await using TestHost host = await TestHost.StartAsync();
        string request = TestHost.Chat("hello", "\"temperature\":0.5,\"top_k\":3,\"max_tokens\":9,\"stop\":[\"x\"],\"stop_token_ids\":[7],\"seed\":11,\"logit_bias\":{\"5\":2},\"priority\":4,\"cache_salt\":\"s\"");
        JsonElement rendered = await host.AskAsync("/v1/chat/completions/render", request);
        JsonElement template = await host.AskAsync("/apply-template", request);
        Assert.Equal(template.GetProperty("tokens").GetRawText(), rendered.GetProperty("token_ids").GetRawText());
        JsonElement sampling = rendered.GetProperty("sampling_params");
        Assert.Equal(0.5, sampling.GetProperty("temperature").GetDouble());
        Assert.Equal(3, sampling.GetProperty("top_k").GetInt32());
        Assert.Equal(9, sampling.GetProperty("max_tokens").GetInt32());
        Assert.Equal(11, sampling.GetProperty("seed").GetInt32());
        Assert.Equal("""["x"]""", sampling.GetProperty("stop").GetRawText());
        Assert.Equal("[7]", sampling.GetProperty("stop_token_ids").GetRawText());
        Assert.Equal("""{"5":2}""", sampling.GetProperty("logit_bias").GetRawText());
        Assert.Equal("s", rendered.Str("cache_salt"));
        Assert.Equal(4, rendered.GetProperty("priority").GetInt32());
        Assert.Empty(host.Runner.Opened);

        JsonElement list = await host.AskAsync("/v1/completions/render", """{"prompt":["a b",[1,2,3]],"max_tokens":2}""");
        Assert.Equal(2, list.GetArrayLength());
        Assert.Equal("[1,2,3]", list[1].GetProperty("token_ids").GetRawText());
        Assert.Equal(2, list[0].GetProperty("sampling_params").GetProperty("max_tokens").GetInt32());
    }

    [Theory]
    [InlineData("/v1/chat/completions", "\"messages\":[{\"role\":\"user\",\"content\":\"stop me\"}]")]
    [InlineData("/v1/completions", "\"prompt\":\"stop me\",\"max_tokens\":100")]
    public async Task The_stop_that_ended_an_answer_is_named(string path, string request)
    {
        await using TestHost host = await TestHost.StartAsync(script: static r => r.Answers["stop me"] = "one two STOP three");
        int token = TestHost.Tokenizer.Encode("one two STOP three", parseSpecial: false)[2];
        await CheckAsync("\"stop\":[\"nobody\",\"STOP\"]", "\"STOP\"");
        await CheckAsync("\"stop\":[\"nobody\",\"STOP\"],\"include_stop_str_in_output\":true", "\"STOP\"");
        await CheckAsync($"\"stop_token_ids\":[{token}]", token.ToString());
        await CheckAsync("\"stop\":\"nobody\"", "null");
        await CheckAsync("\"stop\":\"STOP\",\"max_tokens\":2", "null");

        async Task CheckAsync(string more, string expected)
        {
            string body = $"{{{request},{more}}}".Replace("\"max_tokens\":100,\"stop\":\"STOP\",\"max_tokens\":2", "\"stop\":\"STOP\",\"max_tokens\":2");
            JsonElement choice = (await host.AskAsync(path, body)).GetProperty("choices")[0];
            Assert.Equal(expected, choice.GetProperty("stop_reason").GetRawText());
            List<string> lines = await host.StreamAsync(path, body[..^1] + ",\"stream\":true}");
            JsonElement last = TestHost.Json(lines[^2]).GetProperty("choices")[0];
            Assert.Equal(choice.Str("finish_reason"), last.Str("finish_reason"));
            Assert.Equal(expected, last.GetProperty("stop_reason").GetRawText());
        }
    }

    private static Task<HttpResponseMessage> SendAsync(TestHost host, string path, string body, string id, string? key = "one")
    {
        HttpRequestMessage request = new(HttpMethod.Post, path) { Content = new StringContent(body, Encoding.UTF8, "application/json") };
        request.Headers.Add("x-request-id", id);
        if (key is not null) request.Headers.Authorization = new("Bearer", key);
        return host.Client.SendAsync(request);
    }
}
