using System.Text.Json;

namespace GemmaServer;

/// <summary>
/// Says Ollama's messages as chat messages. Its calls have no ids, or had none for long: results belong to calls by the tool's name
/// and by their order.
/// </summary>
internal sealed class OllamaMessages(FieldReader fields, ChatTranslation chat)
{
    // Calls of the last assistant message that have no result yet.
    private readonly List<(string Id, string Name)> _open = [];
    private int _count;
    private bool _endsWithAssistant;

    public void Write(JsonElement messages)
    {
        chat.Json.WriteStartArray("messages"u8);
        foreach (JsonElement message in messages.EnumerateArray())
        {
            string at = $"messages[{_count}]";
            if (message.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType(at, "an object", message));
            if (fields.Error is not null) return;
            WriteMessage(message, at);
            _count++;
        }
        chat.Json.WriteEndArray();
        // An assistant message of text at the end is the beginning of the answer.
        if (_endsWithAssistant) chat.Json.WriteBoolean("continue_final_message"u8, true);
    }

    /// <summary>A message of text.</summary>
    public static void WriteText(Utf8JsonWriter json, string role, string text)
    {
        json.WriteStartObject();
        json.WriteString("role"u8, role);
        json.WriteString("content"u8, text);
        json.WriteEndObject();
    }

    /// <summary>Images are an error, no images are not.</summary>
    public static void RefuseImages(FieldReader fields, JsonElement owner, string at)
    {
        if (!owner.TryGetProperty("images", out JsonElement images) || images.ValueKind == JsonValueKind.Null) return;
        if (images.ValueKind != JsonValueKind.Array) fields.Fail(ApiError.WrongType(at, "an array", images));
        else if (images.GetArrayLength() > 0) fields.Fail(ApiError.UnsupportedParameter(at, "It takes text only."));
    }

    private void WriteMessage(JsonElement message, string at)
    {
        Utf8JsonWriter json = chat.Json;
        string role = Text(message, "role", at) ?? "";
        if (role is not ("system" or "user" or "assistant" or "tool")) fields.Fail(role.Length == 0 ? ApiError.Missing($"{at}.role") : ApiError.Value($"{at}.role", role, "system", "user", "assistant", "tool"));
        string content = Text(message, "content", at) ?? "";
        RefuseImages(fields, message, $"{at}.images");
        if (fields.Error is not null) return;

        json.WriteStartObject();
        json.WriteString("role"u8, role);
        json.WriteString("content"u8, content);
        if (role == "tool") WriteCallOf(message, at);
        if (role == "assistant")
        {
            if (Text(message, "thinking", at) is { Length: > 0 } thinking) json.WriteString("reasoning"u8, thinking);
            WriteCalls(message, at);
        }
        _endsWithAssistant = role == "assistant" && content.Length > 0 && _open.Count == 0;
        json.WriteEndObject();
    }

    private void WriteCalls(JsonElement message, string at)
    {
        _open.Clear();
        if (!message.TryGetProperty("tool_calls", out JsonElement calls) || calls.ValueKind == JsonValueKind.Null) return;
        if (calls.ValueKind != JsonValueKind.Array) fields.Fail(ApiError.WrongType($"{at}.tool_calls", "an array", calls));
        if (fields.Error is not null || calls.GetArrayLength() == 0) return;
        Utf8JsonWriter json = chat.Json;
        json.WriteStartArray("tool_calls"u8);
        foreach (JsonElement call in calls.EnumerateArray())
        {
            string path = $"{at}.tool_calls[{_open.Count}]";
            if (call.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType(path, "an object", call));
            else if (!call.TryGetProperty("function", out JsonElement function)) fields.Fail(ApiError.Missing($"{path}.function"));
            else if (function.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType($"{path}.function", "an object", function));
            else
            {
                string id = Text(call, "id", path) is { Length: > 0 } given ? given : $"call_{_count}_{_open.Count}";
                _open.Add((id, Text(function, "name", $"{path}.function") ?? ""));
                json.WriteStartObject();
                json.WriteString("id"u8, id);
                json.WriteString("type"u8, "function"u8);
                json.WritePropertyName("function"u8);
                function.WriteTo(json);     // arguments may be an object in a chat body too
                json.WriteEndObject();
            }
            if (fields.Error is not null) return;
        }
        json.WriteEndArray();
    }

    /// <summary>Finds the call that a result answers: by its id, by the tool's name, else the first one open.</summary>
    private void WriteCallOf(JsonElement message, string at)
    {
        string? id = Text(message, "tool_call_id", at);
        string? name = Text(message, "tool_name", at) ?? Text(message, "name", at);
        int place = !string.IsNullOrEmpty(id) ? _open.FindIndex(c => c.Id == id) : !string.IsNullOrEmpty(name) ? _open.FindIndex(c => c.Name == name) : 0;
        if (place >= 0 && place < _open.Count)
        {
            chat.Json.WriteString("tool_call_id"u8, _open[place].Id);
            _open.RemoveAt(place);
        }
        else fields.Fail(ApiError.BadValue(at, "no call of the message before is without a result and has this tool's name or id."));
    }

    private string? Text(JsonElement owner, string name, string at)
    {
        if (!owner.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null) return null;
        if (value.ValueKind == JsonValueKind.String) return value.GetString();
        fields.Fail(ApiError.WrongType($"{at}.{name}", "a string", value));
        return null;
    }
}
