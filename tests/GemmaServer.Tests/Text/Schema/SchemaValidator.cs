using System.Globalization;
using System.Net;
using System.Numerics;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace GemmaServer.Tests;

/// <summary>A small JSON Schema validator that interprets the schema word by word, with nothing in common with the compiler.</summary>
internal sealed class SchemaValidator(JsonElement root)
{
    public bool IsValid(JsonElement value) => IsValid(root, value);

    private bool IsValid(JsonElement schema, JsonElement value)
    {
        if (schema.ValueKind is JsonValueKind.True or JsonValueKind.False) return schema.ValueKind == JsonValueKind.True;
        return schema.EnumerateObject().All(k => Holds(schema, k.Name, k.Value, value));
    }

    private bool Holds(JsonElement schema, string keyword, JsonElement argument, JsonElement value) => keyword switch
    {
        "type" => argument.ValueKind == JsonValueKind.Array ? argument.EnumerateArray().Any(t => IsType(t.GetString()!, value)) : IsType(argument.GetString()!, value),
        "const" => JsonElement.DeepEquals(argument, value),
        "enum" => argument.EnumerateArray().Any(e => JsonElement.DeepEquals(e, value)),
        "allOf" => argument.EnumerateArray().All(s => IsValid(s, value)),
        "anyOf" => argument.EnumerateArray().Any(s => IsValid(s, value)),
        "oneOf" => argument.EnumerateArray().Count(s => IsValid(s, value)) == 1,
        "not" => !IsValid(argument, value),
        "if" => IsValid(argument, value) ? !schema.TryGetProperty("then", out JsonElement then) || IsValid(then, value)
            : !schema.TryGetProperty("else", out JsonElement otherwise) || IsValid(otherwise, value),
        "$ref" => IsValid(Resolve(argument.GetString()!), value),
        _ => value.ValueKind switch
        {
            JsonValueKind.Number => NumberHolds(keyword, argument, value),
            JsonValueKind.String => StringHolds(keyword, argument, value.GetString()!),
            JsonValueKind.Array => ArrayHolds(schema, keyword, argument, [.. value.EnumerateArray()]),
            JsonValueKind.Object => ObjectHolds(schema, keyword, argument, value.EnumerateObject().DistinctBy(m => m.Name).ToDictionary(m => m.Name, m => value.GetProperty(m.Name))),
            _ => true,
        },
    };

    private static bool IsType(string type, JsonElement value) => type switch
    {
        "object" => value.ValueKind == JsonValueKind.Object,
        "array" => value.ValueKind == JsonValueKind.Array,
        "string" => value.ValueKind == JsonValueKind.String,
        "boolean" => value.ValueKind is JsonValueKind.True or JsonValueKind.False,
        "null" => value.ValueKind == JsonValueKind.Null,
        "number" => value.ValueKind == JsonValueKind.Number,
        _ => value.ValueKind == JsonValueKind.Number && Fraction(value) is var (n, d) && (n % d).IsZero,
    };

    /// <summary>The number as a fraction of integers.</summary>
    private static (BigInteger, BigInteger) Fraction(JsonElement value)
    {
        Match m = Regex.Match(value.GetRawText(), @"^(-?\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$");
        string decimals = m.Groups[2].Value;
        int exponent = (m.Groups[3].Success ? int.Parse(m.Groups[3].Value, CultureInfo.InvariantCulture) : 0) - decimals.Length;
        BigInteger digits = BigInteger.Parse(m.Groups[1].Value + decimals, CultureInfo.InvariantCulture);
        return exponent >= 0 ? (digits * BigInteger.Pow(10, exponent), 1) : (digits, BigInteger.Pow(10, -exponent));
    }

    private static bool NumberHolds(string keyword, JsonElement argument, JsonElement value)
    {
        if (argument.ValueKind != JsonValueKind.Number) return true;
        ((BigInteger a, BigInteger b), (BigInteger c, BigInteger d)) = (Fraction(value), Fraction(argument));
        int order = (a * d).CompareTo(c * b);
        return keyword switch
        {
            "minimum" => order >= 0,
            "maximum" => order <= 0,
            "exclusiveMinimum" => order > 0,
            "exclusiveMaximum" => order < 0,
            "multipleOf" => (a * d % (b * c)).IsZero,
            _ => true,
        };
    }

