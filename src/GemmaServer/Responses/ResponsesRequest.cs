using System.Text.Json;

namespace GemmaServer;

/// <summary>A request of the Responses API, checked, said as a chat request, with what its answer repeats of it.</summary>
internal sealed class ResponsesRequest
{
    /// <summary>The response's id.</summary>
    public string Id { get; } = OutputItem.NewId("resp_");

    /// <summary>When it was asked, in seconds since 1970.</summary>
    public long CreatedAt { get; } = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    public required ChatRequest Chat { get; init; }

    /// <summary>The request's own input items, a JSON array, each with its id.</summary>
    public required ReadOnlyMemory<byte> Input { get; init; }

    /// <summary>Whose request it is.</summary>
    public required string Owner { get; init; }

    public required string? PreviousId { get; init; }

    /// <summary>Whether the response is kept.</summary>
    public required bool Store { get; init; }

    /// <summary>Whether thoughts also come as <c>encrypted_content</c>.</summary>
    public required bool SealThoughts { get; init; }

    public required ResponseEcho Echo { get; init; }
}

/// <summary>The members of a response that repeat the request, or tell the default that took its place.</summary>
internal sealed class ResponseEcho
{
    private readonly string? _instructions, _previousId, _user, _safetyIdentifier, _cacheKey, _effort, _summary;
    private readonly string _truncation, _verbosity;
    private readonly float _temperature, _topP, _presence, _frequency;
    private readonly long? _maxTokens, _maxToolCalls;
    private readonly long _topLogprobs;
    private readonly bool _parallel;
    private readonly JsonElement? _tools, _toolChoice, _format;

    /// <summary>Takes the members out of a request; what is wrong with them others have said.</summary>
    public ResponseEcho(FieldReader fields, ServedModel model)
    {
        _instructions = fields.Text("instructions");
        _previousId = fields.Text("previous_response_id");
        _user = fields.Text("user");
        _safetyIdentifier = fields.Text("safety_identifier");
        _cacheKey = fields.Text("prompt_cache_key");
        _truncation = fields.Text("truncation") ?? "disabled";
        _temperature = fields.Number("temperature", 0, 2) ?? model.Defaults.Temperature;
        _topP = fields.Number("top_p", 0, 1) ?? model.Defaults.TopP;
        _presence = fields.Number("presence_penalty", -2, 2) ?? 0;
        _frequency = fields.Number("frequency_penalty", -2, 2) ?? 0;
        _maxTokens = fields.Integer("max_output_tokens", 1, int.MaxValue);
        _maxToolCalls = fields.Integer("max_tool_calls", 1, int.MaxValue);
        _topLogprobs = fields.Integer("top_logprobs", 0, 20) ?? 0;
        _parallel = fields.Flag("parallel_tool_calls", true);
        _tools = Clone(fields.Root, "tools");
        _toolChoice = Clone(fields.Root, "tool_choice");
        _verbosity = "medium";
        if (fields.TryGetObject("text", out JsonElement text))
        {
            _format = Clone(text, "format");
            if (Clone(text, "verbosity") is { ValueKind: JsonValueKind.String } verbosity) _verbosity = verbosity.GetString()!;
        }
        if (!fields.TryGetObject("reasoning", out JsonElement reasoning)) return;
        if (Clone(reasoning, "effort") is { ValueKind: JsonValueKind.String } effort) _effort = effort.GetString();
        if (Clone(reasoning, "summary") is { ValueKind: JsonValueKind.String } summary) _summary = summary.GetString();
    }

    /// <summary>Writes the members.</summary>
    public void Write(Utf8JsonWriter json)
    {
        json.WriteBoolean("background"u8, false);
        json.WriteString("instructions"u8, _instructions);
        WriteNumber(json, "max_output_tokens", _maxTokens);
        WriteNumber(json, "max_tool_calls", _maxToolCalls);
        json.WriteBoolean("parallel_tool_calls"u8, _parallel);
        json.WriteString("previous_response_id"u8, _previousId);
        json.WriteString("prompt_cache_key"u8, _cacheKey);
        json.WriteStartObject("reasoning"u8);
        json.WriteString("effort"u8, _effort);
        json.WriteString("summary"u8, _summary);
        json.WriteEndObject();
        json.WriteString("safety_identifier"u8, _safetyIdentifier);
        json.WriteString("service_tier"u8, "default"u8);
        json.WriteNumber("temperature"u8, _temperature);
        WriteText(json);
        json.WritePropertyName("tool_choice"u8);
        if (_toolChoice is { } choice) choice.WriteTo(json);
        else json.WriteStringValue("auto"u8);
        WriteTools(json);
        json.WriteNumber("top_logprobs"u8, _topLogprobs);
        json.WriteNumber("top_p"u8, _topP);
        json.WriteString("truncation"u8, _truncation);
        json.WriteNumber("presence_penalty"u8, _presence);
        json.WriteNumber("frequency_penalty"u8, _frequency);
        if (_user is not null) json.WriteString("user"u8, _user);   // its published schema knows no null
    }

    private void WriteText(Utf8JsonWriter json)
    {
        json.WriteStartObject("text"u8);
        json.WritePropertyName("format"u8);
        if (_format is { } format) format.WriteTo(json);
        else
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "text"u8);
            json.WriteEndObject();
        }
        json.WriteString("verbosity"u8, _verbosity);
        json.WriteEndObject();
    }

    /// <summary>Every tool with all its members, as clients' schemas require them.</summary>
    private void WriteTools(Utf8JsonWriter json)
    {
        json.WriteStartArray("tools"u8);
        foreach (JsonElement tool in _tools is { } tools ? tools.EnumerateArray() : default)
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "function"u8);
            WriteMember(json, tool, "name");
            WriteMember(json, tool, "description");
            WriteMember(json, tool, "parameters");
            if (Clone(tool, "strict") is { } strict) json.WriteBoolean("strict"u8, strict.ValueKind == JsonValueKind.True);
            else json.WriteBoolean("strict"u8, false);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private static void WriteMember(Utf8JsonWriter json, JsonElement tool, string name)
    {
        json.WritePropertyName(name);
        if (Clone(tool, name) is { } value) value.WriteTo(json);
        else json.WriteNullValue();
    }

    private static void WriteNumber(Utf8JsonWriter json, string name, long? value)
    {
        if (value is { } number) json.WriteNumber(name, number);
        else json.WriteNull(name);
    }

    private static JsonElement? Clone(JsonElement owner, string name) =>
        owner.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value.Clone() : null;
}
