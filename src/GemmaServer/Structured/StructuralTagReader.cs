using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>
/// Reads structural tags: <c>structures</c> with <c>triggers</c> as servers first had them, or xgrammar's <c>format</c>, a tree of
/// parts. What works on tokens instead of texts is not supported.
/// </summary>
internal sealed class StructuralTagReader
{
    private const int MaxDepth = 32;
    private const int MaxFormats = 1024;
    private const int MaxWords = 256;
    private const int MaxWordLength = 1024;
    private const int MaxRepetitions = 1_000_000;
    private const int MaxSchemaWork = 400_000;      // of all schemas together

    private static readonly JsonElement s_anyValue = JsonDocument.Parse("true").RootElement;

    private readonly JsonSchemaOptions _options;
    private int _depth;
    private int _formats;

    private StructuralTagReader(bool isCompact) => _options = new JsonSchemaOptions
    {
        Pattern = static p => RegexGrammar.Parse(p, anchored: false),
        IsCompact = isCompact,
        MaxWork = MaxSchemaWork,
        SharesWork = true,
    };

    /// <summary>The tag of an object with <c>type</c> and either form's fields; null with a mistake in <paramref name="fields"/>.</summary>
    public static TagFormat? Read(FieldReader fields, bool isCompact)
    {
        StructuralTagReader reader = new(isCompact);
        fields.OneOf("type", "structural_tag");
        TagFormat? tag = fields.TryGet("structures", out _) || fields.TryGet("triggers", out _) ? reader.Structures(fields) : reader.Format(fields, "format");
        return fields.Error is null ? tag : null;
    }

    private TriggeredFormat Structures(FieldReader fields)
    {
        List<FormatTag> tags = List(fields, "structures", structure => new FormatTag(
            Word(structure, "begin"),
            structure.TryGet("schema", out JsonElement schema) ? Schema(structure, "schema", schema) : Schema(structure, "schema", s_anyValue),
            Ends(structure)));
        return Triggered(fields, "structures", tags);
    }

    /// <summary>A format that must be there.</summary>
    private TagFormat Format(FieldReader parent, string name)
    {
        if (!parent.TryGetObject(name, out JsonElement value)) parent.Fail(ApiError.Missing(parent.PathOf(name)));
        return Inside(parent, name, value, Format);
    }

    private TagFormat Format(FieldReader fields)
    {
        string? type = fields.Text("type");
        if (type is null) fields.Fail(ApiError.Missing(fields.PathOf("type")));
        switch (type)
        {
            case "const_string": return TagFormat.Of(GrammarNode.Literal(Required(fields, "value")));
            case "json_schema": return JsonSchema(fields);
            case "regex": return Fixed(fields, "pattern", static p => RegexGrammar.Parse(p, anchored: true));
            case "grammar": return Fixed(fields, "grammar", AnswerFormatReader.ParseGrammar);
            case "any_text":
                if (fields.TryGet("max_tokens", out _)) fields.Fail(ApiError.UnsupportedParameter(fields.PathOf("max_tokens")));
                return TagFormat.AnyText(Words(fields, "excludes"));
            case "sequence": return TagFormat.Sequence(List(fields, "elements", Format));
            case "or": return TagFormat.Choice(List(fields, "elements", Format));
            case "optional": return TagFormat.Repeat(Format(fields, "content"), 0, 1);
            case "star": return TagFormat.Repeat(Format(fields, "content"), 0, null);
            case "plus": return TagFormat.Repeat(Format(fields, "content"), 1, null);
            case "repeat": return Repeat(fields);
            case "tag": return Tag(fields).AsFormat();
            case "triggered_tags": return Triggered(fields, "tags", List(fields, "tags", Tag));
            case "tags_with_separator":
                return new SeparatedFormat
                {
                    Tags = List(fields, "tags", Tag),
                    Separator = Required(fields, "separator"),
                    AtLeastOne = fields.Flag("at_least_one", false),
                    StopAfterFirst = fields.Flag("stop_after_first", false),
                };
            case "token" or "exclude_token" or "any_tokens" or "token_triggered_tags" or "token_dispatch" or "dispatch" or "qwen_xml_parameter":
                fields.Fail(ApiError.UnsupportedValue(fields.PathOf("type"), $"'{type}'"));
                return TagFormat.AnyText([]);
            default:
                fields.Fail(ApiError.Value(fields.PathOf("type"), type ?? "", "const_string", "json_schema", "regex", "grammar", "any_text", "sequence", "or",
                    "optional", "star", "plus", "repeat", "tag", "triggered_tags", "tags_with_separator"));
                return TagFormat.AnyText([]);
        }
    }

