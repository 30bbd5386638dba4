using System.Text.Json;

namespace GemmaServer;

/// <summary>Makes a <see cref="ResponsesRequest"/> from the body of <c>POST /v1/responses</c>, or says what is wrong with it.</summary>
/// <remarks>
/// The body becomes a chat body: what this API calls otherwise is translated, everything else goes over as it is. So sampling,
/// structured output and the server's extensions are read in one place, for both.
/// </remarks>
internal sealed class ResponsesReader
{
    /// <summary>Members that are read here and do not go over.</summary>
    private static readonly HashSet<string> s_own = new(StringComparer.Ordinal)
    {
        "input", "instructions", "previous_response_id", "conversation", "prompt", "background", "include", "max_output_tokens", "max_tool_calls",
        "reasoning", "text", "tools", "tool_choice", "top_logprobs", "truncation", "context_management",
    };

    /// <summary>Chat's names of what has another one here.</summary>
    private static readonly (string Chat, string Here)[] s_moved =
    [
        ("messages", "input"), ("max_tokens", "max_output_tokens"), ("max_completion_tokens", "max_output_tokens"), ("response_format", "text.format"),
        ("reasoning_effort", "reasoning.effort"), ("verbosity", "text.verbosity"), ("functions", "tools"), ("function_call", "tool_choice"), ("logprobs", "include"),
    ];

    private static readonly string[] s_includes =
    [
        "file_search_call.results", "web_search_call.results", "web_search_call.action.sources", "message.input_image.image_url",
        "computer_call_output.output.image_url", "code_interpreter_call.outputs", "reasoning.encrypted_content", "message.output_text.logprobs",
    ];

    private readonly JsonElement _root;
    private readonly FieldReader _fields;
    private readonly ServedModel _model;
    private readonly ServerOptions _options;
    private readonly ResponseInput _input;
    private readonly HashSet<string> _include = [];
    private readonly long? _maxTokens;
    private readonly long _topLogprobs;
    private readonly bool _isAuto;

    private ResponsesReader(JsonElement root, ServedModel model, ServerOptions options, ResponseStore store, string owner)
    {
        _root = root;
        _model = model;
        _options = options;
        _fields = new FieldReader(root);
        RefuseUnsupported();
        ReadInclude();
        _maxTokens = _fields.Integer("max_output_tokens", 1, int.MaxValue);
        _topLogprobs = _fields.Integer("top_logprobs", 0, 20) ?? 0;
        _fields.Integer("max_tool_calls", 1, int.MaxValue);     // it bounds tools on the server's side, and there are none
        _isAuto = _fields.OneOf("truncation", "auto", "disabled") == "auto";
        _input = new ResponseInput(_fields, store, owner);
        _input.Read(_fields.Text("instructions"), _fields.Text("previous_response_id"));
    }

    /// <summary>Reads a request.</summary>
    public static ApiError? Read(JsonElement root, ServedModel model, ServerOptions options, ResponseStore store, string owner, out ResponsesRequest? request)
    {
        request = null;
        ResponsesReader reader = new(root, model, options, store, owner);
        bool keep = reader._fields.Flag("store", true) && store.IsOn;
        if (reader.ReadChat(out ChatRequest? chat) is { } error) return error;
        request = new ResponsesRequest
        {
            Chat = chat!,
            Input = reader._input.Items,
            Owner = owner,
            PreviousId = reader._fields.Text("previous_response_id"),
            Store = keep,
            SealThoughts = reader._include.Contains("reasoning.encrypted_content"),
            Echo = new ResponseEcho(reader._fields, model),
        };
        return null;
    }

    /// <summary>Counts the tokens of the prompt that a request would have, however long.</summary>
    public static ApiError? Count(JsonElement root, ServedModel model, ServerOptions options, ResponseStore store, string owner, out int tokens)
    {
        tokens = 0;
        ResponsesReader reader = new(root, model, options, store, owner);
        using ChatTranslation chat = new();
        return reader.Translate(chat, reader._input.Turns) ?? chat.Count(model, out tokens);
    }

    /// <summary>The chat body that a request becomes; tests compare it.</summary>
    internal static (string? Body, ApiError? Error) Translate(JsonElement root, ServedModel model, ServerOptions options, ResponseStore store, string owner = "")
    {
        ResponsesReader reader = new(root, model, options, store, owner);
        using ChatTranslation chat = new();
        if (reader.Translate(chat, reader._input.Turns) is { } error) return (null, error);
        using JsonDocument body = chat.Close();
        return (body.RootElement.GetRawText(), null);
    }

