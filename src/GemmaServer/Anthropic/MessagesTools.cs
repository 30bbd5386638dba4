using System.Text.Json;

namespace GemmaServer;

/// <summary>Says <c>tools</c> and <c>tool_choice</c> of a Messages request as a chat request has them.</summary>
internal static class MessagesTools
{
    public static void Write(FieldReader fields, ChatTranslation chat)
    {
        if (fields.TryGetArray("tools", out JsonElement tools) && tools.GetArrayLength() > 0)
        {
            chat.Json.WriteStartArray("tools"u8);
            int i = 0;
            foreach (JsonElement tool in tools.EnumerateArray()) WriteTool(fields, chat, tool, i++);
            chat.Json.WriteEndArray();
        }
        WriteChoice(fields, chat);
    }

    private static void WriteTool(FieldReader fields, ChatTranslation chat, JsonElement tool, int index)
    {
        string at = $"tools[{index}]";
        if (tool.ValueKind != JsonValueKind.Object)
        {
            fields.Fail(ApiError.WrongType(at, "an object", tool));
            return;
        }
        // Tools that Anthropic's own servers run have other types.
        if (tool.TryGetProperty("type", out JsonElement type) && type.ValueKind == JsonValueKind.String && type.GetString() is { } text && text != "custom")
            fields.Fail(ApiError.UnsupportedValue($"{at}.type", $"'{text}'", "Only tools that the client runs are supported: 'custom'."));
        chat.Map($"{at}.function", at);
        chat.Map($"{at}.function.parameters", $"{at}.input_schema");
        string? name = MessagesBlock.Text(fields, tool, at, "name");
        if (!tool.TryGetProperty("input_schema", out JsonElement schema)) fields.Fail(ApiError.Missing($"{at}.input_schema"));
        else if (schema.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType($"{at}.input_schema", "an object", schema));
        if (fields.Error is not null) return;

        Utf8JsonWriter json = chat.Json;
        json.WriteStartObject();
        json.WriteString("type"u8, "function"u8);
        json.WriteStartObject("function"u8);
        json.WriteString("name"u8, name);
        Copy(json, tool, "description");
        json.WritePropertyName("parameters"u8);
        schema.WriteTo(json);
        Copy(json, tool, "strict");
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteChoice(FieldReader fields, ChatTranslation chat)
    {
        if (!fields.TryGetObject("tool_choice", out JsonElement choice)) return;
        Utf8JsonWriter json = chat.Json;
        switch (MessagesBlock.Text(fields, choice, "tool_choice", "type"))
        {
            case null:
                return;
            case "auto":
                json.WriteString("tool_choice"u8, "auto"u8);
                break;
            case "any":
                json.WriteString("tool_choice"u8, "required"u8);
                break;
            case "none":
                json.WriteString("tool_choice"u8, "none"u8);
                break;
            case "tool":
                chat.Map("tool_choice.function", "tool_choice");
                json.WriteStartObject("tool_choice"u8);
                json.WriteString("type"u8, "function"u8);
                json.WriteStartObject("function"u8);
                json.WriteString("name"u8, MessagesBlock.Text(fields, choice, "tool_choice", "name"));
                json.WriteEndObject();
                json.WriteEndObject();
                break;
            case { } other:
                fields.Fail(ApiError.Value("tool_choice.type", other, "auto", "any", "tool", "none"));
                break;
        }
        if (choice.TryGetProperty("disable_parallel_tool_use", out JsonElement one) && one.ValueKind != JsonValueKind.Null
            && fields.Flag("tool_choice.disable_parallel_tool_use", one) == true)
            json.WriteBoolean("parallel_tool_calls"u8, false);
    }

    private static void Copy(Utf8JsonWriter json, JsonElement owner, string name)
    {
        if (!owner.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null) return;
        json.WritePropertyName(name);
        value.WriteTo(json);
    }
}
