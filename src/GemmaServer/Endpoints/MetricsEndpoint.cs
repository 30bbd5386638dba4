namespace GemmaServer;

/// <summary><c>GET /metrics</c>: Prometheus text.</summary>
internal static class MetricsEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server) => routes.MapGet("/metrics", http =>
    {
        http.Response.ContentType = PrometheusExporter.ContentType;
        return http.Response.WriteAsync(server.Metrics.Exporter.Write());
    });
}
