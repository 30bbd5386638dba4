namespace GemmaServer;

/// <summary><c>GET /version</c>.</summary>
internal static class VersionEndpoint
{
    public static void Map(IEndpointRouteBuilder routes) => routes.MapGet("/version", static http =>
    {
        http.Response.ContentType = "application/json";
        return http.Response.WriteAsync($"{{\"version\":\"{ServerVersion.Text}\"}}");
    });
}
