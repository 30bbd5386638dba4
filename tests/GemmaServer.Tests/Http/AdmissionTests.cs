using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging;

namespace GemmaServer.Tests.Http;

/// <summary>Who is served when, how long, and what the others are told.</summary>
public sealed class AdmissionTests
{
    private const string Path = "/v1/chat/completions";
    private const string FairnessId = "x-gateway-inference-fairness-id";

    private static ServerOptions Options(string[]? keys = null, int maxQueue = 64, int perKey = 0, TimeSpan timeout = default) => new()
    {
        Port = 0, LogLevel = LogLevel.None, ServedModelName = ["scripted"], ApiKey = keys ?? [], MaxQueue = maxQueue, MaxQueuePerKey = perKey, RequestTimeout = timeout,
    };

    /// <summary>A host with one place, which is taken until the marathon ends.</summary>
    private sealed class Busy : IAsyncDisposable
    {
        private readonly List<Task<HttpResponseMessage>> _sent = [];

        public required TestHost Host { get; init; }

        public static async Task<Busy> StartAsync(ServerOptions options, params (string Name, string Value)[] headers)
        {
            Busy busy = new() { Host = await TestHost.StartAsync(options, maxSequences: 1) };
            busy._sent.Add(busy.SendAsync(TestHost.Chat(ScriptedRunner.Marathon), headers));
            await TestHost.UntilAsync(() => busy.Host.Runner.OpenSlots == 1, "one runs");
            return busy;
        }

        public Task<HttpResponseMessage> SendAsync(string body, params (string Name, string Value)[] headers)
        {
            HttpRequestMessage request = new(HttpMethod.Post, Path) { Content = new StringContent(body, Encoding.UTF8, "application/json") };
            foreach ((string name, string value) in headers) request.Headers.TryAddWithoutValidation(name, value);
            return Host.Client.SendAsync(request);
        }

        /// <summary>Sends a request and returns when it waits.</summary>
        public async Task QueueAsync(string user, string more = "", params (string Name, string Value)[] headers)
        {
            int waiting = Host.Model.Engine.Metrics.Waiting;
            _sent.Add(SendAsync(TestHost.Chat(user, more), headers));
            await TestHost.UntilAsync(() => Host.Model.Engine.Metrics.Waiting == waiting + 1, "it waits");
        }

        /// <summary>Lets everything run, and gives the order of admission.</summary>
        public async Task<string> OrderAsync()
        {
            Host.Runner.EndMarathon = true;
            foreach (HttpResponseMessage response in await Task.WhenAll(_sent)) Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            return string.Concat(Host.Runner.Opened.Skip(1));
        }

        public ValueTask DisposeAsync() => Host.DisposeAsync();
    }

    private static async Task<JsonElement> ErrorAsync(HttpResponseMessage response) =>
        TestHost.Json(await response.Content.ReadAsStringAsync()).GetProperty("error");

    [Fact]
    public async Task Two_requests_of_one_key_do_not_wait_for_twenty_of_another()
    {
        await using Busy busy = await Busy.StartAsync(Options(keys: ["one", "two"]), ("Authorization", "Bearer one"));
        for (int i = 0; i < 20; i++) await busy.QueueAsync("a", headers: ("Authorization", "Bearer one"));
        for (int i = 0; i < 2; i++) await busy.QueueAsync("b", headers: ("x-api-key", "two"));
        Assert.InRange((await busy.OrderAsync()).LastIndexOf('b'), 1, 4);
    }

    [Fact]
    public async Task A_gateways_fairness_id_stands_for_the_client_with_and_without_keys()
    {
        await using Busy open = await Busy.StartAsync(Options());
        for (int i = 0; i < 20; i++) await open.QueueAsync("a");
        for (int i = 0; i < 2; i++) await open.QueueAsync("b", headers: (FairnessId, "tenant"));
        Assert.InRange((await open.OrderAsync()).LastIndexOf('b'), 1, 4);

        (string, string) key = ("Authorization", "Bearer one");
        await using Busy locked = await Busy.StartAsync(Options(keys: ["one"]), key);
        for (int i = 0; i < 20; i++) await locked.QueueAsync("a", headers: [key, (FairnessId, new string('x', 256))]);
        for (int i = 0; i < 2; i++) await locked.QueueAsync("b", headers: [key, (FairnessId, "0")]);
        Assert.InRange((await locked.OrderAsync()).LastIndexOf('b'), 1, 4);
    }

    [Fact]
    public async Task Without_keys_and_ids_everybody_is_one_client_and_an_id_that_is_too_long_is_none()
    {
        await using Busy busy = await Busy.StartAsync(Options());
        for (int i = 0; i < 6; i++) await busy.QueueAsync("a");
        await busy.QueueAsync("b", headers: (FairnessId, new string('x', 257)));
        await busy.QueueAsync("c", headers: (FairnessId, ""));
        Assert.Equal("aaaaaabc", await busy.OrderAsync());
    }

    [Fact]
    public async Task Priority_and_service_tier_choose_the_order()
    {
        await using Busy busy = await Busy.StartAsync(Options());
        foreach ((string name, string more) in new[]
        {
            ("h", "\"service_tier\":\"flex\",\"priority\":3"), ("g", "\"service_tier\":\"flex\""), ("f", "\"priority\":2147483647,\"service_tier\":\"auto\""),
            ("e", "\"priority\":5"), ("c", "\"service_tier\":\"default\""), ("d", ""), ("b", "\"priority\":-7"),
            ("1", "\"service_tier\":\"fast\""), ("2", "\"service_tier\":\"priority\""), ("0", "\"service_tier\":\"priority\",\"priority\":-2147483648"),
        }) await busy.QueueAsync(name, more);
        Assert.Equal("012bcdeghf", await busy.OrderAsync());
    }

