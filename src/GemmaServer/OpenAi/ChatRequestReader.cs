using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Makes a <see cref="ChatRequest"/> from the body of <c>POST /v1/chat/completions</c>, or says what is wrong with it.</summary>
internal static class ChatRequestReader
{
    private static readonly HashSet<string> Known = new(StringComparer.Ordinal)
    {
        "max_completion_tokens", "top_logprobs", "tool_choice", "parallel_tool_calls", "response_format", "include_reasoning",
        "separate_reasoning", "stream_reasoning", "modalities", "audio", "web_search_options", "store", "service_tier", "safety_identifier",
        "verbosity", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "prediction", "moderation", "functions",
        "function_call", "echo", "documents", "chat_template", "mm_processor_kwargs", "use_beam_search",
    };

    static ChatRequestReader()
    {
        Known.UnionWith(SamplingFields.Names);
        Known.UnionWith(PromptFields.Names);
    }

    public static ApiError? Read(JsonElement root, ServedModel model, ServerOptions options, out ChatRequest? request)
    {
        request = null;
        FieldReader fields = new(root);
        if (options.StrictFields) fields.RejectUnknown(Known);
        SamplingFields sampling = SamplingFields.Read(fields, model, options);

        long? maxTokens = fields.Integer("max_completion_tokens", 1, int.MaxValue);
        maxTokens ??= fields.Integer("max_tokens", 1, int.MaxValue);
        int logprobs = ReadLogprobs(fields);
        bool includeReasoning = fields.Flag("include_reasoning", true);
        if (!fields.Flag("separate_reasoning", true))
            fields.Fail(ApiError.UnsupportedValue("separate_reasoning", "false", "Thoughts are never mixed into the content."));
        bool parallel = fields.Flag("parallel_tool_calls", true);
        sampling.AddTier(fields.OneOf("service_tier", "auto", "default", "flex", "fast", "scale", "priority"));
        ReadUnsupported(fields);

        PromptFields? prompt = PromptFields.Read(fields, model, onlyShown: false);
        if (prompt is null) return fields.Error;
        IReadOnlyList<string> tools = prompt.ToolNames;
        if (IsToolChoiceNone(fields, tools)) sampling.Banned.Add(model.Tokenizer.Special.ToolCallStart);
        if (fields.Error is { } error) return error;

        RenderedPrompt? rendered = prompt.Render(fields, model);
        if (rendered is null) return fields.Error;
        int[] tokens = rendered.Tokenize(model.Tokenizer, out int generationStart);
        if (tokens.Length >= model.MaxModelLength) return ApiError.ContextLength("messages", model.MaxModelLength, tokens.Length);
        int room = model.MaxModelLength - tokens.Length;
        int most = (int)Math.Min(maxTokens ?? room, room);
        if (sampling.MinTokens > most)
            return ApiError.IntegerTooBig("min_tokens", most.ToString(), sampling.MinTokens.ToString());

        request = new ChatRequest
        {
            Sampling = sampling,
            Prompt = tokens,
            GenerationStart = generationStart,
            Start = rendered.EndState,
            EnableThinking = prompt.EnableThinking,
            MaxTokens = most,
            Logprobs = logprobs,
            IncludeReasoning = includeReasoning,
            ParallelToolCalls = parallel,
            Metadata = fields.TryGet("metadata", out JsonElement metadata) ? metadata.Clone() : null,
            EchoServiceTier = fields.TryGet("service_tier", out _),
        };
        return null;
    }

    private static int ReadLogprobs(FieldReader fields)
    {
        bool wanted = fields.Flag("logprobs", false);
        long? top = fields.Integer("top_logprobs", 0, 20);
        if (top > 0 && !wanted) fields.Fail(ApiError.BadValue("top_logprobs", "it is only allowed when 'logprobs' is enabled."));
        return wanted ? (int)(top ?? 0) : -1;
    }

    /// <summary>What would change the answer and cannot be had is refused; what only concerns somebody else's service is not.</summary>
    private static void ReadUnsupported(FieldReader fields)
    {
        ReadResponseFormat(fields);
        if (fields.TryGetArray("modalities", out JsonElement modalities))
        {
            int i = 0;
            foreach (JsonElement item in modalities.EnumerateArray())
            {
                string path = $"modalities[{i++}]";
                if (item.ValueKind != JsonValueKind.String) fields.Fail(ApiError.WrongType(path, "a string", item));
                else if (item.GetString() is var name && name == "audio") fields.Fail(ApiError.UnsupportedValue("modalities", "'audio'"));
                else if (name != "text") fields.Fail(ApiError.Value(path, name!, "text"));
            }
        }
        if (fields.TryGet("audio", out _)) fields.Fail(ApiError.UnsupportedValue("audio", "speech"));
        if (fields.TryGet("web_search_options", out _)) fields.Fail(ApiError.UnsupportedValue("web_search_options", "web search"));
        if (fields.TryGetArray("functions", out JsonElement functions) && functions.GetArrayLength() > 0)
            fields.Fail(ApiError.UnsupportedParameter("functions", "Use 'tools' instead."));
        if (fields.TryGet("function_call", out JsonElement call) && !(call.ValueKind == JsonValueKind.String && call.GetString() is "none" or "auto"))
            fields.Fail(ApiError.UnsupportedParameter("function_call", "Use 'tool_choice' instead."));
        if (fields.Flag("echo", false)) fields.Fail(ApiError.UnsupportedParameter("echo"));
        if (fields.TryGetArray("documents", out JsonElement documents) && documents.GetArrayLength() > 0)
            fields.Fail(ApiError.UnsupportedParameter("documents"));
        if (fields.TryGetObject("metadata", out JsonElement metadata))
        {
            foreach (JsonProperty member in metadata.EnumerateObject())
            {
                if (member.Value.ValueKind != JsonValueKind.String)
                    fields.Fail(ApiError.WrongType($"metadata.{ApiError.Echo(member.Name)}", "a string", member.Value));
            }
        }
        fields.Text("safety_identifier");
        fields.Text("prompt_cache_key");
        fields.OneOf("verbosity", "low", "medium", "high");
        fields.Flag("store");
    }

