using System.Collections.Concurrent;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace GemmaServer.Tests.Http;

/// <summary>Some other OpenAI-compatible server, which answers as a test wants: one line of data at a time.</summary>
internal sealed class FakeOpenAiServer : IAsyncDisposable
{
    private readonly WebApplication _app;
    private int _count = -1;

    private FakeOpenAiServer(WebApplication app) => _app = app;

    public string Url => _app.Urls.First();

    /// <summary>Bodies in the order in which they came; the first is the one that warms up.</summary>
    public ConcurrentQueue<JsonElement> Bodies { get; } = [];

    /// <param name="answer">Given the request's number (0 warms up), its body and the response.</param>
    public static async Task<FakeOpenAiServer> StartAsync(Func<int, JsonElement, HttpResponse, Task> answer)
    {
        WebApplicationBuilder builder = WebApplication.CreateBuilder();
        builder.Logging.ClearProviders();
        WebApplication app = builder.Build();
        app.Urls.Add("http://127.0.0.1:0");
        FakeOpenAiServer server = new(app);
        app.MapGet("/v1/models", static () => Results.Text("""{"object":"list","data":[{"id":"other/model"}]}""", "application/json"));
        app.MapPost("/v1/{**path}", async context =>
        {
            using JsonDocument body = await JsonDocument.ParseAsync(context.Request.Body);
            JsonElement root = body.RootElement.Clone();
            server.Bodies.Enqueue(root);
            await answer(Interlocked.Increment(ref server._count), root, context.Response);
        });
        await app.StartAsync();
        return server;
    }

    /// <summary>A chat answer of so many pieces.</summary>
    public static async Task ChatAsync(HttpResponse response, int pieces, bool done = true)
    {
        response.ContentType = "text/event-stream";
        await DataAsync(response, """{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}""");
        for (int i = 0; i < pieces; i++) await DataAsync(response, """{"choices":[{"index":0,"delta":{"content":"word "}}]}""");
        await DataAsync(response, """{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}""");
        if (done) await DataAsync(response, "[DONE]");
    }

    public static async Task DataAsync(HttpResponse response, string data)
    {
        await response.WriteAsync($"data: {data}\n\n");
        await response.Body.FlushAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync();
        await _app.DisposeAsync();
    }
}
