using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>What the content of an answer has to be.</summary>
/// <param name="Key">What it was made of.</param>
/// <param name="Node">Its grammar.</param>
/// <param name="Param">The field that asked for it.</param>
/// <param name="Name">The name that the client gave it; null without one.</param>
internal sealed record AnswerFormat(string Key, GrammarNode Node, string Param, string? Name = null)
{
    /// <summary>A grammar that cannot be followed, in OpenAI's words where it came in OpenAI's field.</summary>
    public ApiError Error(GrammarException e) => ErrorOf(Param, Name, e);

    /// <inheritdoc cref="Error"/>
    public static ApiError ErrorOf(string param, string? name, GrammarException e)
    {
        string why = e.Path is { Length: > 0 } path ? $"{ApiError.Echo(e.Message)} (at '{ApiError.Echo(path)}')" : ApiError.Echo(e.Message);
        return name is null ? ApiError.BadValue(param, why) : ApiError.InvalidSchema(param, name, why);
    }
}

/// <summary>
/// Reads every field that says what the content has to be: OpenAI's <c>response_format</c>, vLLM's <c>structured_outputs</c> and its
/// older <c>guided_*</c>, llama.cpp's <c>grammar</c> and <c>json_schema</c>, SGLang's <c>regex</c> and <c>ebnf</c>. Only one of them may
/// be there.
/// </summary>
internal sealed class AnswerFormatReader
{
    public static IReadOnlySet<string> Names { get; } = new HashSet<string>(StringComparer.Ordinal)
    {
        "response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_json_object",
        "guided_decoding_backend", "guided_whitespace_pattern", "grammar", "json_schema", "regex", "ebnf",
    };

    private const int MaxNameLength = 64;
    private const int MaxChoices = 1024;
    private const int MaxTextLength = 256 << 10;

    private readonly FieldReader _fields;
    private bool _isCompact;
    private AnswerFormat? _format;

    private AnswerFormatReader(FieldReader fields) => _fields = fields;

    /// <summary>Options of schemas: patterns search, as JSON Schema has it.</summary>
    public static JsonSchemaOptions SchemaOptions(bool isCompact = false) => new() { Pattern = static p => RegexGrammar.Parse(p, anchored: false), IsCompact = isCompact };

    /// <summary>A grammar in GBNF or, where it begins as one of Lark's does, in Lark.</summary>
    public static GrammarNode ParseGrammar(string text) => LarkGrammar.IsLikely(text) ? LarkGrammar.Parse(text) : GbnfGrammar.Parse(text);

    /// <summary>The format asked for; null for any text, or with a mistake in <paramref name="fields"/>.</summary>
    public static AnswerFormat? Read(FieldReader fields)
    {
        AnswerFormatReader reader = new(fields);
        reader.ReadResponseFormat();
        reader.ReadStructuredOutputs();
        if (fields.TryGet("guided_json", out JsonElement schema)) reader.AddSchema("guided_json", schema);
        if (fields.Flag("guided_json_object", false)) reader.AddObject("guided_json_object");
        if (fields.TryGet("guided_choice", out JsonElement choice)) reader.AddChoice("guided_choice", choice);
        if (fields.TryGet("json_schema", out schema)) reader.AddSchema("json_schema", schema);
        foreach (string name in (string[])["guided_regex", "regex"]) reader.AddRegex(name, fields.Text(name));
        foreach (string name in (string[])["guided_grammar", "grammar", "ebnf"]) reader.AddGrammar(name, fields.Text(name));
        return fields.Error is null ? reader._format : null;
    }

    private void ReadResponseFormat()
    {
        if (!_fields.TryGetObject("response_format", out JsonElement value)) return;
        FieldReader format = _fields.Into("response_format", value);
        if (!format.TryGet("type", out _)) format.Fail(ApiError.Missing("response_format.type"));
        string? type = format.Text("type");
        _fields.Take(format);
        switch (type)
        {
            case null or "text":
                break;
            case "json_object" when format.TryGet("schema", out JsonElement schema):
                AddSchema("response_format.schema", schema);
                break;
            case "json_object":
                AddObject("response_format");
                break;
            case "json_schema":
                ReadJsonSchema(format);
                break;
            case "structural_tag":
                AddTags("response_format", format);
                _fields.Take(format);
                break;
            default:
                _fields.Fail(ApiError.Value("response_format.type", type, "json_object", "json_schema", "structural_tag", "text"));
                break;
        }
    }

