using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>Reads and checks a request's <c>tools</c>.</summary>
internal static class OpenAiToolReader
{
    /// <summary>Most tools in one request.</summary>
    public const int MaxTools = 512;

    /// <summary>Longest tool name, as OpenAI's.</summary>
    public const int MaxNameLength = 64;

    public static ChatRequestError? TryRead(JsonElement tools, out IReadOnlyList<ChatValue> declared)
    {
        declared = [];
        if (tools.ValueKind is JsonValueKind.Undefined or JsonValueKind.Null) return null;
        if (tools.ValueKind != JsonValueKind.Array) return ChatRequestError.Type("tools", "an array of objects", tools.ValueKind);
        if (tools.GetArrayLength() > MaxTools)
        {
            return new(400, "array_above_max_length",
                $"Invalid 'tools': array too long. Expected an array with maximum length {MaxTools}, but got an array with length {tools.GetArrayLength()} instead.", "tools");
        }
        List<ChatValue> list = [];
        foreach (JsonElement tool in tools.EnumerateArray())
        {
            string at = $"tools[{list.Count}]";
            if (tool.ValueKind != JsonValueKind.Object) return ChatRequestError.Type(at, "an object", tool.ValueKind);
            if (ChatValue.TryFrom(tool) is not { } value) return ChatRequestError.Value(at, $"Invalid '{at}': nested deeper than {ChatValue.MaxDepth} levels.");
            if (Check(value, tool, at) is { } error) return error;
            list.Add(value);
        }
        declared = list;
        return null;
    }

    private static ChatRequestError? Check(ChatValue tool, JsonElement element, string at)
    {
        if (tool["type"] is not { } type) return ChatRequestError.Missing($"{at}.type");
        if (type is not { Kind: ChatValueKind.String, Text: "function" })
            return ChatRequestError.Value($"{at}.type", $"Invalid value: '{ChatRequestError.Shown(type.ToString())}'. Supported values are: 'function'.");
        if (tool["function"] is not { } function) return ChatRequestError.Missing($"{at}.function");
        if (function.Kind != ChatValueKind.Map) return ChatRequestError.Type($"{at}.function", "an object", element.GetProperty("function").ValueKind);
        if (function["name"] is not { } name) return ChatRequestError.Missing($"{at}.function.name");
        if (name.Kind != ChatValueKind.String) return ChatRequestError.Type($"{at}.function.name", "a string", element.GetProperty("function").GetProperty("name").ValueKind);
        if (!IsValidName(name.Text))
        {
            return ChatRequestError.Value($"{at}.function.name",
                $"Invalid '{at}.function.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_.:/-]{{1,{MaxNameLength}}}$'.");
        }
        return BadSchema(function) is { } reason
            ? new(400, "invalid_function_parameters", $"Invalid schema for function '{name.Text}': {reason}", $"{at}.function.parameters")
            : null;
    }

    /// <summary>
    /// Why the template could not print the schema, or should not: a control character in a property's name would let a
    /// declaration look like something else.
    /// </summary>
    private static string? BadSchema(ChatValue function)
    {
        if (function["parameters"] is { Kind: not (ChatValueKind.Map or ChatValueKind.Null) }) return "it is not an object.";
        if (function["parameters"] is { Kind: ChatValueKind.Map } parameters && BadKeyword(parameters) is { } reason) return reason;
        if (function["parameters"] is { } schema && HasControlCharacterKey(schema)) return "a property name holds a control character.";
        return null;
    }

    /// <summary><c>properties</c> must be an object and <c>required</c> an array of strings, at every level that is printed.</summary>
    private static string? BadKeyword(ChatValue schema)
    {
        if (schema["required"] is { Kind: not ChatValueKind.Null } required
            && (required.Kind != ChatValueKind.List || required.Items.Any(static item => item.Kind != ChatValueKind.String)))
            return "'required' is not an array of strings.";
        if (schema["type"] is { Kind: not (ChatValueKind.String or ChatValueKind.List or ChatValueKind.Null) }) return "'type' is neither a string nor an array.";
        if (schema["items"] is { Kind: ChatValueKind.Map } items && BadKeyword(items) is { } inner) return inner;
        if (schema["properties"] is not { Kind: not ChatValueKind.Null } properties) return null;
        if (properties.Kind != ChatValueKind.Map) return "'properties' is not an object.";
        foreach ((_, ChatValue property) in properties.Members)
        {
            if (property.Kind == ChatValueKind.Map && BadKeyword(property) is { } reason) return reason;
        }
        return null;
    }

    private static bool HasControlCharacterKey(ChatValue value) =>
        value.Members.Any(static m => m.Key.Any(char.IsControl) || HasControlCharacterKey(m.Value)) || value.Items.Any(HasControlCharacterKey);

    private static bool IsValidName(string name) => name.Length is > 0 and <= MaxNameLength
        && name.All(static c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-' or '.' or ':' or '/');
}
