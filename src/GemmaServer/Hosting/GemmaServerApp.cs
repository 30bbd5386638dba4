using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Serilog.Core;

namespace GemmaServer;

/// <summary>Puts the web application together; the program and the tests build the same one.</summary>
public static class GemmaServerApp
{
    /// <summary>An application that serves a model which is loaded already.</summary>
    /// <param name="options">Checked options.</param>
    /// <param name="model">Disposed with the application.</param>
    public static WebApplication Build(ServerOptions options, ServedModel model)
    {
        WebApplication app = Build(options, (Action<ServerSettings>?)null);
        app.Services.GetRequiredService<Server>().Serve(model);
        return app;
    }

    /// <summary>An application that answers 503 until <see cref="Serve"/> gives it a model.</summary>
    internal static WebApplication Build(ServerOptions options, Action<ServerSettings>? configure)
    {
        ServerSettings settings = new();
        configure?.Invoke(settings);

        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { ApplicationName = "GemmaServer" });
        Logger logs = Logs.Create(options);
        builder.Logging.ClearProviders();
        Serilog.SerilogLoggingBuilderExtensions.AddSerilog(builder.Logging, logs, dispose: true);
        builder.Services.AddSingleton(services => new Server(options, services.GetRequiredService<ILoggerFactory>()) { KeepAlive = settings.KeepAlive });
        builder.Services.AddSingleton(_ => Telemetry.Start(options));
        builder.Services.AddSingleton<IHostLifetime>(services => new DrainingLifetime(
            services.GetRequiredService<Server>(), services.GetRequiredService<IHostApplicationLifetime>(), settings.HandleSignals));
        builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = TimeSpan.FromSeconds(10));
        builder.WebHost.ConfigureKestrel(kestrel => Configure(kestrel, options));

        WebApplication app = builder.Build();
        app.Services.GetRequiredService<Telemetry>();
        Server server = app.Services.GetRequiredService<Server>();
        app.Use(next => http => new RequestFrame(server).InvokeAsync(http, next));
        ApiKeys keys = new(server);
        app.Use(next => http => keys.InvokeAsync(http, next));
        app.UseRouting();
        Map(app, server);
        return app;
    }

    /// <summary>Gives the application its model.</summary>
    public static void Serve(this WebApplication app, ServedModel model) => app.Services.GetRequiredService<Server>().Serve(model);

    private static void Map(WebApplication app, Server server)
    {
        ChatCompletionsEndpoint.Map(app, server);
        CompletionsEndpoint.Map(app, server);
        MessagesEndpoint.Map(app, server);
        OllamaEndpoint.Map(app, server);
        RenderEndpoint.Map(app, server);
        ResponsesEndpoint.Map(app, server);
        DerenderEndpoint.Map(app, server);
        ModelsEndpoint.Map(app, server);
        TokenizeEndpoint.Map(app, server);
        DetokenizeEndpoint.Map(app, server);
        ApplyTemplateEndpoint.Map(app, server);
        HealthEndpoint.Map(app, server);
        MetricsEndpoint.Map(app, server);
        VersionEndpoint.Map(app);
        LoadEndpoint.Map(app, server);
        PropsEndpoint.Map(app, server);
        AbortRequestsEndpoint.Map(app, server);
        PrefixCacheEndpoint.Map(app, server);
        DrainEndpoint.Map(app, server);
        PlaygroundEndpoint.Map(app, server);
        if (server.Options.EnableSwagger) OpenApiEndpoint.Map(app);
    }

    private static void Configure(KestrelServerOptions kestrel, ServerOptions options)
    {
        kestrel.AddServerHeader = false;
        // Our own reading stops at the limit as well; this one covers bodies nobody reads.
        kestrel.Limits.MaxRequestBodySize = options.BodyLimit;
        kestrel.Limits.MinResponseDataRate = null;      // a model may think longer than Kestrel's patience
        if (options.Host == "localhost") kestrel.Listen(IPAddress.Loopback, options.Port);
        else if (options.Host == "*") kestrel.ListenAnyIP(options.Port);
        else kestrel.Listen(IPAddress.Parse(options.Host), options.Port);
    }
}

/// <summary>What only tests change.</summary>
internal sealed class ServerSettings
{
    /// <summary>See <see cref="Server.KeepAlive"/>.</summary>
    public TimeSpan KeepAlive { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>Whether SIGTERM and Ctrl+C are this application's.</summary>
    public bool HandleSignals { get; set; } = true;
}
