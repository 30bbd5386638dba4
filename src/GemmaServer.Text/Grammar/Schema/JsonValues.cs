using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>JSON values as schemas compare them.</summary>
internal static class JsonValues
{
    public static JsonElement True { get; } = Parse("true");

    public static JsonElement False { get; } = Parse("false");

    public static JsonElement Null { get; } = Parse("null");

    public static bool IsScalar(JsonElement value) => value.ValueKind is not (JsonValueKind.Object or JsonValueKind.Array);

    /// <summary>Equal as JSON Schema has it: 1 and 1.0 are, the order of members does not matter.</summary>
    public static bool AreEqual(JsonElement a, JsonElement b) => JsonElement.DeepEquals(a, b);

    /// <summary>The values without those equal to an earlier one; scalars are told apart by a hash, so that long enums stay cheap.</summary>
    public static List<JsonElement> Distinct(IEnumerable<JsonElement> values)
    {
        List<JsonElement> kept = [];
        HashSet<(JsonValueKind, string)> seen = [];
        foreach (JsonElement value in values)
        {
            bool isNew = IsScalar(value) ? seen.Add((value.ValueKind, KeyOf(value))) : !kept.Exists(k => AreEqual(k, value));
            if (isNew) kept.Add(value);
        }
        return kept;
    }

    private static string KeyOf(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.String => JsonText.StringOf(value),
        JsonValueKind.Number => DecimalNumber.TryParse(value.GetRawText())?.ToString() ?? value.GetRawText(),
        _ => "",
    };

    private static JsonElement Parse(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        return document.RootElement.Clone();
    }
}
