using System.Text.Json;

namespace GemmaServer;

/// <summary>A Messages request: the chat request that it comes to, and what its answer needs beside that.</summary>
/// <param name="Chat">Checked and rendered.</param>
/// <param name="AskedTokens">Its <c>max_tokens</c>, which the context may have cut.</param>
internal sealed record MessagesRequest(ChatRequest Chat, long AskedTokens);

/// <summary>The prompt tokens of a Messages request.</summary>
internal sealed record MessagesCount(int InputTokens);

/// <summary>Makes a <see cref="MessagesRequest"/> from the body of <c>POST /v1/messages</c>, by way of a chat body.</summary>
internal static class MessagesRequestReader
{
    private static readonly HashSet<string> Known = new(StringComparer.Ordinal)
    {
        "model", "max_tokens", "messages", "system", "stop_sequences", "stream", "temperature", "top_k", "top_p", "tools", "tool_choice", "thinking",
        "output_config", "output_format", "metadata", "service_tier", "cache_control", "container", "inference_geo", "mcp_servers", "context_management", "betas",
    };

    public static ApiError? Read(JsonElement root, ServedModel model, ServerOptions options, out MessagesRequest? request)
    {
        request = null;
        FieldReader fields = new(root);
        using ChatTranslation chat = new();
        long? maxTokens = fields.Integer("max_tokens", 1, int.MaxValue);
        if (Translate(fields, chat, options) is { } error) return error;
        if (maxTokens is not { } most) return ApiError.Missing("max_tokens");
        chat.Json.WriteNumber("max_tokens"u8, most);
        error = chat.Read(model, options, out ChatRequest? asked);
        if (error is null) request = new MessagesRequest(asked!, most);
        return error;
    }

    /// <summary>Reads the body of <c>POST /v1/messages/count_tokens</c>: the prompt that the same request would have.</summary>
    public static ApiError? ReadCount(JsonElement root, ServedModel model, ServerOptions options, out MessagesCount? count)
    {
        count = null;
        using ChatTranslation chat = new();
        int tokens = 0;
        if ((Translate(new FieldReader(root), chat, options) ?? chat.Count(model, out tokens)) is { } error) return error;
        count = new MessagesCount(tokens);
        return null;
    }

    /// <summary>Writes the chat body, all but the number of tokens.</summary>
    internal static ApiError? Translate(FieldReader fields, ChatTranslation chat, ServerOptions options)
    {
        if (options.StrictFields) fields.RejectUnknown(Known);
        if (fields.Text("model") is { } name) chat.Json.WriteString("model"u8, name);
        else fields.Fail(ApiError.Missing("model"));
        fields.Number("temperature", 0, 1);
        Copy(fields, chat, "temperature");
        fields.Integer("top_k", 0, int.MaxValue);
        Copy(fields, chat, "top_k");
        Copy(fields, chat, "top_p");
        Copy(fields, chat, "stream");
        fields.TryGetArray("stop_sequences", out _);
        Copy(fields, chat, "stop_sequences", "stop");
        WriteThinking(fields, chat);
        WriteFormat(fields, chat);
        ReadOthers(fields, chat);
        MessagesTools.Write(fields, chat);
        new MessagesConversation(fields, chat).Write();
        return fields.Error;
    }

    private static void WriteThinking(FieldReader fields, ChatTranslation chat)
    {
        bool isOn = false;
        if (fields.TryGetObject("thinking", out JsonElement thinking))
        {
            string? type = MessagesBlock.Text(fields, thinking, "thinking", "type");
            if (type is not (null or "enabled" or "disabled" or "adaptive" or "between_tools"))
                fields.Fail(ApiError.Value("thinking.type", type, "enabled", "disabled", "adaptive", "between_tools"));
            isOn = type is "enabled" or "adaptive" or "between_tools";
            if (type == "enabled" && thinking.TryGetProperty("budget_tokens", out JsonElement budget) && fields.Integer("thinking.budget_tokens", budget, 1, int.MaxValue) is { } tokens)
                chat.Json.WriteNumber("thinking_token_budget"u8, tokens);
            if (thinking.TryGetProperty("display", out JsonElement display) && display.ValueKind == JsonValueKind.String && display.GetString() == "omitted")
                chat.Json.WriteBoolean("include_reasoning"u8, false);
        }
        chat.Json.WriteStartObject("chat_template_kwargs"u8);
        chat.Json.WriteBoolean("enable_thinking"u8, isOn);
        chat.Json.WriteEndObject();
        // How hard to try does not decide whether to think aloud.
        if (Config(fields, "effort") is not { } effort) return;
        if (effort.ValueKind != JsonValueKind.String) fields.Fail(ApiError.WrongType("output_config.effort", "a string", effort));
        else if (effort.GetString() is var text && text is not ("low" or "medium" or "high" or "xhigh" or "max"))
            fields.Fail(ApiError.Value("output_config.effort", text!, "low", "medium", "high", "xhigh", "max"));
        else if (isOn) chat.Json.WriteString("reasoning_effort"u8, text);
    }

    private static void WriteFormat(FieldReader fields, ChatTranslation chat)
    {
        string at = "output_config.format";
        if (Config(fields, "format") is not { } format)
        {
            at = "output_format";       // its first name
            if (!fields.TryGet(at, out format)) return;
        }
        if (format.ValueKind != JsonValueKind.Object)
        {
            fields.Fail(ApiError.WrongType(at, "an object", format));
            return;
        }
        if (MessagesBlock.Text(fields, format, at, "type") is not { } type) return;
        if (type != "json_schema") fields.Fail(ApiError.Value($"{at}.type", type, "json_schema"));
        else if (!format.TryGetProperty("schema", out JsonElement schema)) fields.Fail(ApiError.Missing($"{at}.schema"));
        else if (schema.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.WrongType($"{at}.schema", "an object", schema));
        else
        {
            // The plain schema: an OpenAI format would want a name, and speak of it.
            chat.Map("json_schema", $"{at}.schema");
            chat.Json.WritePropertyName("json_schema"u8);
            schema.WriteTo(chat.Json);
        }
    }

    private static void ReadOthers(FieldReader fields, ChatTranslation chat)
    {
        if (fields.TryGetObject("metadata", out JsonElement metadata) && metadata.TryGetProperty("user_id", out JsonElement user) && user.ValueKind != JsonValueKind.Null)
        {
            chat.Map("user", "metadata.user_id");
            chat.Json.WritePropertyName("user"u8);
            user.WriteTo(chat.Json);
        }
        fields.OneOf("service_tier", "auto", "standard_only");
        if (fields.TryGet("container", out _)) fields.Fail(ApiError.UnsupportedParameter("container"));
        if (fields.TryGetArray("mcp_servers", out JsonElement servers) && servers.GetArrayLength() > 0) fields.Fail(ApiError.UnsupportedParameter("mcp_servers"));
    }

    private static JsonElement? Config(FieldReader fields, string name) =>
        fields.TryGetObject("output_config", out JsonElement config) && config.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : null;

    private static void Copy(FieldReader fields, ChatTranslation chat, string name, string? chatName = null)
    {
        if (!fields.TryGet(name, out JsonElement value)) return;
        if (chatName is not null) chat.Map(chatName, name);
        chat.Json.WritePropertyName(chatName ?? name);
        value.WriteTo(chat.Json);
    }
}
