using System.Text.Json;

namespace GemmaServer;

/// <summary>Makes an <see cref="OllamaRequest"/> from the body of <c>POST /api/chat</c> or <c>/api/generate</c>, by way of a chat body.</summary>
internal static class OllamaRequestReader
{
    private static readonly HashSet<string> Known = new(StringComparer.Ordinal)
    {
        "model", "messages", "tools", "format", "options", "stream", "keep_alive", "think", "truncate", "shift", "logprobs", "top_logprobs",
        "prompt", "suffix", "images", "system", "template", "context", "raw",
    };

    /// <summary>What <c>options</c> may hold that has a meaning here, and what chat requests call it. The others tune Ollama's own engine.</summary>
    private static readonly (string Name, string Chat)[] Options =
    [
        ("temperature", "temperature"), ("top_k", "top_k"), ("top_p", "top_p"), ("min_p", "min_p"), ("repeat_penalty", "repetition_penalty"),
        ("presence_penalty", "presence_penalty"), ("frequency_penalty", "frequency_penalty"), ("stop", "stop"),
    ];

    public static ApiError? ReadChat(JsonElement root, ServedModel model, ServerOptions options, out OllamaRequest? request)
    {
        request = null;
        FieldReader fields = new(root);
        using ChatTranslation chat = new();
        string name = Begin(fields, chat, model, options);
        bool isLoad = !fields.TryGetArray("messages", out JsonElement messages) || messages.GetArrayLength() == 0;
        if (fields.Error is not null || isLoad) return Load(fields, name, isGenerate: false, out request);

        WriteThink(fields, chat);
        WriteFormat(fields, chat);
        if (fields.TryGetArray("tools", out JsonElement tools) && tools.GetArrayLength() > 0) Copy(chat, "tools", tools);
        new OllamaMessages(fields, chat).Write(messages);
        if (fields.Error is { } error) return error;
        error = chat.Read(model, options, out ChatRequest? asked);
        if (error is null) request = new OllamaRequest(name, IsGenerate: false, Chat: asked);
        return error;
    }

    public static ApiError? ReadGenerate(JsonElement root, ServedModel model, ServerOptions options, out OllamaRequest? request)
    {
        request = null;
        FieldReader fields = new(root);
        using ChatTranslation chat = new();
        string name = Begin(fields, chat, model, options);
        string prompt = fields.Text("prompt") ?? "";
        string system = fields.Text("system") ?? "";
        bool isRaw = fields.Flag("raw", false);
        if (fields.Text("suffix") is { Length: > 0 }) fields.Fail(ApiError.UnsupportedParameter("suffix"));
        if (fields.Text("template") is { Length: > 0 }) fields.Fail(ApiError.UnsupportedParameter("template", "The prompt format is built in."));
        OllamaMessages.RefuseImages(fields, root, "images");
        if (fields.Error is not null || prompt.Length == 0) return Load(fields, name, isGenerate: true, out request);

        WriteFormat(fields, chat);
        return isRaw ? ReadRaw(chat, prompt, name, model, options, out request) : ReadPrompt(fields, chat, prompt, system, name, model, options, out request);
    }

    private static ApiError? ReadRaw(ChatTranslation chat, string prompt, string name, ServedModel model, ServerOptions options, out OllamaRequest? request)
    {
        chat.Json.WriteString("prompt"u8, prompt);
        ApiError? error = chat.Read(CompletionRequestReader.Read, model, options, out CompletionRequest? asked);
        asked?.Constraint?.Rename = chat.Rename;
        request = error is null ? new OllamaRequest(name, IsGenerate: true, Raw: asked) : null;
        return error;
    }

    private static ApiError? ReadPrompt(
        FieldReader fields, ChatTranslation chat, string prompt, string system, string name, ServedModel model, ServerOptions options, out OllamaRequest? request)
    {
        request = null;
        WriteThink(fields, chat);
        chat.Json.WriteStartArray("messages"u8);
        if (system.Length > 0) OllamaMessages.WriteText(chat.Json, "system", system);
        OllamaMessages.WriteText(chat.Json, "user", prompt);
        chat.Json.WriteEndArray();
        chat.Map("messages", "prompt");
        if (fields.Error is { } error) return error;
        error = chat.Read(model, options, out ChatRequest? asked);
        if (error is null) request = new OllamaRequest(name, IsGenerate: true, Chat: asked);
        return error;
    }

