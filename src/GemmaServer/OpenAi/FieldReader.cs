using System.Globalization;
using System.Text.Json;

namespace GemmaServer;

/// <summary>
/// Reads members of a request strictly. The first thing that is wrong is kept in <see cref="Error"/>, naming its path;
/// afterwards everything reads as absent, so a reader is straight-line code with one question at its end. JSON null is absent.
/// </summary>
internal sealed class FieldReader(JsonElement root, string prefix = "")
{
    /// <summary>The first mistake; null while there is none.</summary>
    public ApiError? Error { get; private set; }

    /// <summary>The request's object.</summary>
    public JsonElement Root => root;

    /// <summary>Keeps a mistake, if it is the first.</summary>
    public void Fail(ApiError error) => Error ??= error;

    /// <summary>Reads an object inside this one; its mistakes have the whole path. Give it back with <see cref="Take"/>.</summary>
    public FieldReader Into(string name, JsonElement value) => new(value, $"{prefix}{name}.") { Error = Error };

    /// <summary>Keeps the first mistake of an object inside.</summary>
    public void Take(FieldReader inner) => Error ??= inner.Error;

    /// <summary>The member's name with the way to it.</summary>
    public string PathOf(string name) => prefix + name;

    /// <summary>The member, unless it is absent or null, or something went wrong before.</summary>
    public bool TryGet(string name, out JsonElement value)
    {
        if (Error is null && root.TryGetProperty(name, out value) && value.ValueKind != JsonValueKind.Null) return true;
        value = default;
        return false;
    }

    /// <summary>As <see cref="TryGet(string, out JsonElement)"/>, and it must be an object.</summary>
    public bool TryGetObject(string name, out JsonElement value) => TryGet(name, JsonValueKind.Object, "an object", out value);

    /// <summary>As <see cref="TryGet(string, out JsonElement)"/>, and it must be an array.</summary>
    public bool TryGetArray(string name, out JsonElement value) => TryGet(name, JsonValueKind.Array, "an array", out value);

    public string? Text(string name) => TryGet(name, JsonValueKind.String, "a string", out JsonElement value) ? value.GetString() : null;

    public bool? Flag(string name) => TryGet(name, out JsonElement value) ? Flag(PathOf(name), value) : null;

    public bool Flag(string name, bool fallback) => Flag(name) ?? fallback;

    public bool? Flag(string path, JsonElement value)
    {
        if (value.ValueKind is JsonValueKind.True or JsonValueKind.False) return value.GetBoolean();
        Fail(ApiError.WrongType(path, "a boolean", value));
        return null;
    }

    public long? Integer(string name, long min, long max) =>
        TryGet(name, out JsonElement value) ? Integer(PathOf(name), value, min, max) : null;

    /// <summary>An integer in JSON's spelling: 1.0 and 1e3 are not.</summary>
    public long? Integer(string path, JsonElement value, long min, long max)
    {
        if (value.ValueKind != JsonValueKind.Number || value.GetRawText() is var raw && raw.AsSpan().IndexOfAny(".eE") >= 0)
        {
            Fail(ApiError.WrongType(path, "an integer", value));
            return null;
        }
        bool fits = value.TryGetInt64(out long number);
        if (fits ? number > max : raw[0] != '-') Fail(ApiError.IntegerTooBig(path, max.ToString(CultureInfo.InvariantCulture), raw));
        else if (fits ? number < min : true) Fail(ApiError.IntegerTooSmall(path, min.ToString(CultureInfo.InvariantCulture), raw));
        else return number;
        return null;
    }

    public float? Number(string name, double min, double max, bool minExclusive = false) =>
        TryGet(name, out JsonElement value) ? Number(PathOf(name), value, min, max, minExclusive) : null;

    /// <summary>A number in range; 1e400 is above every maximum.</summary>
    public float? Number(string path, JsonElement value, double min, double max, bool minExclusive = false)
    {
        if (value.ValueKind != JsonValueKind.Number)
        {
            Fail(ApiError.WrongType(path, "a decimal", value));
            return null;
        }
        double number = value.GetDouble();
        if (number > max) Fail(ApiError.NumberTooBig(path, max.ToString(CultureInfo.InvariantCulture), value.GetRawText()));
        else if (number < min || minExclusive && number <= min)
            Fail(ApiError.NumberTooSmall(path, min.ToString(CultureInfo.InvariantCulture), value.GetRawText(), minExclusive));
        else return (float)number;
        return null;
    }

    /// <summary>One of the given strings.</summary>
    public string? OneOf(string name, params ReadOnlySpan<string> values)
    {
        if (Text(name) is not { } text) return null;
        foreach (string value in values)
        {
            if (value == text) return value;
        }
        Fail(ApiError.Value(PathOf(name), text, values));
        return null;
    }

    /// <summary>Under --strict-fields: every member must be a known one.</summary>
    public void RejectUnknown(IReadOnlySet<string> known)
    {
        foreach (JsonProperty member in root.EnumerateObject())
        {
            if (!known.Contains(member.Name)) Fail(ApiError.UnknownParameter(member.Name));
        }
    }

    private bool TryGet(string name, JsonValueKind kind, string expected, out JsonElement value)
    {
        if (!TryGet(name, out value)) return false;
        if (value.ValueKind == kind) return true;
        Fail(ApiError.WrongType(PathOf(name), expected, value));
        return false;
    }
}
