using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>
/// <c>POST /apply-template</c>: <c>messages</c>, <c>tools</c>, <c>add_generation_prompt</c> (default true), <c>continue_final_message</c>,
/// <c>chat_template_kwargs</c>, <c>chat_template_fixes</c> (default true) in; <c>prompt</c> and its <c>tokens</c> out.
/// </summary>
internal static class ApplyTemplateEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server) => routes.MapPost("/apply-template", http => Handle(http, server));

    private static async Task Handle(HttpContext http, Server server)
    {
        (RenderedPrompt? rendered, ServedModel? model, ApiError? error) = await server.ReadAsync<RenderedPrompt>(http, Read);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        json.WriteStartObject();
        json.WriteString("prompt"u8, rendered!.Text);
        json.WriteStartArray("tokens"u8);
        foreach (int token in rendered.Tokenize(model!.Tokenizer)) json.WriteNumberValue(token);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static ApiError? Read(JsonElement root, ServedModel model, ServerOptions options, out RenderedPrompt? rendered)
    {
        rendered = null;
        FieldReader fields = new(root);
        if (fields.Text("model") is { } name && !model.Serves(name)) return ApiError.UnknownModel(name);
        rendered = PromptFields.Read(fields, model, onlyShown: true)?.Render(fields, model);
        return fields.Error;
    }
}
