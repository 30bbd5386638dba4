using Serilog;
using Serilog.Core;
using Serilog.Events;
using Serilog.Formatting.Json;

namespace GemmaServer;

/// <summary>The log: one JSON object a line on standard output, or text for people. Prompts and answers are never in it.</summary>
internal static class Logs
{
    /// <summary>Makes the logger; the caller disposes it.</summary>
    public static Logger Create(ServerOptions options)
    {
        LoggerConfiguration logs = new LoggerConfiguration()
            .MinimumLevel.Is(Level(options.LogLevel))
            // ASP.NET tells every request three times; our own lines tell it once.
            .MinimumLevel.Override("Microsoft.AspNetCore", options.LogLevel <= LogLevel.Debug ? LogEventLevel.Information : LogEventLevel.Warning)
            .Enrich.FromLogContext();
        logs = options.LogFormat == LogFormat.Json
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
}
