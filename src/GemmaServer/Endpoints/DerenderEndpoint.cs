using System.Text;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>
/// <c>POST /v1/chat/completions/derender</c>: what a chat answer would be made of given output. In: the output as <c>text</c> (control
/// tokens spelled out), <c>token_ids</c> or <c>pieces</c> (<c>[text, is_special]</c> pairs), and of the request it answers
/// <c>prompt_state</c> (content or thought_open; else worked out from <c>messages</c>), <c>finish_reason</c> (stop or length), <c>tools</c> and
/// <c>chat_template_kwargs</c>. Out: the chat <c>message</c> and its <c>finish_reason</c>, also as the one choice of a chat completion.
/// </summary>
internal static class DerenderEndpoint
{
    private static readonly string[] ControlTokens =
    [
        "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>",
        "<tool_response|>", "<|\"|>", "<|think|>", "<|channel>", "<channel|>", "<|turn>", "<turn|>", "<|image>", "<image|>", "<|image|>",
        "<|audio>", "<audio|>", "<|audio|>", "<|video|>",
    ];

    private sealed record Derendered(OutputCollector Message, OutputFinish Finish);

    public static void Map(IEndpointRouteBuilder routes, Server server) =>
        routes.MapPost("/v1/chat/completions/derender", http => Handle(http, server));

    private static async Task Handle(HttpContext http, Server server)
    {
        (Derendered? result, ServedModel? model, ApiError? error) = await server.ReadAsync<Derendered>(http, Read);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        string finish = result!.Finish switch { OutputFinish.Length => "length", OutputFinish.ToolCalls => "tool_calls", _ => "stop" };
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        json.WriteStartObject();
        json.WriteString("id"u8, $"chatcmpl-{Guid.NewGuid():N}");
        json.WriteString("object"u8, "chat.completion"u8);
        json.WriteNumber("created"u8, DateTimeOffset.UtcNow.ToUnixTimeSeconds());
        json.WriteString("model"u8, model!.Names[0]);
        json.WriteStartArray("choices"u8);
        json.WriteStartObject();
        json.WriteNumber("index"u8, 0);
        ChatShape.Message(json, result.Message, server.Options.ReasoningField);
        json.WriteNull("logprobs"u8);
        json.WriteString("finish_reason"u8, finish);
        json.WriteEndObject();
        json.WriteEndArray();
        ChatShape.Message(json, result.Message, server.Options.ReasoningField);
        json.WriteString("finish_reason"u8, finish);
        json.WriteEndObject();
    }

    private static ApiError? Read(JsonElement root, ServedModel model, ServerOptions options, out Derendered? result)
    {
        result = null;
        FieldReader fields = new(root);
        if (fields.Text("model") is { } name && !model.Serves(name)) return ApiError.UnknownModel(name);
        bool thinking = ReasoningFields.Read(fields).Enabled == true;
        bool isLength = fields.OneOf("finish_reason", "stop", "length") == "length";
        string? state = fields.OneOf("prompt_state", "content", "thought_open");
        PromptState start = state == "thought_open" ? PromptState.ThoughtOpen : PromptState.Content;
        if (state is null && fields.TryGet("messages", out _))
            start = PromptFields.Read(fields, model, onlyShown: true)?.Render(fields, model)?.EndState ?? start;
        else if (fields.TryGet("tools", out JsonElement tools) && OpenAiToolReader(tools) is { } bad)
            fields.Fail(bad);

        List<OutputEvent> events = [];
        OutputParser parser = new(model.Tokenizer, start, thinking);
        ReadOutput(fields, model, parser, events);
        if (fields.Error is { } error) return error;
        parser.Finish(isLength, events);
        OutputCollector message = new();
        message.AddRange(events);
        result = new Derendered(message, parser.FinishReason);
        return null;
    }

    /// <summary>Tools are only checked: a call to one that was not declared is reported like any other.</summary>
    private static ApiError? OpenAiToolReader(JsonElement tools)
    {
        using JsonDocument anyMessage = JsonDocument.Parse("""[{"role":"user","content":""}]""");
        return OpenAiMessageReader.TryRead(anyMessage.RootElement, tools, out _) is { } e
            ? new ApiError(e.Status, "invalid_request_error", e.Code, e.Message, e.Param)
            : null;
    }

    private static void ReadOutput(FieldReader fields, ServedModel model, OutputParser parser, List<OutputEvent> events)
    {
        string[] given = [.. ((string[])["text", "token_ids", "pieces"]).Where(name => fields.TryGet(name, out _))];
        if (fields.Error is not null) return;
        if (given.Length == 0) fields.Fail(ApiError.Missing("text"));
        else if (given.Length > 1) fields.Fail(ApiError.BadValue(given[1], $"it cannot be combined with '{given[0]}'."));
        else if (given[0] == "text") PushText(fields.Text("text"), parser, events);
        else if (fields.TryGetArray(given[0], out JsonElement array))
        {
            int i = 0;
            foreach (JsonElement item in array.EnumerateArray())
            {
                string path = $"{given[0]}[{i++}]";
                if (given[0] == "pieces") PushPiece(fields, path, item, parser, events);
                else if (fields.Integer(path, item, 0, model.VocabularySize - 1) is { } id) parser.Push((int)id, events);
                if (fields.Error is not null) return;
            }
        }
    }

    private static void PushPiece(FieldReader fields, string path, JsonElement item, OutputParser parser, List<OutputEvent> events)
    {
        bool isPair = item.ValueKind == JsonValueKind.Array && item.GetArrayLength() == 2 && item[0].ValueKind == JsonValueKind.String
            && item[1].ValueKind is JsonValueKind.True or JsonValueKind.False;
        if (!isPair) fields.Fail(ApiError.WrongType(path, "a pair of a string and a boolean", item));
        else parser.Push(Encoding.UTF8.GetBytes(item[0].GetString()!), item[1].GetBoolean(), events);
    }

    /// <summary>In a text every spelled control token is one.</summary>
    private static void PushText(string? text, OutputParser parser, List<OutputEvent> events)
    {
        ReadOnlySpan<char> rest = text;
        while (!rest.IsEmpty)
        {
            int at = -1;
            string? found = null;
            for (int i = rest.IndexOf('<'); i >= 0 && found is null; i = Next(rest, i))
            {
                foreach (string control in ControlTokens)
                {
                    if (rest[i..].StartsWith(control, StringComparison.Ordinal)) (at, found) = (i, control);
                }
            }
            if (found is null) at = rest.Length;
            if (at > 0) parser.Push(Encoding.UTF8.GetBytes(rest[..at].ToArray()), isSpecial: false, events);
            if (found is null) return;
            parser.Push(Encoding.UTF8.GetBytes(found), isSpecial: true, events);
            rest = rest[(at + found.Length)..];
        }
    }

    private static int Next(ReadOnlySpan<char> text, int after) => text[(after + 1)..].IndexOf('<') is >= 0 and var next ? after + 1 + next : -1;
}
