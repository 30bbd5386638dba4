using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Writes a streamed answer as Ollama's lines.</summary>
internal abstract class OllamaLines(HttpResponse response, OllamaShape shape) : IAnswerWriter
{
    private readonly JsonLineStream _stream = new(response);

    public EventStream Stream => _stream;

    /// <summary>Nothing stands before the first piece.</summary>
    public void Open()
    {
    }

    public abstract void Write();

    public void Close()
    {
        Utf8JsonWriter json = _stream.Begin();
        shape.Head(json);
        shape.Piece(json, "", thinking: "", calls: [], firstCall: 0);
        End(json);
        _stream.End();
    }

    /// <summary>A line of its own, and none that says done.</summary>
    public void Fail(ApiError error)
    {
        HttpContext http = response.HttpContext;
        ErrorStyle.Of(http.Request.Path).Write(_stream.Begin(), error, http.TraceIdentifier);
        _stream.End();
    }

    private protected abstract void End(Utf8JsonWriter json);

    private protected void Line(string content, string thinking = "", IReadOnlyList<CollectedToolCall>? calls = null, int firstCall = 0)
    {
        Utf8JsonWriter json = _stream.Begin();
        shape.Head(json);
        shape.Piece(json, content, thinking, calls ?? [], firstCall);
        json.WriteBoolean("done"u8, false);
        json.WriteEndObject();
        _stream.End();
    }
}

/// <summary>Lines of a chat answer: text and thinking as they settle, calls when they are whole.</summary>
internal sealed class OllamaChatLines(HttpResponse response, OllamaShape shape, ChatChoice choice) : OllamaLines(response, shape)
{
    private readonly OllamaShape _shape = shape;
    private readonly OutputRuns _runs = new();
    private OutputCollector _call = new();

    public override void Write()
    {
        List<OutputEvent> events = choice.Events;
        for (int i = 0; i < events.Count; i++)
        {
            OutputEvent output = events[i];
            switch (output.Kind)
            {
                case OutputEventKind.Content:
                    Line(_runs.Next(events, ref i));
                    break;
                case OutputEventKind.Reasoning:
                    Line("", thinking: _runs.Next(events, ref i));
                    break;
                default:
                    _call.Add(output);
                    if (output.Kind != OutputEventKind.ToolCallEnd) break;
                    Line("", calls: _call.ToolCalls, firstCall: output.ToolIndex);
                    _call = new OutputCollector();
                    break;
            }
        }
        events.Clear();
    }

    private protected override void End(Utf8JsonWriter json) => _shape.End(json, choice);
}

/// <summary>Lines of a raw answer.</summary>
internal sealed class OllamaTextLines(HttpResponse response, OllamaShape shape, CompletionChoice choice) : OllamaLines(response, shape)
{
    private readonly OllamaShape _shape = shape;

    public override void Write()
    {
        if (choice.Text.Length == 0) return;
        Line(choice.Text.ToString());
        choice.Text.Clear();
    }

    private protected override void End(Utf8JsonWriter json) => _shape.End(json, choice);
}