    private TagFormat JsonSchema(FieldReader fields)
    {
        if (fields.Text("style") is { } style && style != "json") fields.Fail(ApiError.UnsupportedValue(fields.PathOf("style"), $"'{ApiError.Echo(style)}'", "Use 'json'."));
        if (fields.Flag("any_order", false)) fields.Fail(ApiError.UnsupportedValue(fields.PathOf("any_order"), "true"));
        if (!fields.TryGet("json_schema", out JsonElement schema)) fields.Fail(ApiError.Missing(fields.PathOf("json_schema")));
        return Schema(fields, "json_schema", schema);
    }

    private TagFormat Schema(FieldReader fields, string name, JsonElement schema)
    {
        if (fields.Error is null && schema.ValueKind is not (JsonValueKind.Object or JsonValueKind.True or JsonValueKind.False))
            fields.Fail(ApiError.WrongType(fields.PathOf(name), "an object", schema));
        return Fixed(fields, name, () => JsonSchemaGrammar.Json(schema, _options));
    }

    private static TagFormat Fixed(FieldReader fields, string name, Func<string, GrammarNode> parse)
    {
        string text = Required(fields, name);
        if (text.Length == 0) fields.Fail(ApiError.EmptyString(fields.PathOf(name)));
        return Fixed(fields, name, () => parse(text));
    }

    private static TagFormat Fixed(FieldReader fields, string name, Func<GrammarNode> make)
    {
        if (fields.Error is not null) return TagFormat.AnyText([]);
        try
        {
            return TagFormat.Of(make());
        }
        catch (GrammarException e)
        {
            fields.Fail(AnswerFormat.ErrorOf(fields.PathOf(name), null, e));
            return TagFormat.AnyText([]);
        }
    }

    private TagFormat Repeat(FieldReader fields)
    {
        foreach (string name in (string[])["min", "max"])
            if (!fields.TryGet(name, out _)) fields.Fail(ApiError.Missing(fields.PathOf(name)));
        long min = fields.Integer("min", 0, MaxRepetitions) ?? 0;
        long max = fields.Integer("max", -1, MaxRepetitions) ?? -1;
        if (max >= 0 && max < min) fields.Fail(ApiError.BadValue(fields.PathOf("max"), "it is below 'min'."));
        return TagFormat.Repeat(Format(fields, "content"), (int)min, max < 0 ? null : (int)max);
    }

    private FormatTag Tag(FieldReader fields)
    {
        if (fields.Text("type") is { } type && type != "tag") fields.Fail(ApiError.Value(fields.PathOf("type"), type, "tag"));
        return new FormatTag(Word(fields, "begin"), Format(fields, "content"), Ends(fields));
    }

    private static TriggeredFormat Triggered(FieldReader fields, string nameOfTags, List<FormatTag> tags)
    {
        if (!fields.TryGet("triggers", out _)) fields.Fail(ApiError.Missing(fields.PathOf("triggers")));
        List<string> triggers = Words(fields, "triggers");
        if (triggers.Count == 0) fields.Fail(ApiError.EmptyArray(fields.PathOf("triggers")));
        for (int i = 0; i < tags.Count && fields.Error is null; i++)
        {
            int matches = triggers.Count(t => tags[i].Begin.StartsWith(t, StringComparison.Ordinal));
            if (matches != 1)
                fields.Fail(ApiError.BadValue(fields.PathOf($"{nameOfTags}[{i}].begin"), $"it must begin with exactly one of the triggers, not with {(matches == 0 ? "none" : "several")}."));
        }
        return new TriggeredFormat
        {
            Triggers = triggers,
            Tags = tags,
            Excluded = Words(fields, "excludes"),
            AtLeastOne = fields.Flag("at_least_one", false),
            StopAfterFirst = fields.Flag("stop_after_first", false),
        };
    }

