using System.Text.Json;

namespace GemmaServer;

/// <summary>Says tools, tool choice and text format, which are flat here, in chat's nested forms.</summary>
internal static class ResponseTools
{
    private static readonly HashSet<string> s_hostedTools = new(StringComparer.Ordinal)
    {
        "web_search", "web_search_preview", "file_search", "code_interpreter", "computer", "computer_use", "computer_use_preview", "image_generation",
        "mcp", "local_shell", "shell", "apply_patch", "custom", "namespace", "tool_search", "programmatic_tool_calling",
    };

    private static readonly HashSet<string> s_hostedItems = new(StringComparer.Ordinal)
    {
        "web_search_call", "file_search_call", "code_interpreter_call", "computer_call", "computer_call_output", "image_generation_call", "local_shell_call",
        "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output", "mcp_list_tools", "mcp_approval_request",
        "mcp_approval_response", "mcp_call", "custom_tool_call", "custom_tool_call_output", "tool_search_call", "tool_search_output", "additional_tools",
        "program", "program_output", "compaction", "compaction_trigger",
    };

    /// <summary>Whether an item of this type belongs to a tool that runs on OpenAI's side, or to one that is no function.</summary>
    public static bool IsHostedItem(string type) => s_hostedItems.Contains(type);

    /// <summary>Writes <c>tools</c> and <c>tool_choice</c>.</summary>
    public static void Write(FieldReader fields, ChatTranslation chat)
    {
        if (fields.TryGetArray("tools", out JsonElement tools)) WriteTools(fields, chat, tools);
        if (fields.TryGet("tool_choice", out JsonElement choice)) WriteChoice(fields, chat, choice);
    }

    /// <summary>Writes <c>text.format</c> as <c>response_format</c>, and the verbosity.</summary>
    public static void WriteText(FieldReader fields, ChatTranslation chat)
    {
        if (!fields.TryGetObject("text", out JsonElement text)) return;
        if (Member(text, "verbosity") is { } verbosity)
        {
            chat.Map("verbosity", "text.verbosity");
            Copy(chat.Json, "verbosity", verbosity);
        }
        if (Member(text, "format") is not { } format) return;
        chat.Map("response_format", "text.format");
        chat.Map("response_format.json_schema", "text.format");
        if (Type(format) != "json_schema")
        {
            Copy(chat.Json, "response_format", format);
            return;
        }
        chat.Json.WriteStartObject("response_format"u8);
        chat.Json.WriteString("type"u8, "json_schema"u8);
        chat.Json.WriteStartObject("json_schema"u8);
        CopyOthers(chat.Json, format);
        chat.Json.WriteEndObject();
        chat.Json.WriteEndObject();
    }

    private static void WriteTools(FieldReader fields, ChatTranslation chat, JsonElement tools)
    {
        chat.Json.WriteStartArray("tools"u8);
        int i = 0;
        foreach (JsonElement tool in tools.EnumerateArray())
        {
            string at = $"tools[{i++}]";
            if (Type(tool) is not { } type)
            {
                tool.WriteTo(chat.Json);    // chat's reader says what is wrong with it
                continue;
            }
            if (type != "function")
            {
                fields.Fail(s_hostedTools.Contains(type) || type.StartsWith("web_search_", StringComparison.Ordinal)
                    ? ApiError.UnsupportedValue($"{at}.type", $"'{type}'", "Only tools of type 'function' are supported.")
                    : ApiError.Value($"{at}.type", type, "function"));
                break;
            }
            chat.Map($"{at}.function", at);
            WriteNested(chat.Json, tool);
        }
        chat.Json.WriteEndArray();
    }

    private static void WriteChoice(FieldReader fields, ChatTranslation chat, JsonElement choice)
    {
        Utf8JsonWriter json = chat.Json;
        switch (Type(choice))
        {
            case null:
                Copy(json, "tool_choice", choice);
                break;
            case "function":
                chat.Map("tool_choice.function", "tool_choice");
                json.WritePropertyName("tool_choice"u8);
                WriteNested(json, choice);
                break;
            case "allowed_tools":
                WriteAllowed(chat, choice);
                break;
            case { } type when s_hostedTools.Contains(type):
                fields.Fail(ApiError.UnsupportedValue("tool_choice.type", $"'{type}'", "Only tools of type 'function' are supported."));
                break;
            case { } type:
                fields.Fail(ApiError.Value("tool_choice.type", type, "function", "allowed_tools"));
                break;
        }
    }

    private static void WriteAllowed(ChatTranslation chat, JsonElement choice)
    {
        Utf8JsonWriter json = chat.Json;
        chat.Map("tool_choice.allowed_tools", "tool_choice");
        json.WriteStartObject("tool_choice"u8);
        json.WriteString("type"u8, "allowed_tools"u8);
        json.WriteStartObject("allowed_tools"u8);
        foreach (JsonProperty member in choice.EnumerateObject())
        {
            if (member.NameEquals("type"u8)) continue;
            json.WritePropertyName(member.Name);
            if (!member.NameEquals("tools"u8) || member.Value.ValueKind != JsonValueKind.Array)
            {
                member.Value.WriteTo(json);
                continue;
            }
            json.WriteStartArray();
            int i = 0;
            foreach (JsonElement tool in member.Value.EnumerateArray())
            {
                chat.Map($"tool_choice.allowed_tools.tools[{i}].function", $"tool_choice.tools[{i}]");
                if (Type(tool) == "function") WriteNested(json, tool);
                else tool.WriteTo(json);
                i++;
            }
            json.WriteEndArray();
        }
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary><c>{type, a, b}</c> as <c>{type, function: {a, b}}</c>.</summary>
    private static void WriteNested(Utf8JsonWriter json, JsonElement flat)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, "function"u8);
        json.WriteStartObject("function"u8);
        CopyOthers(json, flat);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>Everything but the type; null is left out.</summary>
    private static void CopyOthers(Utf8JsonWriter json, JsonElement flat)
    {
        foreach (JsonProperty member in flat.EnumerateObject())
        {
            if (!member.NameEquals("type"u8) && member.Value.ValueKind != JsonValueKind.Null) Copy(json, member.Name, member.Value);
        }
    }

    private static void Copy(Utf8JsonWriter json, string name, JsonElement value)
    {
        json.WritePropertyName(name);
        value.WriteTo(json);
    }

    private static JsonElement? Member(JsonElement owner, string name) =>
        owner.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : null;

    /// <summary>The type of an object that has one; null for anything else.</summary>
    private static string? Type(JsonElement value) =>
        value.ValueKind == JsonValueKind.Object && value.TryGetProperty("type", out JsonElement type) && type.ValueKind == JsonValueKind.String ? type.GetString() : null;
}
