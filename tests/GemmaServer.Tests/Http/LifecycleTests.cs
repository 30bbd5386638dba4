using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace GemmaServer.Tests.Http;

public sealed class LifecycleTests
{
    private const string Path = "/v1/chat/completions";

    private static ServerOptions Options(
        string[]? keys = null, string? admin = null, int maxQueue = 64, TimeSpan queueTimeout = default, TimeSpan? drain = null, bool strict = false,
        ReasoningField reasoning = ReasoningField.Both) => new()
    {
        Port = 0, LogLevel = LogLevel.None, ServedModelName = ["scripted"], ApiKey = keys ?? [], AdminKey = admin, MaxQueue = maxQueue,
        QueueTimeout = queueTimeout, DrainTimeout = drain ?? TimeSpan.FromSeconds(30), StrictFields = strict, ReasoningField = reasoning,
    };

    [Fact]
    public async Task While_the_model_loads_everything_says_so_but_the_process_lives()
    {
        await using TestHost host = await TestHost.StartAsync(serve: false);
        Assert.Equal(HttpStatusCode.OK, (await host.Client.GetAsync("/livez")).StatusCode);
        foreach (HttpResponseMessage response in (HttpResponseMessage[])[await host.Client.GetAsync("/readyz"), await host.Client.GetAsync("/health"), await host.PostAsync(Path, TestHost.Chat("hello"))])
        {
            Assert.Equal(HttpStatusCode.ServiceUnavailable, response.StatusCode);
            JsonElement error = TestHost.Json(await response.Content.ReadAsStringAsync()).GetProperty("error");
            Assert.Equal("Loading model", error.GetProperty("message").GetString());
            Assert.Equal("model_loading", error.GetProperty("code").GetString());
            Assert.True(response.Headers.RetryAfter!.Delta > TimeSpan.Zero);
        }
        host.App.Serve(host.Model);
        Assert.Equal(HttpStatusCode.OK, (await host.Client.GetAsync("/readyz")).StatusCode);
        await host.AskAsync(Path, TestHost.Chat("hello"));
    }

    [Fact]
    public async Task A_disconnect_frees_the_slot_whole_and_streamed()
    {
        await using TestHost host = await TestHost.StartAsync();
        foreach (string more in (string[])["\"stream\":true", "\"stream\":false", "\"stream\":true,\"n\":3"])
        {
            using CancellationTokenSource leave = new();
            Task<HttpResponseMessage> request = host.PostAsync(Path, TestHost.Chat(ScriptedRunner.Marathon, more), HttpCompletionOption.ResponseHeadersRead, leave.Token);
            await TestHost.UntilAsync(() => host.Runner.OpenSlots > 0, "the request runs");
            if (more.Contains("true")) (await request).Dispose();
            await leave.CancelAsync();
            await TestHost.UntilAsync(() => host.Runner.OpenSlots == 0 && host.Server.InFlight == 0, "the slot is free");
            await Assert.ThrowsAnyAsync<Exception>(async () => await (await request).Content.ReadAsStringAsync());
        }
        Assert.Equal(0, host.Model.Engine.Metrics.Running);
        Assert.Contains("gemmaserver_request_success_total{model_name=\"scripted\",engine=\"0\",finished_reason=\"abort\"} 3", await host.Client.GetStringAsync("/metrics"));
    }