    /// <summary>Reads and writes what both kinds have; gives the model's name as the client has it.</summary>
    private static string Begin(FieldReader fields, ChatTranslation chat, ServedModel model, ServerOptions options)
    {
        if (options.StrictFields) fields.RejectUnknown(Known);
        string name = fields.Text("model") ?? "";
        if (name.Length == 0) fields.Fail(ApiError.Missing("model"));
        else if (OllamaNames.Served(model, name) is { } served) chat.Json.WriteString("model"u8, served);
        else fields.Fail(ApiError.UnknownModel(name));
        chat.Json.WriteBoolean("stream"u8, fields.Flag("stream", true));
        if (fields.Flag("logprobs", false)) fields.Fail(ApiError.UnsupportedParameter("logprobs", "Use /v1/chat/completions for them."));
        WriteOptions(fields, chat, model);
        return name;
    }

    private static ApiError? Load(FieldReader fields, string name, bool isGenerate, out OllamaRequest? request)
    {
        request = fields.Error is null ? new OllamaRequest(name, isGenerate) : null;
        return fields.Error;
    }

    private static void WriteOptions(FieldReader fields, ChatTranslation chat, ServedModel model)
    {
        long most = model.MaxModelLength;       // as Ollama's default: until the model ends or the context does
        if (fields.TryGetObject("options", out JsonElement values))
        {
            foreach ((string name, string chatName) in Options)
            {
                if (!values.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null) continue;
                chat.Map(chatName, $"options.{name}");
                Copy(chat, chatName, value);
            }
            // Negative numbers are Ollama's "no limit" and "any seed".
            if (Number("num_predict", -2, int.MaxValue) is > 0 and { } limit) most = limit;
            if (Number("seed", long.MinValue, long.MaxValue) is >= 0 and { } seed) chat.Json.WriteNumber("seed"u8, seed);
            Number("num_ctx", 0, int.MaxValue);
        }
        chat.Json.WriteNumber("max_tokens"u8, most);

        long? Number(string name, long min, long max) => values.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null
            ? fields.Integer($"options.{name}", value, min, max) : null;
    }

    private static void WriteThink(FieldReader fields, ChatTranslation chat)
    {
        bool isOn = false;
        if (fields.TryGet("think", out JsonElement think))
        {
            isOn = think.ValueKind is JsonValueKind.True or JsonValueKind.String;
            if (think.ValueKind is not (JsonValueKind.True or JsonValueKind.False or JsonValueKind.String)) fields.Fail(ApiError.WrongType("think", "one of a boolean or string", think));
            else if (think.ValueKind == JsonValueKind.String && fields.OneOf("think", "low", "medium", "high", "max") is { } effort)
                chat.Json.WriteString("reasoning_effort"u8, effort);
        }
        chat.Json.WriteStartObject("chat_template_kwargs"u8);
        chat.Json.WriteBoolean("enable_thinking"u8, isOn);
        chat.Json.WriteEndObject();
    }

    private static void WriteFormat(FieldReader fields, ChatTranslation chat)
    {
        if (!fields.TryGet("format", out JsonElement format)) return;
        if (format.ValueKind == JsonValueKind.String && format.GetString() is "") return;
        Utf8JsonWriter json = chat.Json;
        if (format.ValueKind == JsonValueKind.String && format.GetString() == "json")
        {
            chat.Map("response_format", "format");
            json.WriteStartObject("response_format"u8);
            json.WriteString("type"u8, "json_object"u8);
            json.WriteEndObject();
        }
        else if (format.ValueKind != JsonValueKind.Object) fields.Fail(ApiError.BadValue("format", "it must be 'json' or a JSON schema."));
        else
        {
            chat.Map("json_schema", "format");
            Copy(chat, "json_schema", format);
        }
    }

    private static void Copy(ChatTranslation chat, string name, JsonElement value)
    {
        chat.Json.WritePropertyName(name);
        value.WriteTo(chat.Json);
    }
}