    /// <summary>One text or several; none where it is empty.</summary>
    private static List<string> Ends(FieldReader fields)
    {
        if (fields.TryGet("end", out JsonElement value) && value.ValueKind == JsonValueKind.Array)
        {
            List<string> ends = Words(fields, "end");
            if (ends.Count == 0) fields.Fail(ApiError.EmptyArray(fields.PathOf("end")));
            return ends;
        }
        string end = Word(fields, "end");
        return end.Length == 0 ? [] : [end];
    }

    private static string Required(FieldReader fields, string name)
    {
        string? text = fields.Text(name);
        if (text is null) fields.Fail(ApiError.Missing(fields.PathOf(name)));
        return text ?? "";
    }

    /// <summary>A short text that must be there; it may be empty.</summary>
    private static string Word(FieldReader fields, string name)
    {
        string text = Required(fields, name);
        if (text.Length > MaxWordLength) fields.Fail(ApiError.StringTooLong(fields.PathOf(name), MaxWordLength, text.Length));
        return text;
    }

    /// <summary>Short texts, of which none is empty.</summary>
    private static List<string> Words(FieldReader fields, string name)
    {
        List<string> words = [];
        if (!fields.TryGetArray(name, out JsonElement array)) return words;
        if (array.GetArrayLength() > MaxWords) fields.Fail(ApiError.ArrayTooLong(fields.PathOf(name), MaxWords, array.GetArrayLength()));
        foreach (JsonElement item in array.EnumerateArray())
        {
            string path = $"{fields.PathOf(name)}[{words.Count}]";
            if (item.ValueKind != JsonValueKind.String) fields.Fail(ApiError.WrongType(path, "a string", item));
            else if (item.GetString() is not { Length: > 0 } word) fields.Fail(ApiError.EmptyString(path));
            else if (word.Length > MaxWordLength) fields.Fail(ApiError.StringTooLong(path, MaxWordLength, word.Length));
            else words.Add(word);
            if (fields.Error is not null) break;
        }
        return words;
    }

    private List<T> List<T>(FieldReader fields, string name, Func<FieldReader, T> read)
    {
        List<T> items = [];
        if (!fields.TryGetArray(name, out JsonElement array)) fields.Fail(ApiError.Missing(fields.PathOf(name)));
        else if (array.GetArrayLength() == 0) fields.Fail(ApiError.EmptyArray(fields.PathOf(name)));
        else
        {
            foreach (JsonElement item in array.EnumerateArray())
            {
                string at = $"{name}[{items.Count}]";
                if (item.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType(fields.PathOf(at), "an object", item));
                if (fields.Error is not null) break;
                items.Add(Inside(fields, at, item, read));
            }
        }
        return items;
    }

    private T Inside<T>(FieldReader parent, string name, JsonElement value, Func<FieldReader, T> read)
    {
        if (_depth >= MaxDepth) parent.Fail(ApiError.BadValue(parent.PathOf(name), $"formats are nested deeper than {MaxDepth}."));
        if (++_formats > MaxFormats) parent.Fail(ApiError.BadValue(parent.PathOf(name), $"there are more than {MaxFormats} formats."));
        // With a mistake everything reads as absent, so this comes to an end.
        FieldReader fields = parent.Into(name, value);
        _depth++;
        T item = parent.Error is null ? read(fields) : default!;
        _depth--;
        parent.Take(fields);
        return item;
    }
}
