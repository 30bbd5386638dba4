using System.Text.Json;

namespace GemmaServer;

/// <summary>Anthropic's API: <c>POST /v1/messages</c> and <c>POST /v1/messages/count_tokens</c>.</summary>
internal static class MessagesEndpoint
{
    private const string Path = "/v1/messages";

    public static void Map(IEndpointRouteBuilder routes, Server server)
    {
        routes.MapPost(Path, http => Handle(http, server));
        routes.MapPost($"{Path}/count_tokens", http => CountAsync(http, server));
    }

    /// <summary>Whether a path is this API's.</summary>
    public static bool IsAt(PathString path) => path.StartsWithSegments(Path);

    private static async Task Handle(HttpContext http, Server server)
    {
        RequestOrigin origin = default;
        (MessagesRequest? request, ServedModel? model, ApiError? error) = await server.ReadAsync<MessagesRequest>(http, MessagesRequestReader.Read);
        error ??= RequestOrigin.Read(http, server.Options, out origin);
        if (error is not null) await error.WriteAsync(http);
        else await ChatAnswer.ServeAsync(http, server, "messages", model!, request!.Chat, origin, new MessagesShape(model!, request));
    }

    private static async Task CountAsync(HttpContext http, Server server)
    {
        (MessagesCount? count, _, ApiError? error) = await server.ReadAsync<MessagesCount>(http, MessagesRequestReader.ReadCount);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        json.WriteStartObject();
        json.WriteNumber("input_tokens"u8, count!.InputTokens);
        json.WriteEndObject();
    }
}
