using GemmaServer.Model;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>What <c>gemmaserver</c> without arguments serves, on a free loopback port.</summary>
public sealed class DemoServer : IAsyncLifetime
{
    private WebApplication? _app;
    private PacedRunner? _runner;

    public Uri Url { get; private set; } = null!;

    public HttpClient Client { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        ServerOptions options = new() { Port = 0, LogLevel = LogLevel.None, MaxNumSeqs = 32 };
        _app = GemmaServerApp.Build(options, s => s.HandleSignals = false);
        _app.Serve(ModelLoader.Load(options, Make, NullLogger.Instance));
        await _app.StartAsync();
        Url = new Uri(_app.Urls.First());
        Client = new HttpClient { BaseAddress = Url };
    }

    /// <summary>Lets each step last at least so many milliseconds; 0 for as fast as it can.</summary>
    public void SetPace(int milliseconds) => _runner!.Milliseconds = milliseconds;

    public async Task DisposeAsync()
    {
        Client.Dispose();
        await _app!.DisposeAsync();
    }

    private (IModelRunner, int) Make(Checkpoint checkpoint, Checkpoint? drafter, ServerOptions options, Action<string> log)
    {
        (IModelRunner runner, int maxModelLength) = RunnerMaker.Make(checkpoint, drafter, options, log);
        return (_runner = new PacedRunner(runner), maxModelLength);
    }
}

/// <summary>One server for all tests that talk to the demo model.</summary>
[CollectionDefinition(Name)]
public sealed class DemoServerCollection : ICollectionFixture<DemoServer>
{
    public const string Name = "demo server";
}