    private static bool StringHolds(string keyword, JsonElement argument, string value) => keyword switch
    {
        "minLength" => value.EnumerateRunes().Count() >= argument.GetDouble(),
        "maxLength" => value.EnumerateRunes().Count() <= argument.GetDouble(),
        "pattern" => Regex.IsMatch(Units(value), argument.GetString()!, RegexOptions.CultureInvariant),
        "format" => argument.GetString() switch
        {
            "date" => DateOnly.TryParseExact(value, "yyyy-MM-dd", CultureInfo.InvariantCulture, DateTimeStyles.None, out _),
            "date-time" => Regex.IsMatch(value, @"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
                && DateTime.TryParseExact(value[..19], "yyyy-MM-ddTHH:mm:ss", CultureInfo.InvariantCulture, DateTimeStyles.None, out _),
            "ipv4" => Regex.IsMatch(value, @"^\d+(\.\d+){3}$") && IPAddress.TryParse(value, out IPAddress? a) && a.ToString() == value,
            "ipv6" => value.Contains(':') && IPAddress.TryParse(value, out _),
            "uuid" => Guid.TryParseExact(value, "D", out _),
            "uri" => Uri.TryCreate(value, UriKind.Absolute, out _) || value.Contains('%') || value.Contains('@'),
            _ => true,
        },
        _ => true,
    };

    /// <summary>One UTF-16 unit for each code point, since .NET's expressions count units.</summary>
    private static string Units(string text) => string.Concat(text.EnumerateRunes().Select(r => r.IsBmp ? (char)r.Value : '\uE000'));

    private bool ArrayHolds(JsonElement schema, string keyword, JsonElement argument, List<JsonElement> items)
    {
        int prefix = schema.TryGetProperty("prefixItems", out JsonElement p) ? p.GetArrayLength()
            : schema.TryGetProperty("items", out JsonElement i) && i.ValueKind == JsonValueKind.Array ? i.GetArrayLength() : 0;
        return keyword switch
        {
            "minItems" => items.Count >= argument.GetDouble(),
            "maxItems" => items.Count <= argument.GetDouble(),
            "prefixItems" => Tuple(argument),
            "items" when argument.ValueKind == JsonValueKind.Array => Tuple(argument),
            "items" or "additionalItems" => items.Skip(prefix).All(item => IsValid(argument, item)),
            "uniqueItems" when argument.ValueKind == JsonValueKind.True => !items.Where((a, i) => items.Take(i).Any(b => JsonElement.DeepEquals(a, b))).Any(),
            _ => true,
        };

        bool Tuple(JsonElement schemas) => items.Zip(schemas.EnumerateArray()).All(pair => IsValid(pair.Second, pair.First));
    }

    private bool ObjectHolds(JsonElement schema, string keyword, JsonElement argument, Dictionary<string, JsonElement> members)
    {
        return keyword switch
        {
            "required" => argument.EnumerateArray().All(r => members.ContainsKey(r.GetString()!)),
            "minProperties" => members.Count >= argument.GetDouble(),
            "maxProperties" => members.Count <= argument.GetDouble(),
            "properties" => argument.EnumerateObject().All(p => !members.TryGetValue(p.Name, out JsonElement value) || IsValid(p.Value, value)),
            "patternProperties" => members.All(m => argument.EnumerateObject().All(p => !Regex.IsMatch(m.Key, p.Name) || IsValid(p.Value, m.Value))),
            "additionalProperties" => members.All(m => IsDeclared(m.Key) || IsValid(argument, m.Value)),
            "propertyNames" => members.Keys.All(n => IsValid(argument, JsonSerializer.SerializeToElement(n))),
            "dependentRequired" => argument.EnumerateObject().All(d => !members.ContainsKey(d.Name) || d.Value.EnumerateArray().All(r => members.ContainsKey(r.GetString()!))),
            _ => true,
        };

        bool IsDeclared(string name) =>
            (schema.TryGetProperty("properties", out JsonElement p) && p.TryGetProperty(name, out _))
            || (schema.TryGetProperty("patternProperties", out JsonElement pp) && pp.EnumerateObject().Any(x => Regex.IsMatch(name, x.Name)));
    }

    private JsonElement Resolve(string reference)
    {
        reference = Uri.UnescapeDataString(reference);
        if (reference.Length > 1 && reference[1] != '/') return Anchored(root, reference[1..])!.Value;
        JsonElement at = root;
        foreach (string part in reference.TrimStart('#').Split('/', StringSplitOptions.RemoveEmptyEntries))
            at = at.ValueKind == JsonValueKind.Array ? at[int.Parse(part, CultureInfo.InvariantCulture)] : at.GetProperty(part.Replace("~1", "/").Replace("~0", "~"));
        return at;
    }

    private static JsonElement? Anchored(JsonElement at, string name)
    {
        if (at.ValueKind != JsonValueKind.Object) return null;
        if (at.TryGetProperty("$anchor", out JsonElement anchor) && anchor.GetString() == name) return at;
        return at.EnumerateObject().Select(m => Anchored(m.Value, name)).FirstOrDefault(found => found is not null);
    }
}
