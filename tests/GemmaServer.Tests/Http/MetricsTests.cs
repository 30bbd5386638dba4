using System.Globalization;
using System.Text.RegularExpressions;

namespace GemmaServer.Tests.Http;

public sealed partial class MetricsTests
{
    [Fact]
    public async Task Metrics_are_well_formed_and_count_under_both_names()
    {
        await using TestHost host = await TestHost.StartAsync(script: static r => r.Answers["hello"] = ScriptedHost.Scripts["hello"]);
        await host.AskAsync("/v1/chat/completions", TestHost.Chat("hello"));
        await host.StreamAsync("/v1/chat/completions", TestHost.Chat("hello", "\"stream\":true,\"n\":2"));
        using HttpResponseMessage limited = await host.PostAsync("/v1/chat/completions", TestHost.Chat("hello", "\"max_tokens\":2"));
        using HttpResponseMessage wrong = await host.PostAsync("/v1/chat/completions", "{}");
        await TestHost.UntilAsync(() => host.Model.Engine.Metrics.Running == 0, "all is done");

        using HttpResponseMessage response = await host.Client.GetAsync("/metrics");
        Assert.Equal("text/plain; version=0.0.4; charset=utf-8", response.Content.Headers.ContentType!.ToString());
        Dictionary<string, double> samples = Parse(await response.Content.ReadAsStringAsync());

        int tokens = 3 * (TestHost.Tokenizer.Encode(ScriptedHost.Scripts["hello"], parseSpecial: false).Length + 1) + 2;
        foreach (string prefix in (string[])["vllm:", "gemmaserver_"])
        {
            const string labels = "model_name=\"scripted\",engine=\"0\"";
            Assert.Equal(0, samples[$"{prefix}num_requests_running{{{labels}}}"]);
            Assert.Equal(0, samples[$"{prefix}num_requests_waiting{{{labels}}}"]);
            Assert.Equal(0, samples[$"{prefix}kv_cache_usage_perc{{{labels}}}"]);
            Assert.Equal(1, samples[$"{prefix}cache_config_info{{{labels},block_size=\"16\",num_gpu_blocks=\"4096\"}}"]);
            Assert.Equal(tokens, samples[$"{prefix}generation_tokens_total{{{labels}}}"]);
            Assert.Equal(3, samples[$"{prefix}request_success_total{{{labels},finished_reason=\"stop\"}}"]);
            Assert.Equal(1, samples[$"{prefix}request_success_total{{{labels},finished_reason=\"length\"}}"]);
            Assert.Equal(4, samples[$"{prefix}time_to_first_token_seconds_count{{{labels}}}"]);
            Assert.Equal(4, samples[$"{prefix}time_to_first_token_seconds_bucket{{{labels},le=\"+Inf\"}}"]);
            Assert.Equal(3, samples[$"{prefix}e2e_request_latency_seconds_count{{{labels}}}"]);
            Assert.Equal(tokens - 4, samples[$"{prefix}inter_token_latency_seconds_count{{{labels}}}"]);
            Assert.Equal(tokens, samples[$"{prefix}request_generation_tokens_sum{{{labels}}}"]);
            Assert.Equal(4, samples[$"{prefix}request_params_n_sum{{{labels}}}"]);
            Assert.True(samples[$"{prefix}prompt_tokens_total{{{labels}}}"] > 0);
        }
        Assert.Equal(1, samples["gemmaserver_http_requests_total{model_name=\"scripted\",engine=\"0\",route=\"/v1/chat/completions\",status=\"400\"}"]);
    }

    [Fact]
    public async Task Time_in_and_outside_the_model_is_counted_while_steps_run()
    {
        const string labels = "{model_name=\"scripted\",engine=\"0\"}";
        await using TestHost host = await TestHost.StartAsync(script: static r => r.StepTime = TimeSpan.FromMilliseconds(20));
        async Task<(double Model, double Overhead, double Steps)> LookAsync()
        {
            Dictionary<string, double> samples = Parse(await host.Client.GetStringAsync("/metrics"));
            return (samples["gemmaserver_engine_model_seconds_total" + labels], samples["gemmaserver_engine_overhead_seconds_total" + labels],
                samples["gemmaserver_engine_steps_total" + labels]);
        }

        Assert.Equal((0, 0, 0), await LookAsync());
        await host.AskAsync("/v1/chat/completions", TestHost.Chat("hello"));
        await TestHost.UntilAsync(() => host.Model.Engine.Metrics.Running == 0, "all is done");
        (double model, double overhead, double steps) = await LookAsync();
        Assert.True(steps > 5);
        Assert.True(model >= steps * 0.02, $"{model} s for {steps} steps of 20 ms");
        Assert.True(overhead > 0);

        // Waiting for requests is neither.
        await Task.Delay(100);
        Assert.Equal((model, overhead, steps), await LookAsync());
        await host.AskAsync("/v1/chat/completions", TestHost.Chat("hello"));
        await TestHost.UntilAsync(() => host.Model.Engine.Metrics.Running == 0, "all is done");
        (double laterModel, double laterOverhead, double laterSteps) = await LookAsync();
        Assert.True(laterModel - model >= (laterSteps - steps) * 0.02);
        Assert.True(laterOverhead > overhead);
    }

