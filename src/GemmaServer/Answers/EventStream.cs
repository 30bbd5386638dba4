using System.IO.Pipelines;
using System.Text.Json;

namespace GemmaServer;

/// <summary>A response that is written event by event over its pipe, without a string or buffer of its own in between.</summary>
internal abstract class EventStream : IDisposable
{
    private readonly PipeWriter _pipe;
    private readonly HttpResponse _response;
    private readonly string _contentType;

    private protected EventStream(HttpResponse response, string contentType)
    {
        _response = response;
        _contentType = contentType;
        _pipe = response.BodyWriter;
        Json = new Utf8JsonWriter(_pipe, JsonStyle.Writer);
    }

    /// <summary>Writes the object of the event that is open.</summary>
    public Utf8JsonWriter Json { get; }

    /// <summary>Whether the status line has been decided.</summary>
    public bool IsStarted { get; private set; }

    /// <summary>Sends status and headers with the next flush.</summary>
    public void Start()
    {
        if (IsStarted) return;
        IsStarted = true;
        _response.StatusCode = 200;
        _response.ContentType = _contentType;
        _response.Headers.CacheControl = "no-cache";
        _response.Headers["X-Accel-Buffering"] = "no";
    }

    /// <summary>Closes the event.</summary>
    public abstract void End();

    /// <summary>Shows that the server lives while it has nothing to say.</summary>
    public abstract void KeepAlive();

    /// <summary>Sends what was written; a slow client makes this wait.</summary>
    public ValueTask<FlushResult> FlushAsync(CancellationToken aborted) => _pipe.FlushAsync(aborted);

    public void Dispose() => Json.Dispose();

    private protected Utf8JsonWriter BeginObject()
    {
        Json.Reset(_pipe);
        return Json;
    }

    private protected void Write(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(_pipe.GetSpan(bytes.Length));
        _pipe.Advance(bytes.Length);
    }
}

/// <summary>Server-sent events.</summary>
internal class SseStream(HttpResponse response) : EventStream(response, "text/event-stream; charset=utf-8")
{
    /// <summary>Opens an event without a name, as chat completions have them.</summary>
    public Utf8JsonWriter Begin()
    {
        Write("data: "u8);
        return BeginObject();
    }

    /// <summary>Opens an event with a name, as responses and messages have them.</summary>
    public Utf8JsonWriter Begin(ReadOnlySpan<byte> name)
    {
        Write("event: "u8);
        Write(name);
        Write("\ndata: "u8);
        return BeginObject();
    }

    /// <inheritdoc/>
    public override void End()
    {
        Json.Flush();
        Write("\n\n"u8);
    }

    /// <summary>A comment, which clients skip and proxies count as life.</summary>
    public override void KeepAlive() => Write(": keep-alive\n\n"u8);

    /// <summary>The last line of a stream of completions that went well.</summary>
    public void Done() => Write("data: [DONE]\n\n"u8);
}

/// <summary>A JSON object a line, as Ollama streams.</summary>
internal sealed class JsonLineStream(HttpResponse response) : EventStream(response, "application/x-ndjson")
{
    /// <summary>Opens a line.</summary>
    public Utf8JsonWriter Begin() => BeginObject();

    /// <inheritdoc/>
    public override void End()
    {
        Json.Flush();
        Write("\n"u8);
    }

    /// <summary>Nothing: this format has no comments, and its clients no patience limit of their own.</summary>
    public override void KeepAlive()
    {
    }
}
