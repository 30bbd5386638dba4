using Serilog;
using Serilog.Core;
using Serilog.Events;
using Serilog.Formatting.Json;

namespace GemmaServer;

/// <summary>The log: one JSON object a line on standard output, or text for people. Prompts and answers are never in it.</summary>
internal static partial class Logs
{
    /// <summary>Makes the logger; the caller disposes it.</summary>
    public static Logger Create(ServerOptions options)
    {
        LoggerConfiguration logs = new LoggerConfiguration()
            .MinimumLevel.Is(Level(options.LogLevel))
            // ASP.NET tells every request three times; our own lines tell it once.
            .MinimumLevel.Override("Microsoft.AspNetCore", options.LogLevel <= LogLevel.Debug ? LogEventLevel.Information : LogEventLevel.Warning)
            .Enrich.FromLogContext();
        bool isJson = options.LogFormat == LogFormat.Json || (options.LogFormat == LogFormat.Auto && Console.IsOutputRedirected);
        logs = isJson
            ? logs.WriteTo.Console(new JsonFormatter(renderMessage: true))
            : logs.WriteTo.Console(outputTemplate: "{Timestamp:HH:mm:ss.fff} {Level:u3} {Message:lj}{NewLine}{Exception}");
        return logs.CreateLogger();
    }

    private static LogEventLevel Level(LogLevel level) => level switch
    {
        LogLevel.Trace => LogEventLevel.Verbose,
        LogLevel.Debug => LogEventLevel.Debug,
        LogLevel.Information => LogEventLevel.Information,
        LogLevel.Warning => LogEventLevel.Warning,
        LogLevel.Error => LogEventLevel.Error,
        _ => LogEventLevel.Fatal,
    };

    [LoggerMessage(Level = LogLevel.Information, Message = "{Line}")]
    public static partial void Loading(Microsoft.Extensions.Logging.ILogger logger, string line);

    [LoggerMessage(Level = LogLevel.Error, Message = "The engine survived a failure")]
    public static partial void EngineFailure(Microsoft.Extensions.Logging.ILogger logger, Exception e);

    [LoggerMessage(Level = LogLevel.Critical, Message = "The model cannot be served: {Reason}")]
    public static partial void LoadFailed(Microsoft.Extensions.Logging.ILogger logger, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "GemmaServer {Version} listens on {Addresses} with\n{Settings}")]
    public static partial void Started(Microsoft.Extensions.Logging.ILogger logger, string version, string addresses, string settings);
}
