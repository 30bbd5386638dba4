namespace GemmaServer;

/// <summary>
/// <c>POST /reset_prefix_cache</c> (admin), SGLang's <c>/flush_cache</c>: forgets every cached prefix that no running request holds.
/// Answers when it is done, with the pages that this freed.
/// </summary>
internal static class PrefixCacheEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server)
    {
        routes.MapPost("/reset_prefix_cache", http => Handle(http, server));
        routes.MapPost("/flush_cache", http => Handle(http, server));
    }

    private static async Task Handle(HttpContext http, Server server)
    {
        if (server.Model is not { } model)
        {
            await ApiError.Loading.WriteAsync(http);
            return;
        }
        int pages = await model.Engine.ForgetPrefixesAsync();
        http.Response.ContentType = "application/json";
        await http.Response.WriteAsync($"{{\"status\":\"ok\",\"pages\":{pages}}}");
    }
}