    [Theory]
    [InlineData("\"timeout\":0.1", null, 0)]
    [InlineData("", "0.1", 0)]
    [InlineData("", null, 0.1)]
    [InlineData("\"timeout\":100", "0.1", 100)]
    [InlineData("\"timeout\":0.1", "100", 100)]
    [InlineData("\"timeout\":100", "100", 0.1)]
    public async Task The_shortest_time_counts_and_its_end_is_504(string more, string? header, double option)
    {
        await using TestHost host = await TestHost.StartAsync(Options(timeout: TimeSpan.FromSeconds(option)));
        HttpRequestMessage request = new(HttpMethod.Post, Path) { Content = new StringContent(TestHost.Chat(ScriptedRunner.Marathon, more), Encoding.UTF8, "application/json") };
        if (header is not null) request.Headers.Add("x-request-timeout", header);
        using HttpResponseMessage response = await host.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.GatewayTimeout, response.StatusCode);
        JsonElement error = await ErrorAsync(response);
        Assert.Equal(("server_error", "deadline_exceeded"), (error.GetProperty("type").GetString(), error.GetProperty("code").GetString()));
        Assert.Equal(JsonValueKind.Null, error.GetProperty("param").ValueKind);
        Assert.Equal("false", response.Headers.GetValues("x-should-retry").Single());
        await TestHost.UntilAsync(() => host.Runner.OpenSlots == 0, "its place is free");
        Assert.Contains("gemmaserver_deadlines_exceeded_total{model_name=\"scripted\",engine=\"0\"} 1\n", await host.Client.GetStringAsync("/metrics"));
    }

    [Fact]
    public async Task In_the_queue_the_deadline_is_504_whole_and_streamed()
    {
        await using Busy busy = await Busy.StartAsync(Options());
        foreach (string stream in (string[])["true", "false"])
        {
            using HttpResponseMessage response = await busy.SendAsync(TestHost.Chat("hello", $"\"timeout\":0.05,\"stream\":{stream}"));
            Assert.Equal(HttpStatusCode.GatewayTimeout, response.StatusCode);
            Assert.Equal("deadline_exceeded", (await ErrorAsync(response)).GetProperty("code").GetString());
        }
        using HttpResponseMessage completion = await busy.Host.PostAsync("/v1/completions", "{\"prompt\":\"hello\",\"timeout\":0.05}");
        Assert.Equal(HttpStatusCode.GatewayTimeout, completion.StatusCode);
        Assert.Equal("", await busy.OrderAsync());
    }

    [Fact]
    public async Task A_stream_that_has_begun_ends_at_the_deadline_with_an_error_and_no_end_mark()
    {
        await using TestHost host = await TestHost.StartAsync();
        List<string> lines = await host.StreamAsync(Path, TestHost.Chat(ScriptedRunner.Marathon, "\"stream\":true,\"timeout\":0.5"));
        Assert.DoesNotContain("[DONE]", lines);
        Assert.Equal("deadline_exceeded", TestHost.Json(lines[^1]).GetProperty("error").GetProperty("code").GetString());
        Assert.True(lines.Count > 2);
    }

    [Theory]
    [InlineData("0")]
    [InlineData("-1")]
    [InlineData("soon")]
    [InlineData("NaN")]
    [InlineData("1e99")]
    public async Task A_timeout_header_that_is_no_time_is_refused(string value)
    {
        await using TestHost host = await TestHost.StartAsync();
        HttpRequestMessage request = new(HttpMethod.Post, Path) { Content = new StringContent(TestHost.Chat("hello"), Encoding.UTF8, "application/json") };
        request.Headers.Add("x-request-timeout", value);
        using HttpResponseMessage response = await host.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Equal("x-request-timeout", (await ErrorAsync(response)).GetProperty("param").GetString());
    }

    [Fact]
    public async Task Too_many_waiting_requests_of_one_key_are_429_while_others_come_in()
    {
        (string, string) one = ("Authorization", "Bearer one"), two = ("Authorization", "Bearer two");
        await using Busy busy = await Busy.StartAsync(Options(keys: ["one", "two"], perKey: 2), one);
        await busy.QueueAsync("a", headers: one);
        await busy.QueueAsync("a", headers: one);
        foreach (string more in (string[])["", "\"stream\":true", "\"n\":2"])
        {
            using HttpResponseMessage refused = await busy.SendAsync(TestHost.Chat("a", more), one);
            Assert.Equal(HttpStatusCode.TooManyRequests, refused.StatusCode);
            JsonElement error = await ErrorAsync(refused);
            Assert.Equal(("rate_limit_error", "rate_limit_exceeded"), (error.GetProperty("type").GetString(), error.GetProperty("code").GetString()));
            Assert.InRange(refused.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 60);
            Assert.InRange(long.Parse(refused.Headers.GetValues("retry-after-ms").Single()), 1000, 60_000);
            Assert.Equal("true", refused.Headers.GetValues("x-should-retry").Single());
        }
        await busy.QueueAsync("b", headers: two);
        Assert.Equal(3, (await busy.OrderAsync()).Length);
    }

    [Fact]
    public async Task All_choices_are_refused_where_one_does_not_fit()
    {
        await using Busy busy = await Busy.StartAsync(Options(maxQueue: 3));
        await busy.QueueAsync("a");
        await busy.QueueAsync("a");
        using HttpResponseMessage refused = await busy.SendAsync(TestHost.Chat("b", "\"n\":2"));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, refused.StatusCode);
        Assert.Equal("true", refused.Headers.GetValues("x-should-retry").Single());
        Assert.InRange(refused.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 60);
        Assert.Equal(2, busy.Host.Model.Engine.Metrics.Waiting);
        Assert.Equal("aa", await busy.OrderAsync());
    }
}
