using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>
/// Writes the events of a streamed message: its start, then each block with start, deltas and stop, then why it ended. One block
/// is open at a time.
/// </summary>
internal sealed class MessagesStreamWriter(HttpResponse response, MessagesShape shape, ChatChoice choice) : IAnswerWriter
{
    private readonly PingStream _stream = new(response);
    private readonly OutputRuns _runs = new();
    private OutputEventKind? _open;     // what the open block holds; a call's is ToolCallStart
    private int _index = -1;            // of the last block

    public EventStream Stream => _stream;

    public void Open()
    {
        Utf8JsonWriter json = Begin("message_start"u8);
        json.WritePropertyName("message"u8);
        shape.Head(json);
        json.WriteStartArray("content"u8);
        json.WriteEndArray();
        shape.WriteEnd(json, null);
        shape.WriteUsage(json, choice);
        json.WriteNull("diagnostics"u8);
        json.WriteEndObject();
        End();
    }

    public void Write()
    {
        List<OutputEvent> events = choice.Events;
        for (int i = 0; i < events.Count; i++)
        {
            OutputEvent output = events[i];
            switch (output.Kind)
            {
                case OutputEventKind.Content:
                    if (_open != OutputEventKind.Content) StartBlock(OutputEventKind.Content, "text"u8, "text"u8, name: null);
                    Delta("text_delta"u8, "text"u8, _runs.Next(events, ref i));
                    break;
                case OutputEventKind.Reasoning:
                    if (_open != OutputEventKind.Reasoning) StartBlock(OutputEventKind.Reasoning, "thinking"u8, "thinking"u8, name: null);
                    Delta("thinking_delta"u8, "thinking"u8, _runs.Next(events, ref i));
                    break;
                case OutputEventKind.ToolCallStart:
                    StartBlock(OutputEventKind.ToolCallStart, "tool_use"u8, default, output.Text);
                    break;
                case OutputEventKind.ToolCallArguments:
                    Delta("input_json_delta"u8, "partial_json"u8, _runs.Next(events, ref i));
                    break;
                case OutputEventKind.ToolCallEnd:
                    StopBlock();
                    break;
            }
        }
        events.Clear();
    }

    public void Close()
    {
        StopBlock();
        Utf8JsonWriter json = Begin("message_delta"u8);
        json.WriteStartObject("delta"u8);
        shape.WriteEnd(json, choice);
        json.WriteEndObject();
        shape.WriteUsage(json, choice);
        End();
        Begin("message_stop"u8);
        End();
    }

    /// <summary>An event of its own; no message_stop follows.</summary>
    public void Fail(ApiError error)
    {
        HttpContext http = response.HttpContext;
        ErrorStyle.Of(http.Request.Path).Write(_stream.Begin("error"u8), error, http.TraceIdentifier);
        _stream.End();
    }

    private void StartBlock(OutputEventKind kind, ReadOnlySpan<byte> type, ReadOnlySpan<byte> textMember, string? name)
    {
        StopBlock();
        _open = kind;
        Utf8JsonWriter json = Begin("content_block_start"u8);
        json.WriteNumber("index"u8, ++_index);
        json.WriteStartObject("content_block"u8);
        json.WriteString("type"u8, type);
        if (name is null)
        {
            json.WriteString(textMember, ""u8);
            if (kind == OutputEventKind.Reasoning) json.WriteString("signature"u8, ""u8);
            else json.WriteNull("citations"u8);
        }
        else
        {
            json.WriteString("id"u8, MessagesShape.NewToolId());
            json.WriteString("name"u8, name);
            json.WriteStartObject("input"u8);
            json.WriteEndObject();
            MessagesShape.WriteCaller(json);
        }
        json.WriteEndObject();
        End();
    }

    private void StopBlock()
    {
        if (_open is not { } kind) return;
        if (kind == OutputEventKind.Reasoning) Delta("signature_delta"u8, "signature"u8, shape.Signature);
        _open = null;
        Begin("content_block_stop"u8).WriteNumber("index"u8, _index);
        End();
    }

    private void Delta(ReadOnlySpan<byte> type, ReadOnlySpan<byte> member, string text)
    {
        Utf8JsonWriter json = Begin("content_block_delta"u8);
        json.WriteNumber("index"u8, _index);
        json.WriteStartObject("delta"u8);
        json.WriteString("type"u8, type);
        json.WriteString(member, text);
        json.WriteEndObject();
        End();
    }

    /// <summary>Opens an event; its object says its name again.</summary>
    private Utf8JsonWriter Begin(ReadOnlySpan<byte> name)
    {
        Utf8JsonWriter json = _stream.Begin(name);
        json.WriteStartObject();
        json.WriteString("type"u8, name);
        return json;
    }

    private void End()
    {
        _stream.Json.WriteEndObject();
        _stream.End();
    }

    /// <summary>Shows life with an event, as Anthropic's own streams do.</summary>
    private sealed class PingStream(HttpResponse response) : SseStream(response)
    {
        public override void KeepAlive() => Write("event: ping\ndata: {\"type\":\"ping\"}\n\n"u8);
    }
}
