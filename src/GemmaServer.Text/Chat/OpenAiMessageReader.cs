using System.Text;
using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>
/// Reads the <c>messages</c> and <c>tools</c> of an OpenAI chat request into what the renderer takes, or says what is wrong.
/// After this nothing in a conversation can make the renderer fail.
/// </summary>
/// <remarks>Source: spec/gemma4-chat.md, section 5 (mapping) and 8 (limits).</remarks>
public sealed class OpenAiMessageReader
{
    private const string Roles = "'system', 'assistant', 'user', 'function', 'tool', and 'developer'";

    private readonly List<ChatMessage> _messages = [];
    private readonly bool _allowMedia;
    private readonly StringBuilder _thinking = new();       // of the parts of the message that is being read
    private ChatRequestError? _error;

    private OpenAiMessageReader(bool allowMedia) => _allowMedia = allowMedia;

    /// <summary>Reads messages and tools.</summary>
    /// <param name="messages">The request's <c>messages</c>; <c>default</c> when it has none.</param>
    /// <param name="tools">The request's <c>tools</c>; <c>default</c> or JSON null when it has none.</param>
    /// <param name="conversation">What was read; null when there is an error.</param>
    /// <param name="allowMedia">Whether image, audio and video parts become placeholders; otherwise they are refused.</param>
    /// <returns>The first thing that is wrong; null when all is well.</returns>
    public static ChatRequestError? TryRead(JsonElement messages, JsonElement tools, out ChatConversation? conversation, bool allowMedia = false)
    {
        conversation = null;
        OpenAiMessageReader reader = new(allowMedia);
        if (!reader.ReadMessages(messages)) return reader._error;
        if (OpenAiToolReader.TryRead(tools, out IReadOnlyList<ChatValue> declared) is { } error) return error;
        conversation = new(reader._messages, declared);
        return null;
    }

    private bool ReadMessages(JsonElement messages)
    {
        if (messages.ValueKind is JsonValueKind.Undefined) return Fail(ChatRequestError.Missing("messages"));
        if (messages.ValueKind != JsonValueKind.Array) return Fail(ChatRequestError.Type("messages", "an array of objects", messages.ValueKind));
        if (messages.GetArrayLength() == 0)
            return Fail(new(400, "empty_array", "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.", "messages"));
        int i = 0;
        foreach (JsonElement message in messages.EnumerateArray())
            if (!ReadMessage(message, $"messages[{i++}]")) return false;
        _error = ToolTurns.Check(_messages);
        return _error is null;
    }

    private bool ReadMessage(JsonElement message, string at)
    {
        if (message.ValueKind != JsonValueKind.Object) return Fail(ChatRequestError.Type(at, "an object", message.ValueKind));
        if (!TryString(message, "role", at, isRequired: true, out string? role)) return false;
        if (role is not ("system" or "developer" or "user" or "assistant" or "tool" or "function"))
            return Fail(ChatRequestError.Value($"{at}.role", $"Invalid value: '{ChatRequestError.Shown(role!)}'. Supported values are: {Roles}."));

        // Roles are printed into the prompt: a later developer message speaks as system, a function's result is a tool's.
        string templateRole = role == "developer" && _messages.Count > 0 ? "system" : role == "function" ? "tool" : role!;
        if (!ReadContent(message, role!, at, out ChatValue? content)) return false;

        string? toolCallId = null, name = null, reasoning = null;
        List<ChatToolCall> calls = [];
        if (templateRole == "tool")
        {
            if (!TryString(message, "tool_call_id", at, isRequired: role == "tool", out toolCallId)) return false;
            if (!TryString(message, "name", at, isRequired: role == "function", out name)) return false;
        }
        if (role == "assistant")
        {
            if (!ReadReasoning(message, at, out reasoning)) return false;
            if (!ReadCalls(message, at, calls)) return false;
        }
        _messages.Add(new() { Role = templateRole, Content = content, ToolCalls = calls, ToolCallId = toolCallId, Name = name, Reasoning = reasoning });
        return true;
    }

