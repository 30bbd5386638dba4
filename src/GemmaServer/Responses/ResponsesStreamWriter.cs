namespace GemmaServer;

/// <summary>Streams a response: that it exists, its items piece by piece, and at the end the whole of it. There is no end mark.</summary>
internal sealed class ResponsesStreamWriter : IAnswerWriter
{
    private readonly SseStream _stream;
    private readonly ResponsesShape _shape;
    private readonly ChatChoice _choice;
    private readonly ResponseEvents _events;
    private readonly ResponseOutput _output;

    public ResponsesStreamWriter(SseStream stream, ResponsesShape shape, ResponseEvents events, ChatChoice choice)
    {
        _stream = stream;
        _shape = shape;
        _choice = choice;
        _events = events;
        _output = new ResponseOutput(events);
    }

    public EventStream Stream => _stream;

    public void Open()
    {
        _events.Response("response.created"u8, json => _shape.Write(json, "in_progress"u8, [], _choice));
        _events.Response("response.in_progress"u8, json => _shape.Write(json, "in_progress"u8, [], _choice));
    }

    public void Write() => _output.Take(_choice);

    public void Close()
    {
        _output.Finish(_choice);
        ReadOnlyMemory<byte> response = _shape.Complete(_output.Items, _choice);
        _events.Response(_choice.FinishReason == "length" ? "response.incomplete"u8 : "response.completed"u8,
            json => json.WriteRawValue(response.Span, skipInputValidation: true));
    }

    public void Fail(ApiError error) =>
        _events.Response("response.failed"u8, json => _shape.Write(json, "failed"u8, _output.Items, _choice, error));
}
