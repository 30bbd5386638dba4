using System.Text;
using System.Text.Json;

namespace GemmaServer;

/// <summary>
/// Says <c>system</c> and <c>messages</c> of a Messages request as chat messages: blocks that share a message there have places of
/// their own here, and tool results become messages that stand before the text beside them.
/// </summary>
internal sealed class MessagesConversation(FieldReader fields, ChatTranslation chat)
{
    /// <summary>
    /// How one agent begins a system block that is new with each request. It says nothing to a model, and with it no two
    /// prompts would have a beginning in common.
    /// </summary>
    private const string BillingHeader = "x-anthropic-billing-header";

    // Calls of the last assistant message that have no result yet, and where they stand.
    private readonly Dictionary<string, string> _open = new(StringComparer.Ordinal);
    private int _count;     // chat messages written
    private bool _endsWithAssistant;

    /// <summary>A text and where it came from.</summary>
    private readonly record struct Part(string Text, string Path);

    /// <summary>Writes what the chat body says of the conversation.</summary>
    public void Write()
    {
        chat.Json.WriteStartArray("messages"u8);
        if (fields.TryGet("system", out JsonElement system)) WriteSystem(system, "system");
        if (fields.TryGetArray("messages", out JsonElement messages))
        {
            int i = 0;
            foreach (JsonElement message in messages.EnumerateArray()) WriteMessage(message, $"messages[{i++}]");
            if (i == 0) fields.Fail(ApiError.EmptyArray("messages"));
            CheckAnswered();
        }
        else fields.Fail(ApiError.Missing("messages"));
        chat.Json.WriteEndArray();
        // An assistant message at the end is the beginning of the answer.
        if (_endsWithAssistant) chat.Json.WriteBoolean("continue_final_message"u8, true);
    }

    /// <summary>The system prompt, or one that comes later in the conversation.</summary>
    private void WriteSystem(JsonElement system, string path)
    {
        CheckAnswered();
        List<Part> parts = [];
        if (system.ValueKind == JsonValueKind.String) parts.Add(new(system.GetString()!, path));
        else if (system.ValueKind != JsonValueKind.Array) fields.Fail(ApiError.WrongType(path, "one of a string or array of objects", system));
        else
        {
            int i = 0;
            foreach (JsonElement block in system.EnumerateArray())
            {
                string at = $"{path}[{i++}]";
                if (MessagesBlock.Type(fields, block, at) is not { } type) return;
                if (type != "text") fields.Fail(ApiError.Value($"{at}.type", type, "text"));
                else if (MessagesBlock.Text(fields, block, at, "text") is { } text && !text.StartsWith(BillingHeader, StringComparison.Ordinal)) parts.Add(new(text, at));
            }
        }
        parts.RemoveAll(static p => p.Text.Length == 0);
        if (parts.Count > 0) WriteText("system", parts, path);
    }

    private void WriteMessage(JsonElement message, string at)
    {
        if (message.ValueKind != JsonValueKind.Object)
        {
            fields.Fail(ApiError.WrongType(at, "an object", message));
            return;
        }
        if (MessagesBlock.Text(fields, message, at, "role") is not { } role) return;
        if (role is not ("user" or "assistant" or "system")) fields.Fail(ApiError.Value($"{at}.role", role, "user", "assistant", "system"));
        if (!message.TryGetProperty("content", out JsonElement content)) fields.Fail(ApiError.Missing($"{at}.content"));
        else if (content.ValueKind is not (JsonValueKind.String or JsonValueKind.Array)) fields.Fail(ApiError.WrongType($"{at}.content", "one of a string or array of objects", content));
        if (fields.Error is not null) return;
        _endsWithAssistant = role == "assistant";
        if (_endsWithAssistant) WriteAssistant(content, at);
        else if (role == "user") WriteUser(content, at);
        else WriteSystem(content, $"{at}.content");
    }

    private void WriteUser(JsonElement content, string at)
    {
        List<Part> parts = [];
        bool hasResults = false;
        if (content.ValueKind == JsonValueKind.String) parts.Add(new(content.GetString()!, $"{at}.content"));
        else
        {
            int i = 0;
            foreach (JsonElement block in content.EnumerateArray())
            {
                string path = $"{at}.content[{i++}]";
                if (MessagesBlock.Type(fields, block, path) is not { } type) return;
                if (type == "tool_result") WriteResult(block, path);
                else if (MessagesBlock.Shown(fields, block, path, type) is { } text) parts.Add(new(text, path));
                hasResults |= type == "tool_result";
                if (fields.Error is not null) return;
            }
        }
        CheckAnswered();
        if (parts.Count > 0 || !hasResults) WriteText("user", parts, at);
    }

