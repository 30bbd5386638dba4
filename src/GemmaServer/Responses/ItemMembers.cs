using System.Text.Json;

namespace GemmaServer;

/// <summary>Reads members of input items, naming their paths. Mistakes stay in the field reader.</summary>
internal sealed class ItemMembers(FieldReader fields)
{
    /// <summary>A string.</summary>
    public string? Text(JsonElement owner, string name, string at, bool isRequired)
    {
        if (!owner.TryGetProperty(name, out JsonElement value) || !isRequired && value.ValueKind == JsonValueKind.Null)
        {
            if (isRequired) fields.Fail(ApiError.Missing($"{at}.{name}"));
            return null;
        }
        if (value.ValueKind == JsonValueKind.String) return value.GetString();
        fields.Fail(ApiError.WrongType($"{at}.{name}", "a string", value));
        return null;
    }

    /// <summary>A string, or an array of parts of text.</summary>
    public List<string> Texts(JsonElement item, string name, string at, bool isAssistant)
    {
        at = $"{at}.{name}";
        if (!item.TryGetProperty(name, out JsonElement content))
        {
            fields.Fail(ApiError.Missing(at));
            return [];
        }
        if (content.ValueKind == JsonValueKind.String) return [content.GetString()!];
        if (content.ValueKind != JsonValueKind.Array)
        {
            fields.Fail(ApiError.WrongType(at, "one of a string or array of objects", content));
            return [];
        }
        List<string> texts = [];
        int i = 0;
        foreach (JsonElement part in content.EnumerateArray())
        {
            if (ReadPart(part, $"{at}[{i++}]", isAssistant) is { } text) texts.Add(text);
        }
        return texts;
    }

    private string? ReadPart(JsonElement part, string at, bool isAssistant)
    {
        if (part.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType(at, "an object", part));
        if (fields.Error is not null || Text(part, "type", at, isRequired: true) is not { } type) return null;
        switch (type)
        {
            case "input_text" or "output_text" or "text":
                return Text(part, "text", at, isRequired: true);
            case "refusal" when isAssistant:
                return Text(part, "refusal", at, isRequired: true);
            case "input_image" or "input_audio" or "input_file" or "input_video":
                fields.Fail(ApiError.UnsupportedValue($"{at}.type", $"'{type}'"));
                return null;
            default:
                fields.Fail(isAssistant
                    ? ApiError.Value($"{at}.type", type, "output_text", "refusal")
                    : ApiError.Value($"{at}.type", type, "input_text", "input_image", "input_audio", "input_file"));
                return null;
        }
    }

    /// <summary>The texts of a reasoning item's parts, which may be missing.</summary>
    public string Parts(JsonElement item, string name, string at, string type)
    {
        if (!item.TryGetProperty(name, out JsonElement parts) || parts.ValueKind == JsonValueKind.Null) return "";
        at = $"{at}.{name}";
        if (parts.ValueKind != JsonValueKind.Array)
        {
            fields.Fail(ApiError.WrongType(at, "an array of objects", parts));
            return "";
        }
        string all = "";
        int i = 0;
        foreach (JsonElement part in parts.EnumerateArray())
        {
            string here = $"{at}[{i++}]";
            if (part.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType(here, "an object", part));
            if (fields.Error is not null || Text(part, "type", here, isRequired: true) is not { } got) return "";
            if (got != type && got != "text") fields.Fail(ApiError.Value($"{here}.type", got, type));
            all += Text(part, "text", here, isRequired: true);
        }
        return all;
    }
}
