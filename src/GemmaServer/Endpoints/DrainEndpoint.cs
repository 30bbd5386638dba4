namespace GemmaServer;

/// <summary><c>POST /drain</c> (admin): as SIGTERM. Answers at once; the process ends when running requests are done.</summary>
internal static class DrainEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server) => routes.MapPost("/drain", http =>
    {
        if (!server.IsDraining && http.RequestServices.GetRequiredService<IHostLifetime>() is DrainingLifetime lifetime) lifetime.Drain();
        http.Response.StatusCode = StatusCodes.Status202Accepted;
        http.Response.ContentType = "application/json";
        return http.Response.WriteAsync($"{{\"status\":\"draining\",\"in_flight\":{server.InFlight}}}");
    });
}
