using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>A model that knows nothing, so that only the masks can make its answers right: random weights, a random vocabulary.</summary>
public sealed class RandomWeightsStructuredTests : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("gemmaserver-structured-").FullName;
    private WebApplication? _app;
    private HttpClient _client = null!;

    public async Task InitializeAsync()
    {
        string path = Path.Combine(_folder, "model.gguf");
        Assert.Equal(0, await CommandLine.RunAsync(["make-random", path, "--shape", "e2b", "--type", "q4_0", "--layers", "2", "--vocab", "1024"]));
        ServerOptions options = new() { Port = 0, LogLevel = LogLevel.None, Model = path, MaxModelLen = 2048, MaxNumSeqs = 4, SpeculativeModel = "ngram", NumSpeculativeTokens = 7 };
        _app = GemmaServerApp.Build(options, s => s.HandleSignals = false);
        _app.Serve(ModelLoader.Load(options, RunnerMaker.Make, NullLogger.Instance));
        await _app.StartAsync();
        _client = new HttpClient { BaseAddress = new Uri(_app.Urls.First()) };
    }

    public async Task DisposeAsync()
    {
        _client.Dispose();
        await _app!.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Noise_becomes_json_calls_and_matching_text()
    {
        const string schema = """{"type":"object","properties":{"a":{"type":"string","maxLength":8},"b":{"enum":["x","y",null,3]},"c":{"type":"array","items":{"type":"integer","minimum":0,"maximum":99},"maxItems":4}},"required":["a","b","c"],"additionalProperties":false}""";
        const string tool = """{"type":"function","function":{"name":"do.it-now","strict":true,"parameters":{"type":"object","properties":{"text":{"type":"string","maxLength":8},"on":{"type":"boolean"}},"required":["text","on"],"additionalProperties":false}}}""";
        for (int seed = 0; seed < 5; seed++)
        {
            string common = $"\"messages\":[{{\"role\":\"user\",\"content\":\"{seed}\"}}],\"seed\":{seed},\"temperature\":1,\"top_k\":0,\"top_p\":1,\"max_tokens\":300";
            string thought = seed % 2 == 0 ? "" : ",\"enable_thinking\":true,\"thinking_token_budget\":10";

            JsonNode json = await AskAsync($"{{{common}{thought},\"response_format\":{{\"type\":\"json_schema\",\"json_schema\":{{\"name\":\"x\",\"schema\":{schema}}}}}}}");
            Assert.Equal("stop", (string?)json["finish_reason"]);
            JsonObject value = JsonNode.Parse((string)json["message"]!["content"]!)!.AsObject();
            Assert.Equal(["a", "b", "c"], value.Select(static m => m.Key));
            Assert.InRange(((string)value["a"]!).EnumerateRunes().Count(), 0, 8);
            Assert.Contains(value["b"]?.ToJsonString() ?? "null", (string[])["\"x\"", "\"y\"", "null", "3"]);
            Assert.All(value["c"]!.AsArray(), static n => Assert.InRange((int)n!, 0, 99));
            Assert.InRange(value["c"]!.AsArray().Count, 0, 4);

            JsonNode call = await AskAsync($"{{{common}{thought},\"tools\":[{tool}],\"tool_choice\":\"required\",\"parallel_tool_calls\":false}}");
            Assert.Equal("tool_calls", (string?)call["finish_reason"]);
            JsonNode function = Assert.Single(call["message"]!["tool_calls"]!.AsArray())!["function"]!;
            Assert.Equal("do.it-now", (string?)function["name"]);
            JsonObject arguments = JsonNode.Parse((string)function["arguments"]!)!.AsObject();
            Assert.Equal(["text", "on"], arguments.Select(static m => m.Key));
            Assert.InRange(((string)arguments["text"]!).EnumerateRunes().Count(), 0, 8);

            JsonNode text = await AskAsync($"{{{common}{thought},\"regex\":\"(ab?|[x-z]{{3}}){{2,5}}![0-9]\"}}");
            Assert.Matches(new Regex("^(ab?|[x-z]{3}){2,5}![0-9]$"), (string)text["message"]!["content"]!);
        }
    }

    private async Task<JsonNode> AskAsync(string request)
    {
        using HttpResponseMessage response = await _client.PostAsync("/v1/chat/completions", new StringContent(request, Encoding.UTF8, "application/json"));
        string body = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, $"{request}\n{body}");
        return JsonNode.Parse(body)!["choices"]![0]!;
    }
}
