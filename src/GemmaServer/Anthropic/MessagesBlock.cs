using System.Text;
using System.Text.Json;

namespace GemmaServer;

/// <summary>Reads content blocks of a Messages request.</summary>
internal static class MessagesBlock
{
    /// <summary>The block's type; null when it has none, which is an error then.</summary>
    public static string? Type(FieldReader fields, JsonElement block, string at)
    {
        if (block.ValueKind == JsonValueKind.Object) return Text(fields, block, at, "type");
        fields.Fail(ApiError.WrongType(at, "an object", block));
        return null;
    }

    /// <summary>A member that must be there and be a string.</summary>
    public static string? Text(FieldReader fields, JsonElement owner, string at, string name)
    {
        if (!owner.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null) fields.Fail(ApiError.Missing($"{at}.{name}"));
        else if (value.ValueKind != JsonValueKind.String) fields.Fail(ApiError.WrongType($"{at}.{name}", "a string", value));
        else return value.GetString();
        return null;
    }

    /// <summary>What a block shows the model, as text; null with an error where that cannot be.</summary>
    public static string? Shown(FieldReader fields, JsonElement block, string at, string type)
    {
        switch (type)
        {
            case "text":
                return Text(fields, block, at, "text");
            case "document":
                return Document(fields, block, at);
            case "search_result":
                return $"{Optional(block, "title")}\n{Content(fields, block, at)}";
            case "image":
                fields.Fail(ApiError.UnsupportedValue($"{at}.type", "'image'", "It takes text only."));
                return null;
            default:
                fields.Fail(ApiError.Value($"{at}.type", type, "text", "document", "search_result", "tool_use", "tool_result", "thinking", "redacted_thinking"));
                return null;
        }
    }

    /// <summary>The member <c>content</c>, a string or blocks, as one text; empty where there is none.</summary>
    public static string Content(FieldReader fields, JsonElement owner, string at)
    {
        if (!owner.TryGetProperty("content", out JsonElement content) || content.ValueKind == JsonValueKind.Null) return "";
        if (content.ValueKind == JsonValueKind.String) return content.GetString()!;
        if (content.ValueKind != JsonValueKind.Array)
        {
            fields.Fail(ApiError.WrongType($"{at}.content", "one of a string or array of objects", content));
            return "";
        }
        StringBuilder text = new();
        int i = 0;
        foreach (JsonElement block in content.EnumerateArray())
        {
            string path = $"{at}.content[{i}]";
            if (Type(fields, block, path) is not { } type) return "";
            if (i++ > 0) text.Append('\n');
            text.Append(Shown(fields, block, path, type));
        }
        return text.ToString();
    }

    private static string? Document(FieldReader fields, JsonElement block, string at)
    {
        if (!block.TryGetProperty("source", out JsonElement source) || source.ValueKind != JsonValueKind.Object)
        {
            fields.Fail(ApiError.Missing($"{at}.source"));
            return null;
        }
        string path = $"{at}.source";
        string? text = Text(fields, source, path, "type") switch
        {
            null => null,
            "text" => Text(fields, source, path, "data"),
            "content" => Content(fields, source, path),
            { } other => Refuse(other),
        };
        if (text is null) return null;
        string title = Optional(block, "title"), context = Optional(block, "context");
        return $"{title}{(title.Length > 0 ? "\n" : "")}{context}{(context.Length > 0 ? "\n" : "")}{text}";

        string? Refuse(string type)
        {
            fields.Fail(ApiError.UnsupportedValue($"{path}.type", $"'{type}'", "Documents are read as 'text' or 'content' only."));
            return null;
        }
    }

    private static string Optional(JsonElement owner, string name) =>
        owner.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";
}