    private void ReadJsonSchema(FieldReader format)
    {
        if (!format.TryGetObject("json_schema", out JsonElement value)) format.Fail(ApiError.Missing("response_format.json_schema"));
        FieldReader wrapper = format.Into("json_schema", value);
        if (wrapper.Error is null)
        {
            string? name = wrapper.Text("name");
            if (name is null) wrapper.Fail(ApiError.Missing("response_format.json_schema.name"));
            else if (name.Length is 0 or > MaxNameLength || !name.All(static c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-'))
                wrapper.Fail(ApiError.BadValue("response_format.json_schema.name", "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]{1,64}$'."));
            wrapper.Text("description");
            wrapper.Flag("strict");
            if (!wrapper.TryGet("schema", out JsonElement schema)) wrapper.Fail(ApiError.Missing("response_format.json_schema.schema"));
            else if (schema.ValueKind != JsonValueKind.Object) wrapper.Fail(ApiError.WrongType("response_format.json_schema.schema", "an object", schema));
            if (wrapper.Error is null) AddSchema("response_format", schema, name);
        }
        _fields.Take(wrapper);
    }

    private void ReadStructuredOutputs()
    {
        if (!_fields.TryGetObject("structured_outputs", out JsonElement value)) return;
        FieldReader outputs = _fields.Into("structured_outputs", value);
        _isCompact = outputs.Flag("disable_any_whitespace", false);
        _fields.Take(outputs);
        int before = _format is null ? 0 : 1;
        if (outputs.TryGet("json", out JsonElement schema)) AddSchema("structured_outputs.json", schema);
        if (outputs.Flag("json_object", false)) AddObject("structured_outputs.json_object");
        if (outputs.TryGet("choice", out JsonElement choice)) AddChoice("structured_outputs.choice", choice);
        AddRegex("structured_outputs.regex", outputs.Text("regex"));
        AddGrammar("structured_outputs.grammar", outputs.Text("grammar"));
        if (outputs.TryGet("structural_tag", out JsonElement tag))
        {
            const string param = "structured_outputs.structural_tag";
            tag = Unquoted(param, tag);
            if (tag.ValueKind != JsonValueKind.Object) _fields.Fail(ApiError.WrongType(param, "one of an object or a string that holds one", tag));
            else AddTags(param, outputs.Into("structural_tag", tag));
        }
        _fields.Take(outputs);
        if (_format is null && before == 0)
            _fields.Fail(ApiError.BadValue("structured_outputs", "it must have exactly one of 'json', 'regex', 'choice', 'grammar', 'json_object' and 'structural_tag'."));
        _isCompact = false;
    }

    private void AddObject(string param) => Add(param, "object", null, () => JsonSchemaGrammar.AnyObject(SchemaOptions(_isCompact)));

    /// <summary>A schema, or a string that holds one.</summary>
    private void AddSchema(string param, JsonElement schema, string? name = null)
    {
        schema = Unquoted(param, schema);
        if (schema.ValueKind is not (JsonValueKind.Object or JsonValueKind.True or JsonValueKind.False))
            _fields.Fail(ApiError.WrongType(param, "one of an object or a string that holds one", schema));
        Add(param, "schema" + schema.GetRawText(), name, () => JsonSchemaGrammar.Json(schema, SchemaOptions(_isCompact)));
    }

    /// <summary>The value itself, or the one that a string holds.</summary>
    private JsonElement Unquoted(string param, JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.String) return value;
        try
        {
            using JsonDocument inner = JsonDocument.Parse(value.GetString()!, new JsonDocumentOptions { MaxDepth = RequestBody.MaxDepth });
            return inner.RootElement.Clone();
        }
        catch (JsonException)
        {
            _fields.Fail(ApiError.BadValue(param, "the string is not JSON."));
            return value;
        }
    }

    private void AddTags(string param, FieldReader tag)
    {
        TagFormat? format = StructuralTagReader.Read(tag, _isCompact);
        _fields.Take(tag);
        if (format is not null) Add(param, "tags" + tag.Root.GetRawText(), null, format.ToGrammar);
    }

    private void AddChoice(string param, JsonElement choices)
    {
        if (choices.ValueKind != JsonValueKind.Array) _fields.Fail(ApiError.WrongType(param, "an array of strings", choices));
        else if (choices.GetArrayLength() == 0) _fields.Fail(ApiError.EmptyArray(param));
        else if (choices.GetArrayLength() > MaxChoices) _fields.Fail(ApiError.ArrayTooLong(param, MaxChoices, choices.GetArrayLength()));
        else
        {
            List<GrammarNode> options = [];
            foreach (JsonElement choice in choices.EnumerateArray())
            {
                if (choice.ValueKind != JsonValueKind.String) _fields.Fail(ApiError.WrongType($"{param}[{options.Count}]", "a string", choice));
                else if (choice.GetString() is not { Length: > 0 } text) _fields.Fail(ApiError.EmptyString($"{param}[{options.Count}]"));
                else options.Add(GrammarNode.Literal(text));
                if (_fields.Error is not null) return;
            }
            Add(param, "choice" + choices.GetRawText(), null, () => GrammarNode.Choice([.. options]));
        }
    }

    private void AddRegex(string param, string? pattern) => AddText(param, pattern, "regex", static p => RegexGrammar.Parse(p, anchored: true));

    private void AddGrammar(string param, string? grammar) => AddText(param, grammar, "grammar", param == "ebnf" ? GbnfGrammar.Parse : ParseGrammar);

    private void AddText(string param, string? text, string kind, Func<string, GrammarNode> parse)
    {
        if (text is null) return;
        if (text.Length == 0) _fields.Fail(ApiError.EmptyString(param));
        else if (text.Length > MaxTextLength) _fields.Fail(ApiError.StringTooLong(param, MaxTextLength, text.Length));
        Add(param, kind + text, null, () => parse(text));
    }

    private void Add(string param, string key, string? name, Func<GrammarNode> make)
    {
        if (_fields.Error is not null) return;
        if (_format is not null)
        {
            _fields.Fail(ApiError.BadValue(param, $"it cannot be combined with '{_format.Param}'."));
            return;
        }
        try
        {
            _format = new AnswerFormat($"{(_isCompact ? "compact " : "")}{key}", make(), param, name);
        }
        catch (GrammarException e)
        {
            _fields.Fail(AnswerFormat.ErrorOf(param, name, e));
        }
    }
}
