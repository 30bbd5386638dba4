namespace GemmaServer;

/// <summary>
/// Probes: <c>/livez</c> (the process), <c>/readyz</c> (takes new requests: loaded and not draining), <c>/health</c> as vLLM and
/// llama.cpp have it (loaded; 503 with "Loading model" before), and <c>/ping</c> for SageMaker.
/// </summary>
internal static class HealthEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server)
    {
        routes.MapGet("/livez", static http => OkAsync(http));
        routes.MapGet("/readyz", http => server.NotReady is { } error ? error.WriteAsync(http) : OkAsync(http));
        routes.MapGet("/health", http => server.Model is null ? ApiError.Loading.WriteAsync(http) : OkAsync(http));
        routes.MapGet("/healthz", http => server.Model is null ? ApiError.Loading.WriteAsync(http) : OkAsync(http));
        routes.MapMethods("/ping", ["GET", "POST"], http => server.Model is null ? ApiError.Loading.WriteAsync(http) : OkAsync(http));
    }

    private static Task OkAsync(HttpContext http)
    {
        http.Response.ContentType = "application/json";
        return http.Response.WriteAsync("{\"status\":\"ok\"}");
    }
}