    private static void ReadResponseFormat(FieldReader fields)
    {
        if (!fields.TryGetObject("response_format", out JsonElement format)) return;
        if (!format.TryGetProperty("type", out JsonElement type)) fields.Fail(ApiError.Missing("response_format.type"));
        else if (type.ValueKind != JsonValueKind.String) fields.Fail(ApiError.WrongType("response_format.type", "a string", type));
        else if (type.GetString() is "json_object" or "json_schema" or "structural_tag")
            fields.Fail(ApiError.UnsupportedValue("response_format", $"'{type.GetString()}'", "Only 'text' is supported."));
        else if (type.GetString() != "text")
            fields.Fail(ApiError.Value("response_format.type", type.GetString()!, "json_object", "json_schema", "text"));
    }

    /// <summary>Whether calls are ruled out. What needs a grammar is refused.</summary>
    private static bool IsToolChoiceNone(FieldReader fields, IReadOnlyList<string> tools)
    {
        if (!fields.TryGet("tool_choice", out JsonElement choice)) return false;
        const string needsGrammar = "Only 'none' and 'auto' are supported.";
        if (choice.ValueKind == JsonValueKind.String)
        {
            string text = choice.GetString()!;
            if (text is "none" or "auto") return text == "none";
            if (text != "required") fields.Fail(ApiError.Value("tool_choice", text, "none", "auto", "required"));
            else if (tools.Count == 0) fields.Fail(ApiError.BadValue("tool_choice", "it is only allowed when 'tools' are specified."));
            else fields.Fail(ApiError.UnsupportedValue("tool_choice", "'required'", needsGrammar));
            return false;
        }
        if (choice.ValueKind != JsonValueKind.Object)
        {
            fields.Fail(ApiError.WrongType("tool_choice", "one of a string or object", choice));
            return false;
        }
        if (!choice.TryGetProperty("type", out JsonElement type)) fields.Fail(ApiError.Missing("tool_choice.type"));
        else if (type.ValueKind != JsonValueKind.String) fields.Fail(ApiError.WrongType("tool_choice.type", "a string", type));
        else if (type.GetString() == "allowed_tools") ReadAllowedTools(fields, choice, tools);
        else if (type.GetString() != "function") fields.Fail(ApiError.Value("tool_choice.type", type.GetString()!, "function", "allowed_tools"));
        else if (!choice.TryGetProperty("function", out JsonElement function)) fields.Fail(ApiError.Missing("tool_choice.function"));
        else if (function.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType("tool_choice.function", "an object", function));
        else if (!function.TryGetProperty("name", out JsonElement name)) fields.Fail(ApiError.Missing("tool_choice.function.name"));
        else if (name.ValueKind != JsonValueKind.String) fields.Fail(ApiError.WrongType("tool_choice.function.name", "a string", name));
        else if (!tools.Contains(name.GetString()!)) fields.Fail(ApiError.BadValue("tool_choice.function.name", $"there is no tool named '{ApiError.Echo(name.GetString()!)}' in 'tools'."));
        else fields.Fail(ApiError.UnsupportedValue("tool_choice", "a named function", needsGrammar));
        return false;
    }

    /// <summary>Allowing every declared tool in mode auto is plain auto; anything narrower needs a grammar.</summary>
    private static void ReadAllowedTools(FieldReader fields, JsonElement choice, IReadOnlyList<string> tools)
    {
        // vLLM's and Responses' flat form {type, mode, tools} is read as well.
        JsonElement allowed = choice.TryGetProperty("allowed_tools", out JsonElement nested) ? nested : choice;
        if (allowed.ValueKind != JsonValueKind.Object)
        {
            fields.Fail(ApiError.WrongType("tool_choice.allowed_tools", "an object", allowed));
            return;
        }
        if (!allowed.TryGetProperty("tools", out JsonElement list) || list.ValueKind != JsonValueKind.Array)
        {
            fields.Fail(ApiError.Missing("tool_choice.allowed_tools.tools"));
            return;
        }
        HashSet<string> names = [];
        foreach (JsonElement tool in list.EnumerateArray())
        {
            JsonElement owner = tool.ValueKind == JsonValueKind.Object && tool.TryGetProperty("function", out JsonElement inner) ? inner : tool;
            if (owner.ValueKind == JsonValueKind.Object && owner.TryGetProperty("name", out JsonElement name) && name.ValueKind == JsonValueKind.String)
                names.Add(name.GetString()!);
        }
        bool isAuto = !allowed.TryGetProperty("mode", out JsonElement mode) || mode.ValueKind == JsonValueKind.String && mode.GetString() == "auto";
        if (!isAuto || !tools.All(names.Contains))
            fields.Fail(ApiError.UnsupportedValue("tool_choice", "'allowed_tools'", "Only mode 'auto' with all tools is supported."));
    }
}
