namespace GemmaServer;

/// <summary><c>GET /load</c> as vLLM has it: generation requests being answered, for balancers that ask.</summary>
internal static class LoadEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server) => routes.MapGet("/load", http =>
    {
        http.Response.ContentType = "application/json";
        return http.Response.WriteAsync($"{{\"server_load\":{server.InFlight}}}");
    });
}