    /// <summary>A thought has three names, and may be a part of the content as well.</summary>
    private bool ReadReasoning(JsonElement message, string at, out string? reasoning)
    {
        reasoning = null;
        foreach (string name in (ReadOnlySpan<string>)["reasoning", "reasoning_content", "thinking"])
        {
            if (string.IsNullOrEmpty(reasoning) && !TryString(message, name, at, isRequired: false, out reasoning)) return false;
        }
        if (string.IsNullOrEmpty(reasoning) && _thinking.Length > 0) reasoning = _thinking.ToString();
        return true;
    }

    private bool ReadContent(JsonElement message, string role, string at, out ChatValue? content)
    {
        content = null;
        _thinking.Clear();
        if (!message.TryGetProperty("content", out JsonElement element))
            return role == "assistant" || Fail(ChatRequestError.Missing($"{at}.content"));
        at += ".content";
        switch (element.ValueKind)
        {
            case JsonValueKind.Null:
                // A tool without a result says so in its value; elsewhere null is nothing.
                content = ChatValue.Null;
                return true;
            case JsonValueKind.String:
                content = ChatValue.String(JsonText.StringOf(element));
                return true;
            case JsonValueKind.Array:
                break;
            default:
                return Fail(ChatRequestError.Type(at, "one of a string or array of objects", element.ValueKind));
        }
        List<ChatValue> parts = new(element.GetArrayLength());
        int i = 0;
        foreach (JsonElement part in element.EnumerateArray())
        {
            if (!ReadPart(part, role, $"{at}[{i++}]", out ChatValue? value)) return false;
            if (value is not null) parts.Add(value);
        }
        content = ChatValue.List(parts);
        return true;
    }

    /// <summary>Reads a part; a thought is kept apart and leaves no value.</summary>
    private bool ReadPart(JsonElement part, string role, string at, out ChatValue? value)
    {
        value = null;
        if (part.ValueKind != JsonValueKind.Object) return Fail(ChatRequestError.Type(at, "an object", part.ValueKind));
        if (!TryString(part, "type", at, isRequired: true, out string? type)) return false;
        string? media = type switch { "image_url" => "image", "input_audio" => "audio", "video_url" => "video", _ => null };
        if (media is not null && role is not ("system" or "developer"))
        {
            if (!_allowMedia) return Fail(ChatRequestError.Unsupported($"{at}.type", type!));
            value = ChatValue.Map([new("type", ChatValue.String(media))]);
            return true;
        }
        if (type == "thinking" && role == "assistant")
        {
            if (!TryString(part, "thinking", at, isRequired: true, out string? thought)) return false;
            _thinking.Append(thought);
            return true;
        }
        if (type is not ("text" or "refusal"))
        {
            return Fail(ChatRequestError.Value($"{at}.type",
                $"Invalid value: '{ChatRequestError.Shown(type!)}'. Supported values are: 'text', 'image_url', 'input_audio', 'video_url', and 'refusal'."));
        }
        if (!TryString(part, type, at, isRequired: true, out string? text)) return false;
        value = ChatValue.Map([new("type", ChatValue.String("text")), new("text", ChatValue.String(text!))]);
        return true;
    }

