namespace GemmaServer;

/// <summary><c>GET /openapi.json</c>, the description of this API, and the Swagger UI over it under <c>/swagger</c>.</summary>
internal static class OpenApiEndpoint
{
    public const string Resource = "openapi.json";

    public static void Map(WebApplication app)
    {
        app.MapGet("/openapi.json", static async http =>
        {
            http.Response.ContentType = "application/json";
            await using Stream document = typeof(OpenApiEndpoint).Assembly.GetManifestResourceStream(Resource)!;
            await document.CopyToAsync(http.Response.Body, http.RequestAborted);
        });
        app.UseSwaggerUI(static ui =>
        {
            ui.RoutePrefix = "swagger";
            ui.DocumentTitle = "GemmaServer";
            ui.SwaggerEndpoint("/openapi.json", "GemmaServer");
        });
    }
}
