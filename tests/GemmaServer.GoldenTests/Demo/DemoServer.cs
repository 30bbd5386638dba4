using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>What <c>gemmaserver</c> without arguments serves, on a free loopback port.</summary>
public sealed class DemoServer : IAsyncLifetime
{
    private WebApplication? _app;

    public Uri Url { get; private set; } = null!;

    public HttpClient Client { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        ServerOptions options = new() { Port = 0, LogLevel = LogLevel.None, MaxNumSeqs = 32 };
        _app = GemmaServerApp.Build(options, s => s.HandleSignals = false);
        _app.Serve(ModelLoader.Load(options, RunnerMaker.Make, NullLogger.Instance));
        await _app.StartAsync();
        Url = new Uri(_app.Urls.First());
        Client = new HttpClient { BaseAddress = Url };
    }

    public async Task DisposeAsync()
    {
        Client.Dispose();
        await _app!.DisposeAsync();
    }
}

/// <summary>One server for all tests that talk to the demo model.</summary>
[CollectionDefinition(Name)]
public sealed class DemoServerCollection : ICollectionFixture<DemoServer>
{
    public const string Name = "demo server";
}
