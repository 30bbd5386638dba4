using System.Buffers;
using System.Text.Json;

namespace GemmaServer;

/// <summary>
/// Reads input items into the turns of a conversation: what was stored before, then what the request brings. Keeps the request's
/// own items as they are listed and stored, each with an id. Mistakes stay in the field reader.
/// </summary>
internal sealed class ResponseInput
{
    private readonly FieldReader _fields;
    private readonly ResponseStore _store;
    private readonly string _owner;
    private readonly List<ConversationTurn> _turns = [];
    private readonly Dictionary<string, ConversationTurn> _openCalls = new(StringComparer.Ordinal);
    private readonly ArrayBufferWriter<byte> _items = new(1024);
    private readonly ResponseInputItems _writer;
    private ConversationTurn? _assistant;
    private bool _isReplay;

    public ResponseInput(FieldReader fields, ResponseStore store, string owner)
    {
        _fields = fields;
        _store = store;
        _owner = owner;
        _writer = new ResponseInputItems(_items);
    }

    /// <summary>The conversation, oldest first.</summary>
    public IReadOnlyList<ConversationTurn> Turns => _turns;

    /// <summary>The request's own items, a JSON array; complete once <see cref="Read"/> is done.</summary>
    public ReadOnlyMemory<byte> Items => _items.WrittenMemory;

    /// <summary>Reads instructions, the stored conversation and the input.</summary>
    public void Read(string? instructions, string? previousId)
    {
        // Instructions are this request's alone: those of earlier responses are not repeated.
        if (!string.IsNullOrEmpty(instructions)) Message("system", "instructions").AddText(instructions);
        if (previousId is not null) Replay(previousId);
        if (_fields.Error is not null) return;
        if (!_fields.TryGet("input", out JsonElement input)) _fields.Fail(ApiError.Missing("input"));
        else if (input.ValueKind == JsonValueKind.String) Add("user", input.GetString()!, "input");
        else if (input.ValueKind != JsonValueKind.Array) _fields.Fail(ApiError.WrongType("input", "one of a string or array of objects", input));
        else if (input.GetArrayLength() == 0 && previousId is null) _fields.Fail(ApiError.EmptyArray("input"));
        else
        {
            int i = 0;
            foreach (JsonElement item in input.EnumerateArray()) ReadItem(item, $"input[{i++}]");
        }
        CheckCalls();
        _turns.RemoveAll(static turn => turn is { Role: "assistant", IsEmpty: true });
        _writer.Close();
    }

    private void Replay(string previousId)
    {
        if (!_store.IsOn)
        {
            _fields.Fail(ApiError.UnsupportedParameter("previous_response_id", "This server stores no responses: send the whole conversation as 'input'."));
            return;
        }
        (IReadOnlyList<StoredResponse> chain, string? missing) = _store.FindChain(previousId, _owner);
        if (missing is not null) _fields.Fail(ApiError.PreviousResponseNotFound(missing));
        _isReplay = true;
        foreach (StoredResponse response in chain)
        {
            foreach (JsonElement item in response.Items()) ReadItem(item, "previous_response_id");
        }
        _isReplay = false;
    }

    private void ReadItem(JsonElement item, string at)
    {
        if (_fields.Error is not null) return;
        if (item.ValueKind != JsonValueKind.Object)
        {
            _fields.Fail(ApiError.WrongType(at, "an object", item));
            return;
        }
        string? type = Text(item, "type", at, isRequired: false);
        // Messages and references may leave their type out.
        type ??= item.TryGetProperty("role", out _) ? "message" : item.TryGetProperty("id", out _) ? "item_reference" : null;
        switch (type)
        {
            case "message":
                ReadMessage(item, at);
                break;
            case "function_call":
                ReadCall(item, at);
                break;
            case "function_call_output":
                ReadResult(item, at);
                break;
            case "reasoning":
                ReadReasoning(item, at);
                break;
            case "item_reference":
                ReadReference(item, at);
                break;
            case null:
                _fields.Fail(ApiError.Missing($"{at}.type"));
                break;
            default:
                _fields.Fail(ResponseTools.IsHostedItem(type)
                    ? ApiError.UnsupportedValue($"{at}.type", $"'{type}'", "There are no tools on the server's side.")
                    : ApiError.Value($"{at}.type", type, "message", "function_call", "function_call_output", "reasoning", "item_reference"));
                break;
        }
    }