    [Fact]
    public async Task Processor_time_is_told_by_what_threads_are_for()
    {
        await using TestHost host = await TestHost.StartAsync();
        async Task<Dictionary<string, double>> LookAsync() => Parse(await host.Client.GetStringAsync("/metrics"))
            .Where(static s => s.Key.StartsWith("gemmaserver_thread_cpu_seconds_total{", StringComparison.Ordinal))
            .ToDictionary(static s => Role().Match(s.Key).Groups[1].Value, static s => s.Value);

        Dictionary<string, double> first = await LookAsync();
        if (!OperatingSystem.IsLinux())
        {
            Assert.Empty(first);
            return;
        }
        Assert.Equal((string[])["engine", "gc", "jit", "other", "pool", "workers"], first.Keys.Order(StringComparer.Ordinal));

        // A worker's time is found under its role, and stays there when the thread is gone.
        bool stop = false;
        Thread worker = new(() =>
        {
            while (!Volatile.Read(ref stop)) Thread.SpinWait(100);
        }) { Name = "compute-77" };
        worker.Start();
        double seen = 0;
        for (int i = 0; i < 2000 && seen < first["workers"] + 0.05; i++)
        {
            seen = (await LookAsync())["workers"];
            await Task.Delay(10);
        }
        Volatile.Write(ref stop, true);
        worker.Join();
        Assert.True(seen >= first["workers"] + 0.05, $"{seen} s");
        Dictionary<string, double> last = await LookAsync();
        Assert.True(last["workers"] >= seen);
        Assert.All(first, f => Assert.True(last[f.Key] >= f.Value, f.Key));
    }

    [Fact]
    public async Task Engine_and_workers_are_told_apart_by_the_names_that_the_system_keeps()
    {
        if (!OperatingSystem.IsLinux()) return;
        await using TestHost host = await TestHost.StartAsync();
        using GemmaServer.Compute.WorkerPool workers = new(2);
        // A thread names itself when it begins to run.
        await TestHost.UntilAsync(() =>
        {
            string?[] roles = [.. Directory.GetDirectories("/proc/self/task").Select(static t => CommOf(t)).Select(ThreadTimes.RoleOf)];
            return roles.Contains("engine") && roles.Contains("workers") && roles.Contains("pool");
        }, "engine, worker and pool threads are there");

        static string CommOf(string task)
        {
            try
            {
                return File.ReadAllText(task + "/comm").TrimEnd('\n');
            }
            catch (IOException)
            {
                return "";      // gone
            }
        }
    }

    /// <summary>Sample → value; fails on anything that Prometheus' parser would refuse, and on buckets that are not cumulative.</summary>
    private static Dictionary<string, double> Parse(string text)
    {
        Dictionary<string, double> samples = [];
        HashSet<string> types = [];
        string family = "", type = "";
        double lastBucket = 0;
        Assert.EndsWith("\n", text);
        foreach (string line in text[..^1].Split('\n'))
        {
            if (line.StartsWith("# TYPE ", StringComparison.Ordinal))
            {
                (family, type) = (line.Split(' ')[2], line.Split(' ')[3]);
                Assert.True(types.Add(family), $"{family} twice");
                Assert.Contains(type, (string[])["counter", "gauge", "histogram"]);
                continue;
            }
            if (line.StartsWith("# HELP ", StringComparison.Ordinal)) continue;
            Match match = Sample().Match(line);
            Assert.True(match.Success, line);
            string name = match.Groups[1].Value;
            Assert.True(type == "histogram" ? name.StartsWith(family, StringComparison.Ordinal) : name == family, $"{name} in {family}");
            if (type == "counter") Assert.EndsWith("_total", name);
            double value = double.Parse(match.Groups[3].Value, CultureInfo.InvariantCulture);
            Assert.True(samples.TryAdd(name + match.Groups[2].Value, value), line);
            if (name.EndsWith("_bucket", StringComparison.Ordinal))
            {
                Assert.True(value >= lastBucket, line);
                lastBucket = line.Contains("+Inf") ? 0 : value;
            }
        }
        return samples;
    }

    [GeneratedRegex("""^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-z_]+="(?:[^"\\]|\\.)*",?)*\})? (\S+)$""")]
    private static partial Regex Sample();

    [GeneratedRegex("role=\"([a-z]+)\"")]
    private static partial Regex Role();
}
