using System.Globalization;
using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>One place in the document that may hold a schema.</summary>
/// <param name="Id">Its number.</param>
/// <param name="Path">JSON pointer.</param>
/// <param name="Json">What stands there.</param>
/// <param name="Base">What references in it are relative to.</param>
internal sealed record SchemaLocation(int Id, string Path, JsonElement Json, Uri Base);

/// <summary>The schema document: its places by pointer, its anchors, and where each reference leads.</summary>
internal sealed class SchemaSource
{
    private static readonly Uri s_unnamed = new("schema://document/");

    private readonly List<SchemaLocation> _places = [];
    private readonly Dictionary<string, int> _byPath = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _resources = new(StringComparer.Ordinal);   // address without fragment → pointer
    private readonly Dictionary<string, string> _anchors = new(StringComparer.Ordinal);     // address with fragment → pointer

    public SchemaSource(JsonElement root, SchemaBudget budget)
    {
        _resources[s_unnamed.AbsoluteUri] = "";
        Stack<(JsonElement Json, string Path, Uri Base, bool IsSchema)> open = new([(root, "", s_unnamed, true)]);
        while (open.TryPop(out (JsonElement Json, string Path, Uri Base, bool IsSchema) at))
        {
            budget.Spend(1, at.Path);
            Uri address = at.Base;
            if (at is { IsSchema: true, Json.ValueKind: JsonValueKind.Object }) address = ReadNames(at.Json, at.Path, at.Base);
            Add(at.Json, at.Path, address);
            if (at.Json.ValueKind == JsonValueKind.Object)
            {
                foreach (JsonProperty member in at.Json.EnumerateObject())
                {
                    string name = JsonText.NameOf(member);
                    // Values are not schemas, whatever "$id" may stand in them.
                    bool isSchema = at.IsSchema && name is not ("enum" or "const" or "default" or "examples");
                    if (!JsonValues.IsScalar(member.Value) || member.Value.ValueKind is JsonValueKind.True or JsonValueKind.False)
                        open.Push((member.Value, $"{at.Path}/{Escaped(name)}", address, isSchema));
                }
            }
            else if (at.Json.ValueKind == JsonValueKind.Array)
            {
                int i = 0;
                foreach (JsonElement item in at.Json.EnumerateArray())
                    open.Push((item, string.Create(CultureInfo.InvariantCulture, $"{at.Path}/{i++}"), address, at.IsSchema));
            }
        }
    }

    /// <summary>The whole document.</summary>
    public SchemaLocation Root => _places[0];

    public SchemaLocation this[int id] => _places[id];

    /// <summary>The schema at a keyword of another one, or deeper below it.</summary>
    public SchemaLocation Child(SchemaLocation parent, params ReadOnlySpan<string> names)
    {
        string path = parent.Path;
        foreach (string name in names) path += "/" + Escaped(name);
        return _byPath.TryGetValue(path, out int id) ? _places[id] : throw new GrammarException("A schema is an object, true or false.", path);
    }

    public SchemaLocation ItemOf(SchemaLocation parent, string keyword, int index) =>
        Child(parent, keyword, index.ToString(CultureInfo.InvariantCulture));

    /// <summary>A schema that is not in the document.</summary>
    public SchemaLocation Add(JsonElement schema) => Add(schema, "(built-in)/" + _places.Count.ToString(CultureInfo.InvariantCulture), s_unnamed);

    /// <summary>Where a <c>$ref</c> leads.</summary>
    public SchemaLocation Resolve(SchemaLocation from, string reference)
    {
        string path = from.Path + "/$ref";
        if (!Uri.TryCreate(from.Base, reference, out Uri? target)) throw new GrammarException("The reference is not a valid address.", path);
        string fragment = Uri.UnescapeDataString(target.Fragment.TrimStart('#'));
        string resource = target.GetLeftPart(UriPartial.Query);
        string? pointer;
        if (fragment.Length > 0 && fragment[0] != '/')
            pointer = _anchors.GetValueOrDefault(resource + "#" + fragment);
        else
            pointer = _resources.TryGetValue(resource, out string? root) ? root + fragment : null;
        if (pointer is not null && _byPath.TryGetValue(Normalized(pointer), out int id)) return _places[id];
        throw new GrammarException(_resources.ContainsKey(resource) || resource == s_unnamed.AbsoluteUri
            ? "The reference leads nowhere in this schema." : "References to other documents are not followed.", path);
    }

    private SchemaLocation Add(JsonElement json, string path, Uri address)
    {
        SchemaLocation place = new(_places.Count, path, json, address);
        _places.Add(place);
        _byPath[path] = place.Id;
        return place;
    }

    /// <summary><c>$id</c>, <c>$anchor</c> and the older <c>"$id": "#name"</c>; returns the address that holds inside.</summary>
    private Uri ReadNames(JsonElement schema, string path, Uri address)
    {
        if (TextOf(schema, "$id") is { } id)
        {
            if (id.StartsWith('#')) _anchors[address.GetLeftPart(UriPartial.Query) + id] = path;
            else if (Uri.TryCreate(address, id, out Uri? own))
            {
                address = own;
                _resources[address.GetLeftPart(UriPartial.Query)] = path;
            }
        }
        foreach (string keyword in (ReadOnlySpan<string>)["$anchor", "$dynamicAnchor"])
            if (TextOf(schema, keyword) is { } anchor) _anchors[$"{address.GetLeftPart(UriPartial.Query)}#{anchor}"] = path;
        return address;
    }

    private static string? TextOf(JsonElement schema, string keyword) =>
        schema.TryGetProperty(keyword, out JsonElement value) && value.ValueKind == JsonValueKind.String ? JsonText.StringOf(value) : null;

    private static string Escaped(string name) => name.Replace("~", "~0").Replace("/", "~1");

    /// <summary>A pointer in the one spelling that is used as key.</summary>
    private static string Normalized(string pointer) =>
        string.Join('/', pointer.Split('/').Select(p => Escaped(p.Replace("~1", "/").Replace("~0", "~"))));
}