    private void ReadMessage(JsonElement item, string at)
    {
        string? role = Text(item, "role", at, isRequired: true);
        if (role is not (null or "user" or "assistant" or "system" or "developer"))
            _fields.Fail(ApiError.Value($"{at}.role", role, "assistant", "system", "developer", "user"));
        string? id = Text(item, "id", at, isRequired: false);
        List<string> texts = ReadTexts(item, "content", at, role == "assistant");
        if (_fields.Error is not null) return;
        ConversationTurn turn = role == "assistant" ? Assistant(at) : Message(role!, at);
        foreach (string text in texts) turn.AddText(text);
        if (!_isReplay) _writer.Message(id, role!, texts);
    }

    private void ReadCall(JsonElement item, string at)
    {
        string? id = Text(item, "id", at, isRequired: false);
        string? callId = Text(item, "call_id", at, isRequired: true);
        string? name = Text(item, "name", at, isRequired: true);
        string? arguments = Text(item, "arguments", at, isRequired: true);
        string? status = Text(item, "status", at, isRequired: false);
        if (_fields.Error is not null) return;
        ConversationTurn turn = Assistant(at);
        if (!_openCalls.TryAdd(callId!, turn))
        {
            _fields.Fail(ApiError.BadValue($"{at}.call_id", $"there is another call '{ApiError.Echo(callId!)}' without an output before."));
            return;
        }
        bool isCut = status == "incomplete";
        turn.AddCall(callId!, name!, arguments!, at, isCut);
        if (!_isReplay) _writer.Call(id, callId!, name!, arguments!, isCut);
    }

    private void ReadResult(JsonElement item, string at)
    {
        string? id = Text(item, "id", at, isRequired: false);
        string? callId = Text(item, "call_id", at, isRequired: true);
        string text = string.Concat(ReadTexts(item, "output", at, isAssistant: false));
        if (_fields.Error is not null) return;
        // A result belongs to its call, wherever clients put it.
        if (!_openCalls.Remove(callId!, out ConversationTurn? turn))
        {
            _fields.Fail(ApiError.NoToolCall(callId!));
            return;
        }
        turn.AddResult(callId!, text);
        _assistant = null;
        if (!_isReplay) _writer.Result(id, callId!, text);
    }

    private void ReadReasoning(JsonElement item, string at)
    {
        string? id = Text(item, "id", at, isRequired: false);
        string thought = Concat(item, "content", at, "reasoning_text");
        string summary = Concat(item, "summary", at, "summary_text");
        string? sealedThought = Text(item, "encrypted_content", at, isRequired: false);
        if (_fields.Error is not null) return;
        if (sealedThought is not null)
        {
            if (SealedThought.Open(sealedThought) is not { } opened)
            {
                _fields.Fail(ApiError.BadEncryptedContent($"{at}.encrypted_content"));
                return;
            }
            thought = opened;
        }
        // Somebody else's model may have left no more than a summary.
        Assistant(at).AddReasoning(thought.Length > 0 ? thought : summary);
        if (!_isReplay) _writer.Reasoning(id, summary, thought, sealedThought);
    }

    private void ReadReference(JsonElement item, string at)
    {
        string? id = Text(item, "id", at, isRequired: true);
        if (id is null) return;
        if (_store.FindItem(id, _owner) is { } response)
        {
            foreach (JsonElement stored in response.Items())
            {
                if (!stored.GetProperty("id").ValueEquals(id)) continue;
                ReadItem(stored, at);
                return;
            }
        }
        _fields.Fail(ApiError.ItemNotFound(id));
    }