    private void WriteAssistant(JsonElement content, string at)
    {
        CheckAnswered();
        StringBuilder text = new(), thinking = new();
        List<(JsonElement Block, string Path)> calls = [];
        if (content.ValueKind == JsonValueKind.String) text.Append(content.GetString());
        else
        {
            int i = 0;
            foreach (JsonElement block in content.EnumerateArray())
            {
                string path = $"{at}.content[{i++}]";
                switch (MessagesBlock.Type(fields, block, path))
                {
                    case null:
                        return;
                    case "thinking":
                        thinking.Append(MessagesBlock.Text(fields, block, path, "thinking"));
                        break;
                    case "redacted_thinking":
                        break;      // somebody else's, and not readable
                    case "tool_use":
                        calls.Add((block, path));
                        break;
                    case { } type:
                        text.Append(MessagesBlock.Shown(fields, block, path, type));
                        break;
                }
            }
        }
        Utf8JsonWriter json = BeginMessage("assistant", at);
        if (text.Length > 0 || calls.Count == 0) json.WriteString("content"u8, text.ToString());
        if (thinking.Length > 0) json.WriteString("reasoning"u8, thinking.ToString());
        if (calls.Count > 0) WriteCalls(calls);
        json.WriteEndObject();
    }

    private void WriteCalls(List<(JsonElement Block, string Path)> calls)
    {
        Utf8JsonWriter json = chat.Json;
        json.WriteStartArray("tool_calls"u8);
        for (int i = 0; i < calls.Count; i++)
        {
            (JsonElement block, string path) = calls[i];
            string at = $"messages[{_count - 1}].tool_calls[{i}]";
            chat.Map(at, path);
            chat.Map($"{at}.function", path);
            chat.Map($"{at}.function.arguments", $"{path}.input");
            string? id = MessagesBlock.Text(fields, block, path, "id");
            string? name = MessagesBlock.Text(fields, block, path, "name");
            if (!block.TryGetProperty("input", out JsonElement input)) fields.Fail(ApiError.Missing($"{path}.input"));
            else if (input.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType($"{path}.input", "an object", input));
            if (fields.Error is not null) return;
            _open[id!] = path;
            json.WriteStartObject();
            json.WriteString("id"u8, id);
            json.WriteString("type"u8, "function"u8);
            json.WriteStartObject("function"u8);
            json.WriteString("name"u8, name);
            json.WritePropertyName("arguments"u8);
            input.WriteTo(json);
            json.WriteEndObject();
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private void WriteResult(JsonElement block, string at)
    {
        if (MessagesBlock.Text(fields, block, at, "tool_use_id") is not { } id) return;
        if (!_open.Remove(id))
        {
            fields.Fail(ApiError.BadValue($"{at}.tool_use_id", $"no 'tool_use' block of the message before has the id '{ApiError.Echo(id)}'."));
            return;
        }
        bool isError = block.TryGetProperty("is_error", out JsonElement flag) && flag.ValueKind != JsonValueKind.Null && fields.Flag($"{at}.is_error", flag) == true;
        string text = MessagesBlock.Content(fields, block, at);
        Utf8JsonWriter json = BeginMessage("tool", at);
        json.WriteString("tool_call_id"u8, id);
        // The prompt format has no mark for it, so the text says it.
        json.WriteString("content"u8, isError ? $"Error: {text}" : text);
        json.WriteEndObject();
    }

    /// <summary>A message of text; parts of it keep their places.</summary>
    private void WriteText(string role, List<Part> parts, string at)
    {
        Utf8JsonWriter json = BeginMessage(role, at);
        if (parts.Count < 2) json.WriteString("content"u8, parts.Count == 0 ? "" : parts[0].Text);
        else
        {
            json.WriteStartArray("content"u8);
            for (int i = 0; i < parts.Count; i++)
            {
                chat.Map($"messages[{_count - 1}].content[{i}]", parts[i].Path);
                json.WriteStartObject();
                json.WriteString("type"u8, "text"u8);
                json.WriteString("text"u8, parts[i].Text);
                json.WriteEndObject();
            }
            json.WriteEndArray();
        }
        json.WriteEndObject();
    }

    private Utf8JsonWriter BeginMessage(string role, string at)
    {
        chat.Map($"messages[{_count++}]", at);
        chat.Json.WriteStartObject();
        chat.Json.WriteString("role"u8, role);
        return chat.Json;
    }

    private void CheckAnswered()
    {
        foreach ((string id, string path) in _open)
            fields.Fail(ApiError.BadValue(path, $"the 'tool_use' with id '{ApiError.Echo(id)}' has no 'tool_result' in the next message."));
        _open.Clear();
    }
}
