using System.Text.Json;

namespace GemmaServer;

/// <summary><c>POST /detokenize</c>: <c>tokens</c> in, the text out as <c>prompt</c> (vLLM) and <c>content</c> (llama.cpp).</summary>
internal static class DetokenizeEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server) => routes.MapPost("/detokenize", http => Handle(http, server));

    private static async Task Handle(HttpContext http, Server server)
    {
        (string? text, _, ApiError? error) = await server.ReadAsync<string>(http, Read);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        json.WriteStartObject();
        json.WriteString("prompt"u8, text);
        json.WriteString("content"u8, text);
        json.WriteEndObject();
    }

    private static ApiError? Read(JsonElement root, ServedModel model, ServerOptions options, out string? text)
    {
        text = null;
        FieldReader fields = new(root);
        if (fields.Text("model") is { } name && !model.Serves(name)) return ApiError.UnknownModel(name);
        bool skipSpecial = fields.Flag("skip_special_tokens", false);
        if (!fields.TryGetArray("tokens", out JsonElement tokens)) return fields.Error ?? ApiError.Missing("tokens");
        int[] ids = new int[tokens.GetArrayLength()];
        int i = 0;
        foreach (JsonElement item in tokens.EnumerateArray())
        {
            if (fields.Integer($"tokens[{i}]", item, 0, model.VocabularySize - 1) is not { } id) return fields.Error;
            ids[i++] = (int)id;
        }
        text = model.Tokenizer.Decode(ids, skipSpecial);
        return fields.Error;
    }
}
