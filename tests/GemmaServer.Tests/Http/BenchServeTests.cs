using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace GemmaServer.Tests.Http;

/// <summary><c>gemmaserver bench-serve</c> against this server and against others that answer as they like.</summary>
public sealed class BenchServeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("gemmaserver-bench-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("chat", "")]
    [InlineData("completions", "v1/")]
    public async Task This_server_is_measured_with_its_own_token_counts(string endpoint, string suffix)
    {
        // Slow enough that tokens come one by one: what is ready together is sent in one piece.
        await using TestHost host = await TestHost.StartAsync(script: static runner => runner.StepTime = TimeSpan.FromMilliseconds(10));
        (int code, JsonElement result) = await BenchAsync(
            "--url", host.Url + suffix, "--endpoint", endpoint, "--requests", "12", "--concurrency", "3", "--input-len", "20", "--output-len", "9");
        Assert.Equal(0, code);
        Assert.Equal("scripted", result.GetProperty("model").GetString());
        Assert.Equal((12, 12), (result.GetProperty("requests").GetInt32(), result.GetProperty("answered").GetInt32()));
        Assert.Equal("usage", result.GetProperty("tokens_from").GetString());
        Assert.True(result.GetProperty("ignore_eos").GetBoolean());
        Assert.Equal(12 * 9, result.GetProperty("output_tokens").GetInt32());
        Assert.Equal(host.Model.Engine.Metrics.PromptTokens, result.GetProperty("prompt_tokens").GetInt64() * 13 / 12, 30.0);   // and the warm-up
        Assert.Empty(result.GetProperty("errors").EnumerateObject());
        foreach (string figure in (string[])["ttft_ms", "itl_ms", "tpot_ms", "e2e_ms"])
        {
            double[] rising = [.. new[] { "p50", "p90", "p99", "max" }.Select(q => result.GetProperty(figure).GetProperty(q).GetDouble())];
            Assert.Equal(rising.Order(), rising);
            Assert.True(rising[0] >= 0 && rising[^1] > 0);
        }
        double seconds = result.GetProperty("seconds").GetDouble();
        Assert.Equal(108 / seconds, result.GetProperty("output_tokens_per_second").GetDouble(), 108 / seconds / 100);
        Assert.True(result.GetProperty("e2e_ms").GetProperty("max").GetDouble() <= seconds * 1000);
    }

    [Fact]
    public async Task A_key_is_shown_and_a_wrong_one_is_an_error()
    {
        await using TestHost host = await TestHost.StartAsync(new ServerOptions
        {
            Port = 0, LogLevel = Microsoft.Extensions.Logging.LogLevel.None, ServedModelName = ["scripted"], ApiKey = ["right"],
        });
        Assert.Equal(0, (await BenchAsync("--url", $"{host.Url}", "--api-key", "right", "--requests", "1", "--output-len", "2")).Code);
        Assert.Equal(1, await CommandLine.RunAsync(["bench-serve", "--url", $"{host.Url}", "--api-key", "wrong", "--model", "scripted", "--requests", "1"]));
    }

    [Fact]
    public async Task A_server_that_refuses_ignore_eos_and_tells_no_usage_is_measured_without_them()
    {
        await using FakeOpenAiServer server = await FakeOpenAiServer.StartAsync(static async (_, body, response) =>
        {
            if (body.TryGetProperty("ignore_eos", out JsonElement _)) response.StatusCode = 400;
            else await FakeOpenAiServer.ChatAsync(response, pieces: 5);
        });
        (int code, JsonElement result) = await BenchAsync("--url", server.Url, "--requests", "4");
        Assert.Equal(0, code);
        Assert.Equal("other/model", result.GetProperty("model").GetString());
        Assert.False(result.GetProperty("ignore_eos").GetBoolean());
        Assert.Equal(("pieces", 20), (result.GetProperty("tokens_from").GetString(), result.GetProperty("output_tokens").GetInt32()));
        Assert.Equal(6, server.Bodies.Count);       // two that warm up
    }

    [Fact]
    public async Task What_goes_wrong_is_counted_by_kind()
    {
        await using FakeOpenAiServer server = await FakeOpenAiServer.StartAsync(static async (number, _, response) =>
        {
            switch (number)
            {
                case 1 or 2:
                    response.StatusCode = 503;
                    break;
                case 3:
                    await FakeOpenAiServer.ChatAsync(response, 2, done: false);
                    break;
                case 4:
                    await FakeOpenAiServer.DataAsync(response, """{"error":{"message":"no more","code":500}}""");
                    break;
                case 5:
                    await FakeOpenAiServer.DataAsync(response, "not json");
                    break;
                case 6:
                    await Task.Delay(Timeout.Infinite, response.HttpContext.RequestAborted).ContinueWith(static _ => { }, TaskScheduler.Default);
                    break;
                default:
                    await FakeOpenAiServer.ChatAsync(response, 3);
                    break;
            }
        });
        (int code, JsonElement result) = await BenchAsync("--url", server.Url, "--requests", "9", "--concurrency", "2", "--timeout", "2");
        Assert.Equal(1, code);
        Dictionary<string, int> errors = result.GetProperty("errors").EnumerateObject().ToDictionary(static e => e.Name, static e => e.Value.GetInt32());
        Assert.Equal(
            new Dictionary<string, int> { ["http 503"] = 2, ["stream cut off"] = 1, ["error in the stream (no more)"] = 1, ["not an event of a completion"] = 1, ["timeout"] = 1 }, errors);
        Assert.Equal((3, 9), (result.GetProperty("answered").GetInt32(), result.GetProperty("output_tokens").GetInt32()));
    }

    [Fact]
    public async Task As_many_requests_are_open_as_asked_for_and_no_more()
    {
        int open = 0, most = 0;
        TaskCompletionSource allOpen = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using FakeOpenAiServer server = await FakeOpenAiServer.StartAsync(async (number, _, response) =>
        {
            if (number > 0)
            {
                int now = Interlocked.Increment(ref open);
                for (int seen = most; now > seen && Interlocked.CompareExchange(ref most, now, seen) != seen;) seen = most;
                if (now == 5) allOpen.TrySetResult();
                await allOpen.Task;     // nobody gets an answer before five ask for one
                Interlocked.Decrement(ref open);
            }
            await FakeOpenAiServer.ChatAsync(response, 1);
        });
        Assert.Equal(0, (await BenchAsync("--url", server.Url, "--requests", "20", "--concurrency", "5")).Code);
        Assert.Equal(5, most);
        Assert.Equal(21, server.Bodies.Count);
    }

    [Fact]
    public async Task With_a_rate_requests_do_not_wait_for_answers()
    {
        TaskCompletionSource allCame = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using FakeOpenAiServer server = await FakeOpenAiServer.StartAsync(async (number, _, response) =>
        {
            if (number == 10) allCame.TrySetResult();
            if (number > 0) await allCame.Task;
            await FakeOpenAiServer.ChatAsync(response, 1);
        });
        (int code, JsonElement result) = await BenchAsync("--url", server.Url, "--requests", "10", "--request-rate", "500");
        Assert.Equal(0, code);
        Assert.Equal((JsonValueKind.Null, 500), (result.GetProperty("concurrency").ValueKind, result.GetProperty("request_rate").GetDouble()));
    }

    [Fact]
    public async Task Made_up_prompts_share_exactly_the_words_asked_for()
    {
        await using FakeOpenAiServer server = await FakeOpenAiServer.StartAsync(static (_, _, response) => FakeOpenAiServer.ChatAsync(response, 1));
        await BenchAsync("--url", server.Url, "--requests", "6", "--input-len", "12", "--shared-prefix", "7", "--output-len", "33");
        string[][] prompts = [.. server.Bodies.Select(static b => b.GetProperty("messages")[0].GetProperty("content").GetString()!.Split(' '))];
        Assert.Equal(7, prompts.Length);
        Assert.All(prompts, p => Assert.Equal(12, p.Length));
        Assert.All(prompts, p => Assert.Equal(prompts[0][..7], p[..7]));
        Assert.Equal(7, prompts.Select(static p => p[7]).Distinct().Count());
        Assert.All(server.Bodies, static b => Assert.Equal(33, b.GetProperty("max_tokens").GetInt32()));
    }

    [Fact]
    public async Task Prompts_of_a_file_are_used_in_turn_and_may_end_by_themselves()
    {
        string file = Path.Combine(_folder, "prompts.jsonl");
        File.WriteAllText(file, """
            {"prompt":"first","max_tokens":5}

            {"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"second"}]}
            """);
        await using FakeOpenAiServer server = await FakeOpenAiServer.StartAsync(static (_, _, response) => FakeOpenAiServer.ChatAsync(response, 1));
        Assert.Equal(0, (await BenchAsync("--url", server.Url, "--requests", "4", "--concurrency", "1", "--prompts", file, "--output-len", "7")).Code);
        (string, int)[] asked = [.. server.Bodies.Skip(1).Select(static b => (
            b.GetProperty("messages").EnumerateArray().Last().GetProperty("content").GetString()!, b.GetProperty("max_tokens").GetInt32()))];
        Assert.Equal([("first", 5), ("second", 7), ("first", 5), ("second", 7)], asked);
        Assert.All(server.Bodies, static b => Assert.False(b.TryGetProperty("ignore_eos", out _)));
    }

    [Fact]
    public void Another_seed_makes_other_prompts_from_the_first_own_word_on()
    {
        static string[] Words(int seed, int index) =>
            TestHost.Json(System.Text.Encoding.UTF8.GetString(new ServePrompts("m", IsChat: false, 12, 7, 5, [], seed).Body(index, ignoreEos: true))).GetProperty("prompt").GetString()!.Split(' ');
        Assert.Equal(Words(3, 5), Words(3, 5));
        Assert.Equal(Words(3, 5)[..7], Words(4, 5)[..7]);
        // Every request of every seed begins with a number of its own, so that nothing after it can be in a cache.
        string[] first = [.. Enumerable.Range(0, 4).SelectMany(seed => Enumerable.Range(-1, 5).Select(index => Words(seed, index)[7]))];
        Assert.Equal(first.Length, first.Distinct().Count());
        Assert.NotEqual(Words(3, 5)[8..], Words(4, 5)[8..]);
    }

    [Theory]
    [InlineData("""{"prompt":3}""")]
    [InlineData("""{"text":"x"}""")]
    [InlineData("""{"prompt":"x","max_tokens":0}""")]
    [InlineData("[]")]
    [InlineData("{")]
    public void A_line_that_is_no_prompt_is_named(string line)
    {
        string file = Path.Combine(_folder, "bad.jsonl");
        File.WriteAllText(file, "{\"prompt\":\"fine\"}\n" + line + "\n");
        FormatException e = Assert.Throws<FormatException>(() => ServePrompts.Read(file));
        Assert.Contains("line 2", e.Message);
    }

    [Fact]
    public void Latencies_are_taken_over_complete_answers_between_nearest_ranks()
    {
        List<ServeOutcome> outcomes = [];
        for (int i = 1; i <= 101; i++)
        {
            ServeOutcome outcome = new() { FirstToken = i, EndToEnd = 10 * i, OutputTokens = 4, HasUsage = true, PromptTokens = 100, CachedTokens = 40 };
            outcome.Gaps.AddRange([2, 4]);
            outcomes.Add(outcome);
        }
        outcomes.Add(new ServeOutcome { Error = "http 503", EndToEnd = 1e6 });
        JsonElement json = TestHost.Json(new ServeReport(outcomes, 2).ToJson().ToJsonString());
        double Of(string figure, string quantile) => json.GetProperty(figure).GetProperty(quantile).GetDouble();
        Assert.Equal((51, 91, 100, 101), (Of("ttft_ms", "p50"), Of("ttft_ms", "p90"), Of("ttft_ms", "p99"), Of("ttft_ms", "max")));
        Assert.Equal((510, 1010, 510), (Of("e2e_ms", "p50"), Of("e2e_ms", "max"), Of("e2e_ms", "mean")));
        Assert.Equal((3, 3, 4), (Of("itl_ms", "mean"), Of("itl_ms", "p50"), Of("itl_ms", "p99")));
        Assert.Equal(51 * 9 / 3.0, Of("tpot_ms", "p50"));
        Assert.Equal(202, json.GetProperty("output_tokens_per_second").GetDouble());
        Assert.Equal((101 * 104) / 2.0, json.GetProperty("total_tokens_per_second").GetDouble());
        Assert.Equal(4040, json.GetProperty("cached_tokens").GetInt32());
        Assert.Equal(1, json.GetProperty("errors").GetProperty("http 503").GetInt32());
    }

    [Theory]
    [InlineData("--requests", "0")]
    [InlineData("--request-rate", "0")]
    [InlineData("--url", "ftp://x")]
    [InlineData("--shared-prefix", "300")]
    [InlineData("--prompts", "/nowhere.jsonl")]
    [InlineData("--endpoint", "embeddings")]
    public async Task A_wrong_setting_is_a_usage_error(string flag, string value) =>
        Assert.Equal(CommandLine.UsageError, await CommandLine.RunAsync(["bench-serve", flag, value]));

    [Fact]
    public async Task A_server_that_is_not_there_is_said_so() =>
        Assert.Equal(1, await CommandLine.RunAsync(["bench-serve", "--url", "http://127.0.0.1:1", "--requests", "1"]));

    [Fact]
    public async Task What_this_server_spent_is_told_beside_what_its_clients_saw()
    {
        await using TestHost host = await TestHost.StartAsync(script: static runner => runner.StepTime = TimeSpan.FromMilliseconds(10));
        (int code, JsonElement result) = await BenchAsync("--url", $"{host.Url}", "--requests", "4", "--concurrency", "4", "--input-len", "20", "--output-len", "200");
        Assert.Equal(0, code);
        JsonElement server = result.GetProperty("server");
        double steps = server.GetProperty("steps").GetDouble();
        Assert.Equal(host.Model.Engine.Metrics.Steps - 200, steps, 20.0);     // less the warm-up's
        // Four prompts are in these rows too.
        Assert.Equal((result.GetProperty("prompt_tokens").GetDouble() + 4 * 199) / steps, server.GetProperty("mean_batch").GetDouble(), 1.0);
        Assert.InRange(server.GetProperty("engine_overhead_us_per_step").GetDouble(), 0.1, 9e5);
        Assert.InRange(server.GetProperty("model_share").GetDouble(), 0.01, 1);
        Assert.Equal(OperatingSystem.IsLinux() ? JsonValueKind.Number : JsonValueKind.Null, server.GetProperty("http_cpu_us_per_token").ValueKind);

        // Two looks may each be in the middle of a step.
        JsonElement together = server.GetProperty("all_streams");
        Assert.InRange(together.GetProperty("mean_batch").GetDouble(), 3.5, 4.5);
        Assert.True(together.GetProperty("steps").GetDouble() < steps);
    }

    [Fact]
    public async Task Without_metrics_or_with_those_of_others_nothing_is_told_of_the_server()
    {
        await using FakeOpenAiServer server = await FakeOpenAiServer.StartAsync(static (_, _, response) => FakeOpenAiServer.ChatAsync(response, 1));
        (int code, JsonElement result) = await BenchAsync("--url", server.Url, "--requests", "2");
        Assert.Equal(0, code);
        Assert.False(result.TryGetProperty("server", out _));
        Assert.Null(ServerSample.Read("# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total{engine=\"0\"} 12\n"));
    }

    [Fact]
    public void Figures_of_the_server_are_differences_of_two_looks()
    {
        static string Look(int factor) => string.Join('\n',
            "# HELP gemmaserver_engine_steps_total Forward passes.",
            $"gemmaserver_num_requests_running{{model_name=\"a b\"}} {factor}",
            $"gemmaserver_engine_steps_total{{model_name=\"a b\"}} {10 * factor}",
            $"gemmaserver_engine_rows_total{{model_name=\"a b\"}} {150 * factor}",
            $"gemmaserver_generation_tokens_total{{model_name=\"a b\"}} {100 * factor}",
            $"gemmaserver_engine_model_seconds_total{{model_name=\"a b\"}} {0.009 * factor:0.000}",
            $"gemmaserver_engine_overhead_seconds_total{{model_name=\"a b\"}} {0.001 * factor:0.000}",
            $"gemmaserver_thread_cpu_seconds_total{{model_name=\"a b\",role=\"engine\"}} {5 * factor}",
            $"gemmaserver_thread_cpu_seconds_total{{model_name=\"a b\",role=\"pool\"}} {0.002 * factor:0.000}",
            $"gemmaserver_thread_cpu_seconds_total{{model_name=\"a b\",role=\"jit\"}} {7 * factor}",
            $"gemmaserver_thread_cpu_seconds_total{{model_name=\"a b\",role=\"other\"}} {0.001 * factor:0.000}", "");
        ServerFigures figures = ServerFigures.Between(ServerSample.Read(Look(1)), ServerSample.Read(Look(3)))!.Value;
        Assert.Equal((20, 15), (figures.Steps, figures.MeanBatch));
        Assert.Equal(100, figures.OverheadPerStep, 1e-6);
        Assert.Equal(0.9, figures.ModelShare, 1e-9);
        Assert.Equal(30, figures.HttpPerToken, 1e-6);
        Assert.Null(ServerFigures.Between(ServerSample.Read(Look(3)), ServerSample.Read(Look(1))));      // it was started anew
        Assert.Null(ServerFigures.Between(null, ServerSample.Read(Look(1))));
    }

    [Theory]
    [InlineData("--concurrency", "2")]
    [InlineData("--request-rate", "1000")]
    public async Task Interrupted_it_sends_nothing_more_and_reports_what_finished(string pace, string value)
    {
        using CancellationTokenSource interrupt = new();
        await using FakeOpenAiServer server = await FakeOpenAiServer.StartAsync(async (number, _, response) =>
        {
            if (number <= 3) await FakeOpenAiServer.ChatAsync(response, 2);
            else if (number == 5) interrupt.CancelAfter(100);
            if (number > 3) await Task.Delay(Timeout.Infinite, response.HttpContext.RequestAborted).ContinueWith(static _ => { }, TaskScheduler.Default);
        });
        string json = Path.Combine(_folder, "part.json");
        int code = await BenchServeCommand.Create()
            .Parse(["--url", server.Url, "--requests", "100", pace, value, "--json", json])
            .InvokeAsync(new System.CommandLine.InvocationConfiguration { ProcessTerminationTimeout = null }, interrupt.Token);
        Assert.Equal(BenchServeCommand.Interrupted, code);
        JsonElement result = TestHost.Json(File.ReadAllText(json));
        Assert.True(result.GetProperty("interrupted").GetBoolean());
        Assert.Equal((3, 3), (result.GetProperty("requests").GetInt32(), result.GetProperty("answered").GetInt32()));
        Assert.Empty(result.GetProperty("errors").EnumerateObject());
        if (pace == "--concurrency") Assert.Equal(1 + 3 + 2, server.Bodies.Count);
    }

    private async Task<(int Code, JsonElement Result)> BenchAsync(params string[] flags)
    {
        string json = Path.Combine(_folder, "result.json");
        int code = await CommandLine.RunAsync(["bench-serve", .. flags, "--json", json]);
        return (code, TestHost.Json(File.ReadAllText(json)));
    }
}
