namespace GemmaServer;

/// <summary><c>POST /v1/chat/completions</c>.</summary>
internal static class ChatCompletionsEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server) =>
        routes.MapPost("/v1/chat/completions", http => Handle(http, server));

    private static async Task Handle(HttpContext http, Server server)
    {
        RequestOrigin origin = default;
        (ChatRequest? request, ServedModel? model, ApiError? error) = await server.ReadAsync<ChatRequest>(http, ChatRequestReader.Read);
        error ??= RequestOrigin.Read(http, server.Options, out origin);
        if (error is not null) await error.WriteAsync(http);
        else await ChatAnswer.ServeAsync(http, server, "chat", model!, request!, origin, new ChatShape(model!, request!, server.Options.ReasoningField));
    }
}
