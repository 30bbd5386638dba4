using System.Text.Json;

namespace GemmaServer.Model;

/// <summary>One object of a JSON file, with fields that are asked for by name and type; mistakes name the file and the field.</summary>
internal readonly struct JsonFields
{
    private readonly string _file;
    private readonly string _prefix;
    private readonly JsonElement _element;

    private JsonFields(string file, string prefix, JsonElement element)
    {
        _file = file;
        _prefix = prefix;
        _element = element;
    }

    public string File => _file;

    /// <summary>Reads a whole file as one object.</summary>
    /// <exception cref="CheckpointException">Too large, not JSON, or not an object.</exception>
    public static JsonFields Read(string path, int maxBytes)
    {
        using FileStream stream = new(path, FileMode.Open, FileAccess.Read);
        if (stream.Length > maxBytes) throw new CheckpointException(path, "", $"expected at most {maxBytes} bytes, found {stream.Length}");
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return Parse(bytes, path, "");
    }

    /// <summary>Parses bytes as one object.</summary>
    public static JsonFields Parse(ReadOnlyMemory<byte> utf8, string file, string what)
    {
        if (utf8.Span.StartsWith((ReadOnlySpan<byte>)[0xEF, 0xBB, 0xBF])) utf8 = utf8[3..];
        try
        {
            // Two values for one field: whoever made the file meant one of them, and we cannot know which.
            using JsonDocument document = JsonDocument.Parse(utf8, new JsonDocumentOptions { AllowDuplicateProperties = false });
            JsonElement root = document.RootElement.Clone();
            return root.ValueKind == JsonValueKind.Object
                ? new JsonFields(file, "", root)
                : throw new CheckpointException(file, what, $"expected a JSON object, found {root.ValueKind}");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or ArgumentException)
        {
            throw new CheckpointException(file, what, $"this is not valid JSON: {e.Message}", e);
        }
    }

    /// <summary>Whether the field exists, null included.</summary>
    public bool Has(string name) => _element.TryGetProperty(name, out _);

    /// <summary>Whether the field is a string.</summary>
    public bool IsText(string name) => _element.TryGetProperty(name, out JsonElement e) && e.ValueKind == JsonValueKind.String;

    /// <summary>Whether the field is an array.</summary>
    public bool IsArray(string name) => _element.TryGetProperty(name, out JsonElement e) && e.ValueKind == JsonValueKind.Array;

    /// <summary>An object; null when absent or null.</summary>
    public JsonFields? Object(string name)
    {
        if (Get(name) is not JsonElement e) return null;
        return e.ValueKind == JsonValueKind.Object ? new JsonFields(_file, _prefix + name + ".", e) : throw Wrong(name, "an object", e);
    }

    /// <summary>An integer; null when absent or null.</summary>
    public int? Int(string name)
    {
        if (Get(name) is not JsonElement e) return null;
        return e.ValueKind == JsonValueKind.Number && e.TryGetInt32(out int value) ? value : throw Wrong(name, "an integer", e);
    }

    /// <summary>A finite number; null when absent or null.</summary>
    public float? Real(string name)
    {
        if (Get(name) is not JsonElement e) return null;
        return e.ValueKind == JsonValueKind.Number && e.TryGetSingle(out float value) && float.IsFinite(value)
            ? value
            : throw Wrong(name, "a finite number", e);
    }

    /// <summary>A truth value; null when absent or null.</summary>
    public bool? Flag(string name)
    {
        if (Get(name) is not JsonElement e) return null;
        return e.ValueKind is JsonValueKind.True or JsonValueKind.False ? e.GetBoolean() : throw Wrong(name, "true or false", e);
    }

    /// <summary>A string; null when absent or null.</summary>
    public string? Text(string name)
    {
        if (Get(name) is not JsonElement e) return null;
        return e.ValueKind == JsonValueKind.String ? TextOf(e, name) : throw Wrong(name, "a string", e);
    }

    /// <summary>An array of strings; null when absent or null.</summary>
    public string[]? Texts(string name)
    {
        JsonFields self = this;
        return Array(name, "strings")?.Select(e => self.TextOf(e, name)).ToArray();
    }

    /// <summary>An array of objects; null when absent or null.</summary>
    public JsonFields[]? Objects(string name)
    {
        JsonFields self = this;
        return Array(name, "objects")?.Select(e => e.ValueKind == JsonValueKind.Object
            ? new JsonFields(self._file, self._prefix + name + ".", e) : throw self.Wrong(name, "objects", e)).ToArray();
    }

    /// <summary>An array of integers, where a lone integer stands for an array of one; null when absent or null.</summary>
    public long[]? Integers(string name)
    {
        if (Get(name) is JsonElement { ValueKind: JsonValueKind.Number } one) return [IntegerOf(one, name)];
        JsonFields self = this;
        return Array(name, "integers")?.Select(e => self.IntegerOf(e, name)).ToArray();
    }

    /// <summary>All fields, which must be objects, in file order; with one pass, where asking by name would be quadratic.</summary>
    public List<KeyValuePair<string, JsonFields>> ObjectMembers()
    {
        List<KeyValuePair<string, JsonFields>> members = [];
        foreach ((string name, JsonElement value) in Members())
        {
            if (value.ValueKind != JsonValueKind.Object) throw Wrong(name, "an object", value);
            members.Add(new(name, new JsonFields(_file, _prefix + name + ".", value)));
        }
        return members;
    }

    /// <summary>All fields, which must be strings, in file order.</summary>
    public List<KeyValuePair<string, string>> TextMembers()
    {
        List<KeyValuePair<string, string>> members = [];
        foreach ((string name, JsonElement value) in Members()) members.Add(new(name, TextOf(value, name)));
        return members;
    }

    /// <summary>An exception about a field of this object.</summary>
    public CheckpointException Problem(string name, string problem, Exception? inner = null) => new(_file, _prefix + name, problem, inner);

    private List<(string Name, JsonElement Value)> Members()
    {
        List<(string, JsonElement)> members = [];
        try
        {
            foreach (JsonProperty property in _element.EnumerateObject()) members.Add((property.Name, property.Value));
        }
        catch (InvalidOperationException e)
        {
            throw new CheckpointException(_file, _prefix.TrimEnd('.'), "a field's name is not valid text", e);
        }
        return members;
    }

    private JsonElement? Get(string name) =>
        _element.TryGetProperty(name, out JsonElement e) && e.ValueKind != JsonValueKind.Null ? e : null;

    private IEnumerable<JsonElement>? Array(string name, string what)
    {
        if (Get(name) is not JsonElement e) return null;
        return e.ValueKind == JsonValueKind.Array ? e.EnumerateArray() : throw Wrong(name, $"an array of {what}", e);
    }

    private long IntegerOf(JsonElement e, string name) =>
        e.ValueKind == JsonValueKind.Number && e.TryGetInt64(out long value) ? value : throw Wrong(name, "an integer", e);

    private string TextOf(JsonElement e, string name)
    {
        if (e.ValueKind != JsonValueKind.String) throw Wrong(name, "a string", e);
        try
        {
            return e.GetString()!;
        }
        catch (InvalidOperationException x)
        {
            throw Problem(name, "the string is not valid text", x);
        }
    }

    private CheckpointException Wrong(string name, string expected, JsonElement found)
    {
        string raw = found.GetRawText();
        return Problem(name, $"expected {expected}, found {(raw.Length > 60 ? raw[..60] + "…" : raw)}");
    }
}