    [Fact]
    public async Task Draining_refuses_new_requests_and_lets_running_ones_finish()
    {
        await using TestHost host = await TestHost.StartAsync(Options(admin: "boss"));
        using HttpResponseMessage running = await host.PostAsync(Path, TestHost.Chat(ScriptedRunner.Marathon, "\"stream\":true"), HttpCompletionOption.ResponseHeadersRead);
        using HttpRequestMessage drain = new(HttpMethod.Post, "/drain");
        drain.Headers.Authorization = new AuthenticationHeaderValue("Bearer", "boss");
        using HttpResponseMessage accepted = await host.Client.SendAsync(drain);
        Assert.Equal(HttpStatusCode.Accepted, accepted.StatusCode);
        await TestHost.UntilAsync(() => host.Server.IsDraining, "it drains");

        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await host.Client.GetAsync("/readyz")).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await host.Client.GetAsync("/livez")).StatusCode);
        using HttpResponseMessage refused = await host.PostAsync(Path, TestHost.Chat("hello"));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, refused.StatusCode);
        Assert.Equal("true", refused.Headers.GetValues("x-should-retry").Single());
        Assert.True(refused.Headers.Contains("retry-after-ms"));
        Assert.True(refused.Headers.ConnectionClose);

        host.Runner.EndMarathon = true;
        Assert.Equal("[DONE]", TestHost.DataLines(await running.Content.ReadAsStringAsync())[^1]);
        CancellationToken stopping = host.App.Services.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping;
        await TestHost.UntilAsync(() => stopping.IsCancellationRequested, "the host stops");
    }

    [Fact]
    public async Task When_the_drain_timeout_is_over_a_stream_ends_with_an_error_and_no_end_mark()
    {
        await using TestHost host = await TestHost.StartAsync(Options(drain: TimeSpan.FromMilliseconds(50)));
        using HttpResponseMessage running = await host.PostAsync(Path, TestHost.Chat(ScriptedRunner.Marathon, "\"stream\":true"), HttpCompletionOption.ResponseHeadersRead);
        Task<HttpResponseMessage> whole = host.PostAsync(Path, TestHost.Chat(ScriptedRunner.Marathon));
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 2, "both run");
        Assert.False(await host.Server.DrainAsync());
        List<string> lines = TestHost.DataLines(await running.Content.ReadAsStringAsync());
        Assert.Equal("service_unavailable", TestHost.Json(lines[^1]).GetProperty("error").GetProperty("code").GetString());
        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await whole).StatusCode);
    }

    [Fact]
    public async Task A_failure_before_the_first_token_is_an_HTTP_error_and_after_it_an_event_without_end_mark()
    {
        await using TestHost host = await TestHost.StartAsync();
        foreach (string stream in (string[])["true", "false"])
        {
            using HttpResponseMessage failed = await host.PostAsync(Path, TestHost.Chat(ScriptedRunner.Explode, $"\"stream\":{stream}"));
            string text = await failed.Content.ReadAsStringAsync();
            Assert.Equal(HttpStatusCode.InternalServerError, failed.StatusCode);
            JsonElement error = TestHost.Json(text).GetProperty("error");
            Assert.Equal("server_error", error.GetProperty("type").GetString());
            Assert.Contains(failed.Headers.GetValues("x-request-id").Single(), error.GetProperty("message").GetString());
            Assert.DoesNotContain("as scripted", text);
        }
        host.Runner.Answers[ScriptedRunner.BreakOff] = "one two three four five six seven eight nine ten";
        List<string> lines = await host.StreamAsync(Path, TestHost.Chat(ScriptedRunner.BreakOff, "\"stream\":true"));
        Assert.DoesNotContain("[DONE]", lines);
        Assert.Equal("server_error", TestHost.Json(lines[^1]).GetProperty("error").GetProperty("type").GetString());
        Assert.True(lines.Count > 2);
        await host.AskAsync(Path, TestHost.Chat("hello"));
    }

    [Fact]
    public async Task A_silent_stream_shows_life_with_comments()
    {
        await using TestHost host = await TestHost.StartAsync(
            script: static r => r.SlowStep = TimeSpan.FromMilliseconds(600), settings: static s => s.KeepAlive = TimeSpan.FromMilliseconds(50));
        using HttpResponseMessage response = await host.PostAsync(Path, TestHost.Chat(ScriptedRunner.Slow, "\"stream\":true"), HttpCompletionOption.ResponseHeadersRead);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(text.Split(": keep-alive\n\n").Length > 3, text);
        Assert.Equal("[DONE]", TestHost.DataLines(text)[^1]);
        Assert.Equal("You said: slow", ChatTests.Joined.Of(TestHost.DataLines(text)).Content.ToString());
    }

    [Fact]
    public async Task A_full_queue_is_503_that_may_be_retried_elsewhere()
    {
        await using TestHost host = await TestHost.StartAsync(Options(maxQueue: 1), maxSequences: 1);
        using CancellationTokenSource leave = new();
        Task<HttpResponseMessage> running = host.PostAsync(Path, TestHost.Chat(ScriptedRunner.Marathon), cancellation: leave.Token);
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 1, "one runs");
        Task<HttpResponseMessage> waiting = host.PostAsync(Path, TestHost.Chat("hello"), cancellation: leave.Token);
        await TestHost.UntilAsync(() => host.Model.Engine.Metrics.Waiting == 1, "one waits");
        using HttpResponseMessage refused = await host.PostAsync(Path, TestHost.Chat("hello", "\"stream\":true"));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, refused.StatusCode);
        Assert.Equal("service_unavailable", TestHost.Json(await refused.Content.ReadAsStringAsync()).GetProperty("error").GetProperty("code").GetString());
        Assert.Equal("true", refused.Headers.GetValues("x-should-retry").Single());
        Assert.NotNull(refused.Headers.RetryAfter);
        host.Runner.EndMarathon = true;
        Assert.Equal(HttpStatusCode.OK, (await running).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await waiting).StatusCode);
    }

    [Fact]
    public async Task A_request_leaves_the_queue_when_its_time_is_over()
    {
        await using TestHost host = await TestHost.StartAsync(Options(queueTimeout: TimeSpan.FromMilliseconds(50)), maxSequences: 1);
        Task<HttpResponseMessage> running = host.PostAsync(Path, TestHost.Chat(ScriptedRunner.Marathon));
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 1, "one runs");
        using HttpResponseMessage refused = await host.PostAsync(Path, TestHost.Chat("hello"));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, refused.StatusCode);
        Assert.Equal("queue_timeout", TestHost.Json(await refused.Content.ReadAsStringAsync()).GetProperty("error").GetProperty("code").GetString());
        host.Runner.EndMarathon = true;
        Assert.Equal(HttpStatusCode.OK, (await running).StatusCode);
    }

    [Theory]
    [InlineData("Authorization", "Bearer one", 200, null)]
    [InlineData("Authorization", "bearer two", 200, null)]
    [InlineData("x-api-key", "two", 200, null)]
    [InlineData("api-key", "one", 200, null)]
    [InlineData("Authorization", "Bearer boss", 200, null)]
    [InlineData("Authorization", "Bearer three-is-not-one", 401, "invalid_api_key")]
    [InlineData("Authorization", "Bearer on", 401, "invalid_api_key")]
    [InlineData("Authorization", "Basic one", 401, null)]
    [InlineData("x-other", "one", 401, null)]
    public async Task Only_a_known_key_opens_the_API(string header, string value, int status, string? code)
    {
        await using TestHost host = await TestHost.StartAsync(Options(keys: ["one", "two"], admin: "boss"));
        using HttpRequestMessage request = new(HttpMethod.Get, "/v1/models");
        request.Headers.TryAddWithoutValidation(header, value);
        using HttpResponseMessage response = await host.Client.SendAsync(request);
        Assert.Equal(status, (int)response.StatusCode);
        if (status == 200) return;
        string text = await response.Content.ReadAsStringAsync();
        Assert.Equal(code, TestHost.Json(text).GetProperty("error").GetProperty("code").GetString());
        Assert.DoesNotContain("three-is-not-one", text);
        Assert.NotEmpty(response.Headers.WwwAuthenticate);
        foreach (string open in (string[])["/health", "/livez", "/readyz", "/metrics", "/version"])
            Assert.Equal(HttpStatusCode.OK, (await host.Client.GetAsync(open)).StatusCode);
        Assert.Equal(HttpStatusCode.Unauthorized, (await host.PostAsync("/tokenize", "{\"prompt\":\"a\"}")).StatusCode);
    }

    [Theory]
    [InlineData("user", "boss", 403)]
    [InlineData("nobody", "boss", 401)]
    [InlineData(null, "boss", 401)]
    [InlineData("user", null, 403)]
    [InlineData(null, null, 403)]
    public async Task Admin_routes_open_to_the_admin_key_alone(string? key, string? admin, int status)
    {
        await using TestHost host = await TestHost.StartAsync(Options(keys: ["user"], admin: admin));
        using HttpRequestMessage request = new(HttpMethod.Post, "/drain");
        if (key is not null) request.Headers.Add("x-api-key", key);
        using HttpResponseMessage response = await host.Client.SendAsync(request);
        Assert.Equal(status, (int)response.StatusCode);
        Assert.False(host.Server.IsDraining);
    }

    [Fact]
    public async Task Unknown_members_are_accepted_unless_strict()
    {
        await using TestHost lax = await TestHost.StartAsync();
        await lax.AskAsync(Path, TestHost.Chat("hello", "\"foo\":1"));
        await using TestHost strict = await TestHost.StartAsync(Options(strict: true));
        using HttpResponseMessage refused = await strict.PostAsync(Path, TestHost.Chat("hello", "\"foo\":1"));
        JsonElement error = TestHost.Json(await refused.Content.ReadAsStringAsync()).GetProperty("error");
        Assert.Equal("unknown_parameter", error.GetProperty("code").GetString());
        Assert.Equal("foo", error.GetProperty("param").GetString());
        await strict.AskAsync(Path, TestHost.Chat("hello", "\"temperature\":0,\"tools\":[],\"user\":\"me\",\"store\":false"));
    }

    [Theory]
    [InlineData(ReasoningField.Reasoning, "reasoning", "reasoning_content")]
    [InlineData(ReasoningField.ReasoningContent, "reasoning_content", "reasoning")]
    public async Task The_name_of_the_thought_can_be_chosen(ReasoningField field, string there, string missing)
    {
        await using TestHost host = await TestHost.StartAsync(Options(reasoning: field), static r => r.Answers["think"] = ScriptedHost.Scripts["think"]);
        JsonElement message = (await host.AskAsync(Path, TestHost.Chat("think"))).GetProperty("choices")[0].GetProperty("message");
        Assert.Equal("Two and two. Four.", message.GetProperty(there).GetString());
        Assert.False(message.TryGetProperty(missing, out _));
    }
}
