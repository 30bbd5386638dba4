using System.Buffers;
using System.Text.Json;

namespace GemmaServer;

/// <summary>Writes a request's input items in their full form, as <c>GET …/input_items</c> lists them.</summary>
internal sealed class ResponseInputItems
{
    private readonly Utf8JsonWriter _json;

    public ResponseInputItems(IBufferWriter<byte> items)
    {
        _json = new Utf8JsonWriter(items, JsonStyle.Writer);
        _json.WriteStartArray();
    }

    public void Message(string? id, string role, IReadOnlyList<string> texts)
    {
        Begin(id, "msg_", "message"u8);
        _json.WriteString("role"u8, role);
        _json.WriteStartArray("content"u8);
        foreach (string text in texts)
        {
            if (role == "assistant") OutputItem.WriteText(_json, text, null, []);
            else WritePart("input_text"u8, text);
        }
        _json.WriteEndArray();
        End();
    }

    public void Call(string? id, string callId, string name, string arguments, bool isCut)
    {
        Begin(id, "fc_", "function_call"u8);
        _json.WriteString("call_id"u8, callId);
        _json.WriteString("name"u8, name);
        _json.WriteString("arguments"u8, arguments);
        End(isCut);
    }

    public void Result(string? id, string callId, string output)
    {
        Begin(id, "fco_", "function_call_output"u8);
        _json.WriteString("call_id"u8, callId);
        _json.WriteString("output"u8, output);
        End();
    }

    public void Reasoning(string? id, string summary, string thought, string? sealedThought)
    {
        Begin(id, "rs_", "reasoning"u8);
        _json.WriteStartArray("summary"u8);
        if (summary.Length > 0) WritePart("summary_text"u8, summary);
        _json.WriteEndArray();
        _json.WriteStartArray("content"u8);
        if (thought.Length > 0) WritePart("reasoning_text"u8, thought);
        _json.WriteEndArray();
        if (sealedThought is not null) _json.WriteString("encrypted_content"u8, sealedThought);
        End();
    }

    public void Close()
    {
        _json.WriteEndArray();
        _json.Dispose();
    }

    private void WritePart(ReadOnlySpan<byte> type, string text)
    {
        _json.WriteStartObject();
        _json.WriteString("type"u8, type);
        _json.WriteString("text"u8, text);
        _json.WriteEndObject();
    }

    private void Begin(string? id, string prefix, ReadOnlySpan<byte> type)
    {
        _json.WriteStartObject();
        _json.WriteString("id"u8, string.IsNullOrEmpty(id) ? OutputItem.NewId(prefix) : id);
        _json.WriteString("type"u8, type);
    }

    private void End(bool isCut = false)
    {
        _json.WriteString("status"u8, isCut ? "incomplete"u8 : "completed"u8);
        _json.WriteEndObject();
    }
}
