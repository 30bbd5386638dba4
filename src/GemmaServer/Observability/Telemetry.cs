using OpenTelemetry;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace GemmaServer;

/// <summary>Sends traces and metrics to an OpenTelemetry collector, when one is configured; otherwise there is nothing here to pay for.</summary>
internal sealed class Telemetry : IDisposable
{
    private const string EndpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT";

    private readonly TracerProvider? _traces;
    private readonly MeterProvider? _metrics;

    private Telemetry(TracerProvider? traces, MeterProvider? metrics)
    {
        _traces = traces;
        _metrics = metrics;
    }

    /// <summary>Starts exporting to --otlp-endpoint, else to the standard variable's endpoint, else nowhere.</summary>
    public static Telemetry Start(ServerOptions options)
    {
        // The SDK's own reading of the variable adds the signal's path for http/protobuf; an endpoint set in code would not.
        if (options.OtlpEndpoint is { } endpoint) Environment.SetEnvironmentVariable(EndpointVariable, endpoint.ToString());
        if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable(EndpointVariable))) return new Telemetry(null, null);

        ResourceBuilder resource = ResourceBuilder.CreateDefault();
        if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable("OTEL_SERVICE_NAME"))) resource.AddService("gemmaserver", serviceVersion: ServerVersion.Text);
        TracerProvider traces = Sdk.CreateTracerProviderBuilder()
            .SetResourceBuilder(resource)
            .AddSource(ServerMetrics.MeterName, "Microsoft.AspNetCore")
            .AddOtlpExporter()
            .Build();
        MeterProvider metrics = Sdk.CreateMeterProviderBuilder()
            .SetResourceBuilder(resource)
            .AddMeter(ServerMetrics.MeterName)
            .AddOtlpExporter()
            .Build();
        return new Telemetry(traces, metrics);
    }

    public void Dispose()
    {
        _traces?.Dispose();
        _metrics?.Dispose();
    }
}

/// <summary>The version of this build.</summary>
internal static class ServerVersion
{
    public static string Text { get; } = typeof(ServerVersion).Assembly.GetName().Version?.ToString(3) ?? "0.0.0";
}
