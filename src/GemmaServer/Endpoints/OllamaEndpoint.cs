using System.Text.Json;

namespace GemmaServer;

/// <summary>
/// Ollama's API: <c>/api/chat</c>, <c>/api/generate</c>, <c>/api/tags</c>, <c>/api/show</c>, <c>/api/ps</c> and <c>/api/version</c>. What
/// manages models answers 501: the model is chosen when the server starts.
/// </summary>
internal static class OllamaEndpoint
{
    /// <summary>The version whose API this is; some clients refuse lower ones.</summary>
    private const string Version = "0.13.5";

    private static readonly (string Path, string[] Methods)[] s_managing =
    [
        ("/api/pull", ["POST"]), ("/api/push", ["POST"]), ("/api/create", ["POST"]), ("/api/copy", ["POST"]), ("/api/delete", ["DELETE"]),
        ("/api/blobs/{digest}", ["HEAD", "POST"]),
    ];

    private sealed record Name(string Text);

    public static void Map(IEndpointRouteBuilder routes, Server server)
    {
        routes.MapPost("/api/chat", http => AnswerAsync(http, server, "ollama_chat", OllamaRequestReader.ReadChat));
        routes.MapPost("/api/generate", http => AnswerAsync(http, server, "ollama_generate", OllamaRequestReader.ReadGenerate));
        routes.MapMethods("/api/tags", ["GET", "HEAD"], http => ListAsync(http, server, areRunning: false));
        routes.MapMethods("/api/ps", ["GET", "HEAD"], http => ListAsync(http, server, areRunning: true));
        routes.MapPost("/api/show", http => ShowAsync(http, server));
        routes.MapMethods("/api/version", ["GET", "HEAD"], static http =>
        {
            http.Response.ContentType = "application/json";
            return http.Response.WriteAsync($"{{\"version\":\"{Version}\"}}");
        });
        ApiError fixedModel = ApiError.NotImplemented("Models cannot be managed over this API: the one to serve is named when the server starts.");
        foreach ((string path, string[] methods) in s_managing) routes.MapMethods(path, methods, http => fixedModel.WriteAsync(http));
        ApiError noEmbeddings = ApiError.NotImplemented("This model makes no embeddings.");
        routes.MapPost("/api/embed", http => noEmbeddings.WriteAsync(http));
        routes.MapPost("/api/embeddings", http => noEmbeddings.WriteAsync(http));
    }

    /// <summary>Whether a path is this API's.</summary>
    public static bool IsAt(PathString path) => path.StartsWithSegments("/api");

    private static async Task AnswerAsync(HttpContext http, Server server, string operation, RequestReader<OllamaRequest> reader)
    {
        RequestOrigin origin = default;
        (OllamaRequest? request, ServedModel? model, ApiError? error) = await server.ReadAsync(http, reader);
        error ??= RequestOrigin.Read(http, server.Options, out origin);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        OllamaShape shape = new(request!);
        if (request!.Chat is { } chat) await ChatAnswer.ServeAsync(http, server, operation, model!, chat, origin, shape);
        else if (request.Raw is { } raw) await CompletionAnswer.ServeAsync(http, server, operation, model!, raw, origin, shape);
        else await WriteAsync(http, shape.Loaded);
    }

    private static Task ListAsync(HttpContext http, Server server, bool areRunning) =>
        server.Model is { } model ? WriteAsync(http, json => OllamaModels.WriteList(json, model, areRunning)) : ApiError.Loading.WriteAsync(http);

    private static async Task ShowAsync(HttpContext http, Server server)
    {
        (Name? name, ServedModel? model, ApiError? error) = await server.ReadAsync<Name>(http, ReadName);
        if (error is null) await WriteAsync(http, json => OllamaModels.WriteOne(json, model!, name!.Text));
        else await error.WriteAsync(http);
    }

    private static ApiError? ReadName(JsonElement root, ServedModel model, ServerOptions options, out Name? name)
    {
        name = null;
        FieldReader fields = new(root);
        string? text = fields.Text("model") ?? fields.Text("name");
        if (fields.Error is { } error) return error;
        if (string.IsNullOrEmpty(text)) return ApiError.Missing("model");
        if (OllamaNames.Served(model, text) is null) return ApiError.UnknownModel(text);
        name = new Name(text);
        return null;
    }

    private static async Task WriteAsync(HttpContext http, Action<Utf8JsonWriter> write)
    {
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        write(json);
    }
}