    /// <summary>A string, or an array of parts of text.</summary>
    private List<string> ReadTexts(JsonElement item, string name, string at, bool isAssistant)
    {
        at = $"{at}.{name}";
        if (!item.TryGetProperty(name, out JsonElement content))
        {
            _fields.Fail(ApiError.Missing(at));
            return [];
        }
        if (content.ValueKind == JsonValueKind.String) return [content.GetString()!];
        if (content.ValueKind != JsonValueKind.Array)
        {
            _fields.Fail(ApiError.WrongType(at, "one of a string or array of objects", content));
            return [];
        }
        List<string> texts = [];
        int i = 0;
        foreach (JsonElement part in content.EnumerateArray())
        {
            if (ReadPart(part, $"{at}[{i++}]", isAssistant) is { } text) texts.Add(text);
        }
        return texts;
    }

    private string? ReadPart(JsonElement part, string at, bool isAssistant)
    {
        if (part.ValueKind != JsonValueKind.Object) _fields.Fail(ApiError.WrongType(at, "an object", part));
        if (_fields.Error is not null || Text(part, "type", at, isRequired: true) is not { } type) return null;
        switch (type)
        {
            case "input_text" or "output_text" or "text":
                return Text(part, "text", at, isRequired: true);
            case "refusal" when isAssistant:
                return Text(part, "refusal", at, isRequired: true);
            case "input_image" or "input_audio" or "input_file" or "input_video":
                _fields.Fail(ApiError.UnsupportedValue($"{at}.type", $"'{type}'"));
                return null;
            default:
                _fields.Fail(isAssistant
                    ? ApiError.Value($"{at}.type", type, "output_text", "refusal")
                    : ApiError.Value($"{at}.type", type, "input_text", "input_image", "input_audio", "input_file"));
                return null;
        }
    }

    /// <summary>The texts of a reasoning item's parts, which may be missing.</summary>
    private string Concat(JsonElement item, string name, string at, string type)
    {
        if (!item.TryGetProperty(name, out JsonElement parts) || parts.ValueKind == JsonValueKind.Null) return "";
        at = $"{at}.{name}";
        if (parts.ValueKind != JsonValueKind.Array)
        {
            _fields.Fail(ApiError.WrongType(at, "an array of objects", parts));
            return "";
        }
        string all = "";
        int i = 0;
        foreach (JsonElement part in parts.EnumerateArray())
        {
            string here = $"{at}[{i++}]";
            if (part.ValueKind != JsonValueKind.Object) _fields.Fail(ApiError.WrongType(here, "an object", part));
            if (_fields.Error is not null || Text(part, "type", here, isRequired: true) is not { } got) return "";
            if (got != type && got != "text") _fields.Fail(ApiError.Value($"{here}.type", got, type));
            all += Text(part, "text", here, isRequired: true);
        }
        return all;
    }

    private void CheckCalls()
    {
        foreach ((string callId, ConversationTurn turn) in _openCalls)
        {
            // A call that the token limit cut cannot have been answered, so it was none.
            if (!turn.DropCut(callId)) _fields.Fail(ApiError.NoToolOutput(callId));
        }
    }

    private void Add(string role, string text, string at)
    {
        Message(role, at).AddText(text);
        _writer.Message(null, role, [text]);
    }

    private ConversationTurn Message(string role, string at)
    {
        _assistant = null;
        ConversationTurn turn = new(role, at);
        _turns.Add(turn);
        return turn;
    }

    /// <summary>The assistant's turn: the one that it is in the middle of, or a new one.</summary>
    private ConversationTurn Assistant(string at)
    {
        if (_assistant is not null) return _assistant;
        _assistant = new ConversationTurn("assistant", at);
        _turns.Add(_assistant);
        return _assistant;
    }

    private string? Text(JsonElement owner, string name, string at, bool isRequired)
    {
        if (!owner.TryGetProperty(name, out JsonElement value) || !isRequired && value.ValueKind == JsonValueKind.Null)
        {
            if (isRequired) _fields.Fail(ApiError.Missing($"{at}.{name}"));
            return null;
        }
        if (value.ValueKind == JsonValueKind.String) return value.GetString();
        _fields.Fail(ApiError.WrongType($"{at}.{name}", "a string", value));
        return null;
    }
}