    private bool ReadCalls(JsonElement message, string at, List<ChatToolCall> calls)
    {
        if (message.TryGetProperty("function_call", out JsonElement function) && function.ValueKind != JsonValueKind.Null)
            return ReadCall(null, function, $"{at}.function_call", calls);   // the form before tool_calls, answered by role function
        if (!message.TryGetProperty("tool_calls", out JsonElement list) || list.ValueKind == JsonValueKind.Null) return true;
        at += ".tool_calls";
        if (list.ValueKind != JsonValueKind.Array) return Fail(ChatRequestError.Type(at, "an array of objects", list.ValueKind));
        foreach (JsonElement call in list.EnumerateArray())
        {
            string here = $"{at}[{calls.Count}]";
            if (call.ValueKind != JsonValueKind.Object) return Fail(ChatRequestError.Type(here, "an object", call.ValueKind));
            if (!TryString(call, "id", here, isRequired: true, out string? id)) return false;
            if (!TryString(call, "type", here, isRequired: false, out string? type)) return false;
            if (type is not (null or "function")) return Fail(ChatRequestError.Value($"{here}.type", $"Invalid value: '{ChatRequestError.Shown(type)}'. Supported values are: 'function'."));
            if (!call.TryGetProperty("function", out function)) return Fail(ChatRequestError.Missing($"{here}.function"));
            if (!ReadCall(id, function, $"{here}.function", calls)) return false;
        }
        return true;
    }

    private bool ReadCall(string? id, JsonElement function, string at, List<ChatToolCall> calls)
    {
        if (function.ValueKind != JsonValueKind.Object) return Fail(ChatRequestError.Type(at, "an object", function.ValueKind));
        if (!TryString(function, "name", at, isRequired: true, out string? name)) return false;
        // Wider than for declarations: clients echo names that the model made up and the output parser let through.
        if (!ToolCallNames.IsValid(name)) return Fail(ChatRequestError.Value($"{at}.name", $"Invalid '{at}.name': '{ChatRequestError.Shown(name!)}' is not a function name."));
        if (!ReadArguments(function, $"{at}.arguments", out ChatValue? arguments)) return false;
        calls.Add(new(id, name!, arguments!));
        return true;
    }

    /// <summary>Arguments come as JSON text in OpenAI's form; an object itself is taken too. Nothing and blank mean no arguments.</summary>
    private bool ReadArguments(JsonElement function, string at, out ChatValue? arguments)
    {
        arguments = ChatValue.EmptyMap;
        if (!function.TryGetProperty("arguments", out JsonElement element) || element.ValueKind == JsonValueKind.Null) return true;
        if (element.ValueKind == JsonValueKind.Object) return Fit(ChatValue.TryFrom(element), at, out arguments);
        if (element.ValueKind != JsonValueKind.String) return Fail(ChatRequestError.Type(at, "a string", element.ValueKind));
        string json = PythonText.ReplaceLoneSurrogates(JsonText.StringOf(element));
        if (PythonText.Strip(json).Length == 0) return true;
        try
        {
            using JsonDocument document = JsonDocument.Parse(json, new() { MaxDepth = 1000 });
            if (document.RootElement.ValueKind == JsonValueKind.Object) return Fit(ChatValue.TryFrom(document.RootElement), at, out arguments);
        }
        catch (JsonException)
        {
            // Said below, without the client's text.
        }
        return Fail(ChatRequestError.Value(at, $"Invalid '{at}': expected a JSON object as text."));
    }

    private bool Fit(ChatValue? value, string at, out ChatValue? result)
    {
        result = value;
        return value is not null || Fail(ChatRequestError.Value(at, $"Invalid '{at}': nested deeper than {ChatValue.MaxDepth} levels."));
    }

    private bool TryString(JsonElement owner, string name, string at, bool isRequired, out string? value)
    {
        value = null;
        if (!owner.TryGetProperty(name, out JsonElement element) || (element.ValueKind == JsonValueKind.Null && !isRequired))
            return !isRequired || Fail(ChatRequestError.Missing($"{at}.{name}"));
        if (element.ValueKind != JsonValueKind.String) return Fail(ChatRequestError.Type($"{at}.{name}", "a string", element.ValueKind));
        value = JsonText.StringOf(element);
        return true;
    }

    private bool Fail(ChatRequestError error)
    {
        _error = error;
        return false;
    }
}

/// <summary>A request's messages and tools, checked.</summary>
/// <param name="Messages">At least one.</param>
/// <param name="Tools">Empty when there are none.</param>
public sealed record ChatConversation(IReadOnlyList<ChatMessage> Messages, IReadOnlyList<ChatValue> Tools);
