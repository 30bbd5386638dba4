using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>A server whose model knows nothing, so that only the masks can make its answers right: random weights, 1,024 made-up tokens.</summary>
public sealed class RandomModelServer : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("gemmaserver-structured-").FullName;
    private WebApplication? _app;

    public HttpClient Client { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        string path = Path.Combine(_folder, "model.gguf");
        Assert.Equal(0, await CommandLine.RunAsync(["make-random", path, "--shape", "e2b", "--type", "q4_0", "--layers", "2", "--vocab", "1024"]));
        ServerOptions options = new() { Port = 0, LogLevel = LogLevel.None, Model = path, MaxModelLen = 2048, MaxNumSeqs = 16, SpeculativeModel = "ngram", NumSpeculativeTokens = 7 };
        _app = GemmaServerApp.Build(options, s => s.HandleSignals = false);
        _app.Serve(ModelLoader.Load(options, RunnerMaker.Make, NullLogger.Instance));
        await _app.StartAsync();
        Client = new HttpClient { BaseAddress = new Uri(_app.Urls.First()), Timeout = TimeSpan.FromMinutes(5) };
    }

    /// <summary>Asks for a chat answer and gives its one choice; fails on any error.</summary>
    public async Task<JsonNode> AskAsync(string request)
    {
        using HttpResponseMessage response = await Client.PostAsync("/v1/chat/completions", new StringContent(request, Encoding.UTF8, "application/json"));
        string body = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, $"{request}\n{body}");
        return JsonNode.Parse(body)!["choices"]![0]!;
    }

    /// <summary>The one token that a text is.</summary>
    public async Task<int> TokenAsync(string text)
    {
        using HttpResponseMessage response = await Client.PostAsync("/tokenize", new StringContent(
            new JsonObject { ["prompt"] = text, ["add_special_tokens"] = false }.ToJsonString(), Encoding.UTF8, "application/json"));
        return (int)Assert.Single(JsonNode.Parse(await response.Content.ReadAsStringAsync())!["tokens"]!.AsArray())!;
    }

    public async Task DisposeAsync()
    {
        Client.Dispose();
        await _app!.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }
}
