using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>
/// <c>POST /tokenize</c> in vLLM's form (<c>prompt</c> or <c>messages</c> in; <c>count, max_model_len, tokens, token_strs</c> out) and in
/// llama.cpp's (<c>content</c> in; <c>tokens</c> out, with pieces on request).
/// </summary>
internal static class TokenizeEndpoint
{
    /// <summary>What was asked, tokenized.</summary>
    private sealed record Tokenized(int[] Tokens, bool IsLlamaForm, bool WithStrings);

    public static void Map(IEndpointRouteBuilder routes, Server server) => routes.MapPost("/tokenize", http => Handle(http, server));

    private static async Task Handle(HttpContext http, Server server)
    {
        (Tokenized? result, ServedModel? model, ApiError? error) = await server.ReadAsync<Tokenized>(http, Read);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        json.WriteStartObject();
        if (!result!.IsLlamaForm)
        {
            json.WriteNumber("count"u8, result.Tokens.Length);
            json.WriteNumber("max_model_len"u8, model!.MaxModelLength);
        }
        json.WriteStartArray("tokens"u8);
        foreach (int token in result.Tokens)
        {
            if (result.IsLlamaForm && result.WithStrings) WritePiece(json, model!.Tokenizer, token);
            else json.WriteNumberValue(token);
        }
        json.WriteEndArray();
        if (!result.IsLlamaForm) WriteStrings(json, model!.Tokenizer, result);
        json.WriteEndObject();
    }

    private static ApiError? Read(JsonElement root, ServedModel model, ServerOptions options, out Tokenized? result)
    {
        result = null;
        FieldReader fields = new(root);
        if (fields.Text("model") is { } name && !model.Serves(name)) return ApiError.UnknownModel(name);
        if (fields.TryGet("messages", out _))
        {
            bool withStrings = fields.Flag("return_token_strs", false);
            RenderedPrompt? rendered = PromptFields.Read(fields, model, onlyShown: true)?.Render(fields, model);
            if (rendered is not null) result = new(rendered.Tokenize(model.Tokenizer), IsLlamaForm: false, withStrings);
            return fields.Error;
        }
        bool isLlama = fields.TryGet("content", out _);
        string? text = fields.Text(isLlama ? "content" : "prompt");
        bool addSpecial = isLlama ? fields.Flag("add_special", false) : fields.Flag("add_special_tokens", true);
        bool parseSpecial = fields.Flag("parse_special", true);
        bool strings = fields.Flag(isLlama ? "with_pieces" : "return_token_strs", false);
        if (fields.Error is { } error) return error;
        if (text is null) return ApiError.Missing("prompt");
        int[] tokens = parseSpecial
            ? CompletionRequestReader.EncodePrompt(model.Tokenizer, text, addSpecial)
            : [.. addSpecial && model.Tokenizer.Special.Bos >= 0 ? (int[])[model.Tokenizer.Special.Bos] : [], .. model.Tokenizer.Encode(text, parseSpecial: false)];
        result = new(tokens, isLlama, strings);
        return null;
    }

    private static void WriteStrings(Utf8JsonWriter json, Tokenizer tokenizer, Tokenized result)
    {
        if (!result.WithStrings)
        {
            json.WriteNull("token_strs"u8);
            return;
        }
        json.WriteStartArray("token_strs"u8);
        foreach (int token in result.Tokens) json.WriteStringValue(tokenizer.Piece(token));
        json.WriteEndArray();
    }

    /// <summary>llama.cpp's piece: text, or byte values where the bytes are no text by themselves.</summary>
    private static void WritePiece(Utf8JsonWriter json, Tokenizer tokenizer, int token)
    {
        ReadOnlySpan<byte> bytes = tokenizer.TokenBytes(token);
        json.WriteStartObject();
        json.WriteNumber("id"u8, token);
        if (Utf8.IsValid(bytes)) json.WriteString("piece"u8, Encoding.UTF8.GetString(bytes));
        else
        {
            json.WriteStartArray("piece"u8);
            foreach (byte b in bytes) json.WriteNumberValue(b);
            json.WriteEndArray();
        }
        json.WriteEndObject();
    }
}
