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
    private readonly ItemMembers _members;
    private ConversationTurn? _assistant;
    private bool _isReplay;

    public ResponseInput(FieldReader fields, ResponseStore store, string owner)
    {
        _fields = fields;
        _store = store;
        _owner = owner;
        _writer = new ResponseInputItems(_items);
        _members = new ItemMembers(fields);
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
        string? type = _members.Text(item, "type", at, isRequired: false);
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
        string? role = _members.Text(item, "role", at, isRequired: true);
        if (role is not (null or "user" or "assistant" or "system" or "developer"))
            _fields.Fail(ApiError.Value($"{at}.role", role, "assistant", "system", "developer", "user"));
        string? id = _members.Text(item, "id", at, isRequired: false);
        List<string> texts = _members.Texts(item, "content", at, role == "assistant");
        if (_fields.Error is not null) return;
        ConversationTurn turn = role == "assistant" ? Assistant(at) : Message(role!, at);
        foreach (string text in texts) turn.AddText(text);
        if (!_isReplay) _writer.Message(id, role!, texts);
    }

    private void ReadCall(JsonElement item, string at)
    {
        string? id = _members.Text(item, "id", at, isRequired: false);
        string? callId = _members.Text(item, "call_id", at, isRequired: true);
        string? name = _members.Text(item, "name", at, isRequired: true);
        string? arguments = _members.Text(item, "arguments", at, isRequired: true);
        string? status = _members.Text(item, "status", at, isRequired: false);
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
        string? id = _members.Text(item, "id", at, isRequired: false);
        string? callId = _members.Text(item, "call_id", at, isRequired: true);
        string text = string.Concat(_members.Texts(item, "output", at, isAssistant: false));
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
        string? id = _members.Text(item, "id", at, isRequired: false);
        string thought = _members.Parts(item, "content", at, "reasoning_text");
        string summary = _members.Parts(item, "summary", at, "summary_text");
        string? sealedThought = _members.Text(item, "encrypted_content", at, isRequired: false);
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
        string? id = _members.Text(item, "id", at, isRequired: true);
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
}
