using System.Text;
using System.Text.Json;

namespace GemmaServer;

/// <summary>
/// What becomes one chat message, with the results of its calls behind it: a message of the user or the system, or all that the
/// assistant thought, said and called before somebody else spoke.
/// </summary>
/// <param name="role">system, developer, user or assistant.</param>
/// <param name="path">Where it came from, for errors: <c>input[3]</c>.</param>
internal sealed class ConversationTurn(string role, string path)
{
    private readonly List<string> _texts = [];
    private readonly StringBuilder _reasoning = new();
    private readonly List<Call> _calls = [];
    private readonly List<(string CallId, string Text)> _results = [];

    /// <summary>A call, and whether its arguments were cut off before they were complete.</summary>
    private sealed record Call(string CallId, string Name, string Arguments, string Path, bool IsCut);

    public string Role => role;

    /// <summary>Chat messages that <see cref="Write"/> writes.</summary>
    public int Messages => 1 + _results.Count;

    /// <summary>Whether nothing is left of it.</summary>
    public bool IsEmpty => _texts.Count == 0 && _reasoning.Length == 0 && _calls.Count == 0;

    public void AddText(string text) => _texts.Add(text);

    public void AddReasoning(string text) => _reasoning.Append(text);

    public void AddCall(string callId, string name, string arguments, string callPath, bool isCut) => _calls.Add(new(callId, name, arguments, callPath, isCut));

    public void AddResult(string callId, string text) => _results.Add((callId, text));

    /// <summary>Takes out a call that was cut off and has no result; false when it was a whole one.</summary>
    public bool DropCut(string callId) => _calls.RemoveAll(c => c.CallId == callId && c.IsCut) > 0;

    /// <summary>Writes the chat messages, the first of which is <c>messages[index]</c>.</summary>
    public void Write(ChatTranslation chat, int index)
    {
        string at = $"messages[{index}]";
        chat.Map(at, path);
        Utf8JsonWriter json = chat.Json;
        json.WriteStartObject();
        json.WriteString("role"u8, role);
        WriteContent(json);
        if (_reasoning.Length > 0) json.WriteString("reasoning_content"u8, _reasoning.ToString());
        if (_calls.Count > 0) WriteCalls(chat, at);
        json.WriteEndObject();
        foreach ((string callId, string text) in _results)
        {
            json.WriteStartObject();
            json.WriteString("role"u8, "tool"u8);
            json.WriteString("tool_call_id"u8, callId);
            json.WriteString("content"u8, text);
            json.WriteEndObject();
        }
    }

    private void WriteContent(Utf8JsonWriter json)
    {
        // The assistant's texts are pieces of one; other parts stand by themselves.
        if (role == "assistant" || _texts.Count == 1)
        {
            if (_texts.Count > 0) json.WriteString("content"u8, string.Concat(_texts));
            else json.WriteNull("content"u8);
            return;
        }
        json.WriteStartArray("content"u8);
        foreach (string text in _texts)
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "text"u8);
            json.WriteString("text"u8, text);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private void WriteCalls(ChatTranslation chat, string at)
    {
        Utf8JsonWriter json = chat.Json;
        json.WriteStartArray("tool_calls"u8);
        for (int i = 0; i < _calls.Count; i++)
        {
            chat.Map($"{at}.tool_calls[{i}].function", _calls[i].Path);
            json.WriteStartObject();
            json.WriteString("id"u8, _calls[i].CallId);
            json.WriteString("type"u8, "function"u8);
            json.WriteStartObject("function"u8);
            json.WriteString("name"u8, _calls[i].Name);
            json.WriteString("arguments"u8, _calls[i].Arguments);
            json.WriteEndObject();
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }
}
