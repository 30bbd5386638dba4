using System.Text.Json;

namespace GemmaServer.Tests.Http;

public sealed class PrefixCacheTests
{
    private const string Path = "/v1/chat/completions";

    [Fact]
    public async Task Usage_and_metrics_tell_how_much_of_the_prompt_was_cached()
    {
        await using TestHost host = await TestHost.StartAsync(script: static r => r.Answers["hello"] = ScriptedHost.Scripts["hello"]);
        (int prompt, int cached) = Usage(await host.AskAsync(Path, TestHost.Chat("hello")));
        Assert.Equal(0, cached);
        int block = (prompt - 1) / 16 * 16;     // pages of 16, and the last token is always computed
        Assert.True(block > 0);
        Assert.Equal((prompt, block), Usage(await host.AskAsync(Path, TestHost.Chat("hello"))));
        // The prompt counts once, whatever n is.
        Assert.Equal((prompt, block), Usage(await host.AskAsync(Path, TestHost.Chat("hello", "\"n\":2"))));
        Assert.Equal((prompt, 0), Usage(await host.AskAsync(Path, TestHost.Chat("hello", "\"cache_salt\":\"a\""))));
        Assert.Equal((prompt, block), Usage(await host.AskAsync(Path, TestHost.Chat("hello", "\"cache_salt\":\"a\""))));

        string metrics = await host.Client.GetStringAsync("/metrics");
        foreach (string prefix in (string[])["vllm:", "gemmaserver_"])
        {
            Assert.Contains($"{prefix}prefix_cache_queries_total{{model_name=\"scripted\",engine=\"0\"}} {6 * prompt}\n", metrics);
            Assert.Contains($"{prefix}prefix_cache_hits_total{{model_name=\"scripted\",engine=\"0\"}} {4 * block}\n", metrics);
        }
        Assert.Contains("\ngemmaserver_prefix_cache_evictions_total{model_name=\"scripted\",engine=\"0\"} 0\n", metrics);
    }

    [Fact]
    public async Task Text_completions_tell_it_too()
    {
        await using TestHost host = await TestHost.StartAsync();
        const string body = """{"prompt":"one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen","max_tokens":2,"n":2}""";
        Assert.Equal(0, Usage(await host.AskAsync("/v1/completions", body)).Cached);
        (int prompt, int cached) = Usage(await host.AskAsync("/v1/completions", body));
        Assert.Equal((prompt - 1) / 16 * 16, cached);
        Assert.True(cached > 0);
    }

    [Fact]
    public async Task An_empty_salt_is_refused()
    {
        await using TestHost host = await TestHost.StartAsync();
        using HttpResponseMessage response = await host.PostAsync(Path, TestHost.Chat("hello", "\"cache_salt\":\"\""));
        Assert.Equal(400, (int)response.StatusCode);
        Assert.Contains("cache_salt", await response.Content.ReadAsStringAsync());
    }

    private static (int Prompt, int Cached) Usage(JsonElement answer)
    {
        JsonElement usage = answer.GetProperty("usage");
        return (usage.GetProperty("prompt_tokens").GetInt32(), usage.GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32());
    }
}
