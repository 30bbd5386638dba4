using System.Net;
using System.Text;
using System.Text.Json;
using GemmaServer.Engine;
using GemmaServer.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace GemmaServer.Tests.Http;

/// <summary>The real application on a free port of 127.0.0.1, with a scripted model.</summary>
internal sealed class TestHost : IAsyncDisposable
{
    public const int MaxModelLength = 4096;

    private static readonly Lazy<Tokenizer> s_tokenizer = new(static () =>
    {
        using FileStream json = File.OpenRead(GoldenData.At("tok512", "tokenizer.json"));
        return Tokenizer.FromJson(json);
    });

    private TestHost(WebApplication app, ServedModel model, ScriptedRunner runner)
    {
        App = app;
        Model = model;
        Runner = runner;
        Url = new Uri(app.Urls.First());
        Client = new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = 64 }) { BaseAddress = Url, Timeout = TimeSpan.FromMinutes(2) };
    }

    public static Tokenizer Tokenizer => s_tokenizer.Value;

    public WebApplication App { get; }

    public ServedModel Model { get; }

    public ScriptedRunner Runner { get; }

    public Uri Url { get; }

    public HttpClient Client { get; }

    public Server Server => App.Services.GetRequiredService<Server>();

    /// <summary>Options as tests want them: quiet, and on a free port.</summary>
    public static ServerOptions Options { get; } = new() { Port = 0, LogLevel = LogLevel.None, ServedModelName = ["scripted", "alias/of it"] };

    public static async Task<TestHost> StartAsync(
        ServerOptions? options = null, Action<ScriptedRunner>? script = null, Action<ServerSettings>? settings = null, bool serve = true,
        TemplateFlavour flavour = TemplateFlavour.Small, int maxSequences = 16, int? guessingSeed = null)
    {
        options ??= Options;
        ScriptedRunner runner = new(Tokenizer, maxSequences) { GuessingSeed = guessingSeed };
        script?.Invoke(runner);
        InferenceEngine engine = new(runner, new EngineOptions { MaxModelLength = MaxModelLength, MaxSequences = options.MaxNumSeqs, MaxQueue = options.MaxQueue, MaxQueuePerClient = options.MaxQueuePerKey, DraftCost = guessingSeed is null ? null : 0 });
        engine.Start();
        ServedModel model = new()
        {
            Names = options.ServedModelName,
            Tokenizer = Tokenizer,
            Flavour = flavour,
            Defaults = new SamplingDefaults(),
            EndTokens = Tokenizer.Special.EndOfGeneration,
            SuppressTokens = [Tokenizer.Special.ImageEnd],
            Engine = engine,
            VocabularySize = Tokenizer.VocabularySize,
            BlockSize = 16,
            Fingerprint = "gs-test",
            Owned = [runner],
        };
        WebApplication app = GemmaServerApp.Build(options, s =>
        {
            s.HandleSignals = false;
            settings?.Invoke(s);
        });
        if (serve) app.Serve(model);
        await app.StartAsync();
        return new TestHost(app, model, runner);
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        Runner.EndMarathon = true;
        await App.StopAsync();
        await App.DisposeAsync();
        Model.Dispose();
    }

    /// <summary>Posts JSON text.</summary>
    public Task<HttpResponseMessage> PostAsync(string path, string json, HttpCompletionOption completion = HttpCompletionOption.ResponseContentRead, CancellationToken cancellation = default) =>
        Client.SendAsync(new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(json, Encoding.UTF8, "application/json") }, completion, cancellation);

    /// <summary>Posts JSON text and expects 200 with JSON.</summary>
    public async Task<JsonElement> AskAsync(string path, string json)
    {
        using HttpResponseMessage response = await PostAsync(path, json);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == HttpStatusCode.OK, $"{(int)response.StatusCode}: {text}");
        return Json(text);
    }

    /// <summary>A chat request with one user message; <paramref name="more"/> holds further members.</summary>
    public static string Chat(string user, string more = "") =>
        $$"""{"messages":[{"role":"user","content":{{JsonSerializer.Serialize(user)}}}]{{(more.Length > 0 ? "," : "")}}{{more}}}""";

    /// <summary>Streams, and gives the data lines without "data: "; fails on anything that is not in the contract.</summary>
    public async Task<List<string>> StreamAsync(string path, string json)
    {
        using HttpResponseMessage response = await PostAsync(path, json, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal("text/event-stream; charset=utf-8", response.Content.Headers.ContentType!.ToString());
        return DataLines(await response.Content.ReadAsStringAsync());
    }

    /// <summary>Takes a stream apart; only data events and comments may be in it.</summary>
    public static List<string> DataLines(string stream)
    {
        Assert.EndsWith("\n\n", stream);
        List<string> lines = [];
        foreach (string part in stream[..^2].Split("\n\n"))
        {
            Assert.DoesNotContain('\n', part);
            if (part.StartsWith(": ", StringComparison.Ordinal)) continue;
            Assert.StartsWith("data: ", part);
            lines.Add(part["data: ".Length..]);
        }
        return lines;
    }

    public static JsonElement Json(string text)
    {
        using JsonDocument document = JsonDocument.Parse(text, new JsonDocumentOptions { AllowDuplicateProperties = false });
        return document.RootElement.Clone();
    }

    /// <summary>Waits for a condition that other threads bring about.</summary>
    public static async Task UntilAsync(Func<bool> condition, string what)
    {
        for (int i = 0; i < 2000; i++)
        {
            if (condition()) return;
            await Task.Delay(10);
        }
        Assert.Fail($"Waited in vain until {what}.");
    }
}
