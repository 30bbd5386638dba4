using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Makes a <see cref="ChatRequest"/> from the body of <c>POST /v1/chat/completions</c>, or says what is wrong with it.</summary>
internal static class ChatRequestReader
{
    private static readonly HashSet<string> Known = new(StringComparer.Ordinal)
    {
        "max_completion_tokens", "top_logprobs", "tool_choice", "parallel_tool_calls", "modalities", "audio", "web_search_options", "store", "service_tier", "safety_identifier",
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
        AnswerFormat? format = AnswerFormatReader.Read(fields);
        sampling.AddTier(fields.OneOf("service_tier", "auto", "default", "flex", "fast", "scale", "priority"));
        ReadUnsupported(fields);

        PromptFields? prompt = PromptFields.Read(fields, model, onlyShown: false);
        if (prompt is null) return fields.Error;
        ToolFields tools = ToolFields.Read(fields, prompt.ToolNames);
        if (tools.Mode == CallMode.None && fields.TryGet("tool_choice", out _)) sampling.Banned.Add(model.Tokenizer.Special.ToolCallStart);
        int[]? prediction = ReadPrediction(fields, model);
        if (fields.Error is { } error) return error;

        RenderedPrompt? rendered = prompt.Render(fields, model);
        if (rendered is null) return fields.Error;
        int[] tokens = rendered.Tokenize(model.Tokenizer, out int generationStart);
        if (tokens.Length >= model.MaxModelLength) return ApiError.ContextLength("messages", model.MaxModelLength, tokens.Length);
        int room = model.MaxModelLength - tokens.Length;
        int most = (int)Math.Min(maxTokens ?? room, room);
        if (sampling.MinTokens > most)
            return ApiError.IntegerTooBig("min_tokens", most.ToString(), sampling.MinTokens.ToString());

        bool mayThink = prompt.EnableThinking && rendered.EndState == PromptState.Content && !prompt.Prompt.ContinueFinalMessage;
        AnswerConstraint? constraint = AnswerConstraint.OfChat(fields, format, tools, rendered.EndState, mayThink, model);
        if (fields.Error is not null) return fields.Error;
        request = new ChatRequest
        {
            Sampling = sampling,
            Prompt = tokens,
            GenerationStart = generationStart,
            Start = rendered.EndState,
            EnableThinking = prompt.EnableThinking,
            MaxTokens = most,
            Logprobs = logprobs,
            IncludeReasoning = prompt.Reasoning.Include,
            ThoughtBudget = prompt.EnableThinking || rendered.EndState == PromptState.ThoughtOpen ? prompt.Reasoning.Budget : null,
            ParallelToolCalls = tools.Parallel,
            Constraint = constraint,
            Prediction = prediction,
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
        if (fields.TryGet("truncate_prompt_tokens", out _)) fields.Fail(ApiError.UnsupportedParameter("truncate_prompt_tokens", "Leave out messages instead."));
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

    /// <summary><c>{type: content, content}</c>: what the answer is expected to be, as tokens to guess with.</summary>
    private static int[]? ReadPrediction(FieldReader fields, ServedModel model)
    {
        if (!fields.TryGetObject("prediction", out JsonElement value)) return null;
        FieldReader prediction = fields.Into("prediction", value);
        if (!prediction.TryGet("type", out _)) prediction.Fail(ApiError.Missing("prediction.type"));
        prediction.OneOf("type", "content");
        if (!prediction.TryGet("content", out JsonElement content)) prediction.Fail(ApiError.Missing("prediction.content"));
        string text = prediction.Error is null ? PredictedText(prediction, content) : "";
        fields.Take(prediction);
        if (fields.Error is not null || text.Length == 0) return null;

        // What lies behind the context's end cannot come true.
        int longest = (int)Math.Min(text.Length, (long)model.MaxModelLength * model.LongestToken);
        int[] tokens = model.Tokenizer.Encode(text[..longest], parseSpecial: false);
        return tokens.Length <= model.MaxModelLength ? tokens : tokens[..model.MaxModelLength];
    }

    private static string PredictedText(FieldReader fields, JsonElement content)
    {
        if (content.ValueKind == JsonValueKind.String) return content.GetString()!;
        if (content.ValueKind != JsonValueKind.Array)
        {
            fields.Fail(ApiError.WrongType("prediction.content", "one of a string or array of objects", content));
            return "";
        }
        System.Text.StringBuilder text = new();
        int i = 0;
        foreach (JsonElement part in content.EnumerateArray())
        {
            string path = $"prediction.content[{i++}]";
            if (part.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType(path, "an object", part));
            else if (!part.TryGetProperty("text", out JsonElement piece)) fields.Fail(ApiError.Missing($"{path}.text"));
            else if (piece.ValueKind != JsonValueKind.String) fields.Fail(ApiError.WrongType($"{path}.text", "a string", piece));
            else text.Append(piece.GetString());
        }
        return text.ToString();
    }
}
