using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>
/// Reads messages and tools as a chat template is given them: arguments as objects, results without ids, media parts under
/// the template's names, calls still waiting for results. For looking at prompts only; what a client may ask a model is
/// read by <see cref="OpenAiMessageReader"/>.
/// </summary>
public static class TemplateMessageReader
{
    /// <summary>Reads; null where even the template would be given something it does not know.</summary>
    /// <param name="messages">A JSON array.</param>
    /// <param name="tools">A JSON array; <c>default</c> or null when there are none.</param>
    public static ChatConversation? TryRead(JsonElement messages, JsonElement tools)
    {
        if (messages.ValueKind != JsonValueKind.Array) return null;
        List<ChatMessage> read = [];
        foreach (JsonElement message in messages.EnumerateArray())
        {
            if (Message(message) is not { } m) return null;
            read.Add(m);
        }
        if (tools.ValueKind is JsonValueKind.Undefined or JsonValueKind.Null) return new(read, []);
        return ChatValue.TryFrom(tools) is { Kind: ChatValueKind.List } list && list.Items.All(static t => t["function"] is { Kind: ChatValueKind.Map })
            ? new(read, list.Items)
            : null;
    }

    private static ChatMessage? Message(JsonElement message)
    {
        // Roles are printed into the prompt, so they come from the fixed list here too.
        if (Text(message, "role") is not ("system" or "developer" or "user" or "assistant" or "model" or "tool") || Calls(message) is not { } calls) return null;
        ChatValue? content = null;
        if (message.TryGetProperty("content", out JsonElement element) && ((content = ChatValue.TryFrom(element)) is null || !AreKnown(content.Items))) return null;
        string? reasoning = Text(message, "reasoning");
        return new()
        {
            Role = Text(message, "role")!,
            Content = content,
            ToolCalls = calls,
            ToolResponses = [.. Items(message, "tool_responses").Select(static r => new ChatToolResponse(Text(r, "name"), Value(r, "response")))],
            ToolCallId = Text(message, "tool_call_id"),
            Name = Text(message, "name"),
            Reasoning = string.IsNullOrEmpty(reasoning) ? Text(message, "reasoning_content") : reasoning,
        };
    }

    /// <summary>A part without a type prints nothing; one of an unknown type is a mistake.</summary>
    private static bool AreKnown(IReadOnlyList<ChatValue> parts) => parts.All(static p =>
        p.Kind == ChatValueKind.Map && p["type"]?.Text is null or "text" or "image" or "image_url" or "audio" or "input_audio" or "video");

    private static List<ChatToolCall>? Calls(JsonElement message)
    {
        List<ChatToolCall> calls = [];
        foreach (JsonElement call in Items(message, "tool_calls"))
        {
            if (call.ValueKind != JsonValueKind.Object || !call.TryGetProperty("function", out JsonElement function)) return null;
            ChatValue arguments = Value(function, "arguments");
            if (Text(function, "name") is not { } name || arguments.Kind is not (ChatValueKind.Map or ChatValueKind.Null)) return null;
            calls.Add(new(Text(call, "id"), name, arguments));
        }
        return calls;
    }

    private static string? Text(JsonElement owner, string name) =>
        owner.ValueKind == JsonValueKind.Object && owner.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String
            ? JsonText.StringOf(value) : null;

    private static ChatValue Value(JsonElement owner, string name) =>
        owner.ValueKind == JsonValueKind.Object && owner.TryGetProperty(name, out JsonElement value) ? ChatValue.TryFrom(value) ?? ChatValue.Null : ChatValue.Null;

    private static IEnumerable<JsonElement> Items(JsonElement owner, string name) =>
        owner.ValueKind == JsonValueKind.Object && owner.TryGetProperty(name, out JsonElement list) && list.ValueKind == JsonValueKind.Array
            ? list.EnumerateArray() : [];
}