    private ApiError? ReadChat(out ChatRequest? request)
    {
        ApiError? error = ReadChat(_input.Turns, out request);
        if (error is not { Code: "context_length_exceeded" } || !_isAuto) return error;

        // Where a question begins the conversation may begin as well; what the system said first stays.
        IReadOnlyList<ConversationTurn> turns = _input.Turns;
        int first = 0;
        while (first < turns.Count && turns[first].Role is "system" or "developer") first++;
        List<int> cuts = [.. Enumerable.Range(first + 1, Math.Max(0, turns.Count - first - 1)).Where(i => turns[i].Role == "user")];

        // The fewest turns that must go: each try renders and tokenizes, so halve.
        int low = 0, high = cuts.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            ApiError? tried = ReadChat([.. turns.Take(first), .. turns.Skip(cuts[middle])], out ChatRequest? fitting);
            if (tried is null) (request, error, high) = (fitting, null, middle);
            else if (tried.Code == "context_length_exceeded") low = middle + 1;
            else return tried;
        }
        return error;
    }

    private ApiError? ReadChat(IReadOnlyList<ConversationTurn> turns, out ChatRequest? request)
    {
        request = null;
        using ChatTranslation chat = new();
        return Translate(chat, turns) ?? chat.Read(_model, _options, out request);
    }

    private ApiError? Translate(ChatTranslation chat, IReadOnlyList<ConversationTurn> turns)
    {
        if (_fields.Error is not null) return _fields.Error;
        foreach (JsonProperty member in _root.EnumerateObject())
        {
            if (!s_own.Contains(member.Name)) member.WriteTo(chat.Json);
        }
        chat.Map("messages", "input");
        chat.Json.WriteStartArray("messages"u8);
        int index = 0;
        foreach (ConversationTurn turn in turns)
        {
            turn.Write(chat, index);
            index += turn.Messages;
        }
        chat.Json.WriteEndArray();
        ResponseTools.Write(_fields, chat);
        ResponseTools.WriteText(_fields, chat);
        WriteReasoning(chat);
        WriteLimits(chat);
        return _fields.Error;
    }

    private void WriteReasoning(ChatTranslation chat)
    {
        if (!_fields.TryGetObject("reasoning", out JsonElement reasoning)) return;
        foreach (string name in (ReadOnlySpan<string>)["summary", "generate_summary"])
        {
            if (!reasoning.TryGetProperty(name, out JsonElement summary) || summary.ValueKind == JsonValueKind.Null) continue;
            if (summary.ValueKind != JsonValueKind.String) _fields.Fail(ApiError.WrongType($"reasoning.{name}", "a string", summary));
            else if (summary.GetString() is not ("auto" or "concise" or "detailed"))
                _fields.Fail(ApiError.Value($"reasoning.{name}", summary.GetString()!, "auto", "concise", "detailed"));
        }
        if (!reasoning.TryGetProperty("effort", out JsonElement effort)) return;
        chat.Map("reasoning_effort", "reasoning.effort");
        chat.Json.WritePropertyName("reasoning_effort"u8);
        effort.WriteTo(chat.Json);
    }

    private void WriteLimits(ChatTranslation chat)
    {
        chat.Map("max_completion_tokens", "max_output_tokens");
        if (_maxTokens is { } most) chat.Json.WriteNumber("max_completion_tokens"u8, most);
        if (!_include.Contains("message.output_text.logprobs") && _topLogprobs == 0) return;
        chat.Json.WriteBoolean("logprobs"u8, true);
        chat.Json.WriteNumber("top_logprobs"u8, _topLogprobs);
    }

    private void ReadInclude()
    {
        if (!_fields.TryGetArray("include", out JsonElement include)) return;
        int i = 0;
        foreach (JsonElement item in include.EnumerateArray())
        {
            string at = $"include[{i++}]";
            if (item.ValueKind != JsonValueKind.String) _fields.Fail(ApiError.WrongType(at, "a string", item));
            else if (!s_includes.Contains(item.GetString())) _fields.Fail(ApiError.Value(at, item.GetString()!, s_includes));
            else _include.Add(item.GetString()!);
        }
    }

    /// <summary>What would change the answer and cannot be had.</summary>
    private void RefuseUnsupported()
    {
        if (_fields.Flag("background", false)) _fields.Fail(ApiError.UnsupportedValue("background", "true", "Responses are only made while the client waits."));
        foreach (string name in (ReadOnlySpan<string>)["conversation", "prompt", "context_management"])
        {
            if (_fields.TryGet(name, out _)) _fields.Fail(ApiError.UnsupportedParameter(name));
        }
        foreach ((string chat, string here) in s_moved)
        {
            if (_fields.TryGet(chat, out _)) _fields.Fail(ApiError.Moved(chat, here));
        }
        _fields.Integer("n", 1, 1);     // there is one output
    }
}
