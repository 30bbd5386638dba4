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
}
