using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>One schema's keywords, each checked for the kind of value it must have.</summary>
internal readonly struct SchemaKeywords(SchemaLocation place, SchemaSource source)
{
    public string Path => place.Path;

    public SchemaLocation Place => place;

    public bool Has(string keyword) => place.Json.TryGetProperty(keyword, out _);

    public JsonElement? Value(string keyword) => place.Json.TryGetProperty(keyword, out JsonElement value) ? value : null;

    public string? Text(string keyword) => Value(keyword) is not { } value ? null
        : value.ValueKind == JsonValueKind.String ? JsonText.StringOf(value) : throw Bad(keyword, "a string");

    public bool Flag(string keyword) => Value(keyword) is { } value && (value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Bad(keyword, "true or false"),
    });

    /// <summary>A count; 2.0 is one too.</summary>
    public int? Count(string keyword)
    {
        if (Number(keyword) is not { } number) return null;
        if (number.Sign < 0 || number.Exponent < 0) throw Bad(keyword, "an integer that is not negative");
        return number.Floor(0) is var count && count <= int.MaxValue / 2 ? (int)count : int.MaxValue / 2;
    }

    public DecimalNumber? Number(string keyword)
    {
        if (Value(keyword) is not { } value) return null;
        if (value.ValueKind != JsonValueKind.Number) throw Bad(keyword, "a number");
        return DecimalNumber.TryParse(value.GetRawText()) ?? throw new GrammarException("The number has too many digits.", PathOf(keyword));
    }

    public List<JsonElement>? List(string keyword) => Value(keyword) is not { } value ? null
        : value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray()] : throw Bad(keyword, "an array");

    public List<string> Texts(string keyword)
    {
        List<string> texts = [];
        foreach (JsonElement item in List(keyword) ?? [])
            texts.Add(item.ValueKind == JsonValueKind.String ? JsonText.StringOf(item) : throw Bad(keyword, "an array of strings"));
        return texts;
    }

    /// <summary>A keyword that holds one schema.</summary>
    public SchemaSet? Schema(string keyword)
    {
        if (Value(keyword) is not { } value) return null;
        if (value.ValueKind is not (JsonValueKind.Object or JsonValueKind.True or JsonValueKind.False)) throw Bad(keyword, "a schema");
        return SchemaSet.Of(new SchemaOperand(source.Child(place, keyword).Id));
    }

    /// <summary>A keyword that holds a list of schemas, not an empty one.</summary>
    public List<SchemaSet>? Schemas(string keyword)
    {
        if (List(keyword) is not { } items) return null;
        List<SchemaSet> schemas = [];
        for (int i = 0; i < items.Count; i++) schemas.Add(SchemaSet.Of(new SchemaOperand(source.ItemOf(place, keyword, i).Id)));
        return schemas.Count > 0 ? schemas : throw Bad(keyword, "a list with at least one schema");
    }

    /// <summary>A keyword that holds schemas by name, in the document's order; the last of equal names counts.</summary>
    public List<KeyValuePair<string, SchemaSet>> SchemaMap(string keyword)
    {
        List<KeyValuePair<string, SchemaSet>> map = [];
        foreach ((string name, _) in Members(keyword)) map.Add(new(name, SchemaSet.Of(new SchemaOperand(source.Child(place, keyword, name).Id))));
        return map;
    }

    public List<KeyValuePair<string, JsonElement>> Members(string keyword)
    {
        List<KeyValuePair<string, JsonElement>> members = [];
        if (Value(keyword) is not { } value) return members;
        if (value.ValueKind != JsonValueKind.Object) throw Bad(keyword, "an object");
        HashSet<string> seen = new(StringComparer.Ordinal);
        foreach (JsonProperty member in value.EnumerateObject())
            if (seen.Add(JsonText.NameOf(member))) members.Add(new(JsonText.NameOf(member), member.Value));
        return members;
    }

    public string PathOf(string keyword) => $"{place.Path}/{keyword}";

    public GrammarException Bad(string keyword, string expected) => new($"'{keyword}' must be {expected}.", PathOf(keyword));

    public GrammarException Unsupported(string keyword, string why) => new($"'{keyword}' {why}.", PathOf(keyword));
}
