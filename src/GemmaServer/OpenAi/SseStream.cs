using System.IO.Pipelines;
using System.Text.Json;

namespace GemmaServer;

/// <summary>Server-sent events over the response's pipe, without a string or buffer of its own in between.</summary>
internal sealed class SseStream : IDisposable
{
    private readonly PipeWriter _pipe;
    private readonly HttpResponse _response;

    public SseStream(HttpResponse response)
    {
        _response = response;
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
        _response.ContentType = "text/event-stream; charset=utf-8";
        _response.Headers.CacheControl = "no-cache";
        _response.Headers["X-Accel-Buffering"] = "no";
    }

    /// <summary>Opens an event.</summary>
    public Utf8JsonWriter Begin()
    {
        Write("data: "u8);
        Json.Reset(_pipe);
        return Json;
    }

    /// <summary>Closes it.</summary>
    public void End()
    {
        Json.Flush();
        Write("\n\n"u8);
    }

    /// <summary>A comment, which clients skip and proxies count as life.</summary>
    public void KeepAlive() => Write(": keep-alive\n\n"u8);

    /// <summary>The last line of a stream that went well.</summary>
    public void Done() => Write("data: [DONE]\n\n"u8);

    /// <summary>Sends what was written; a slow client makes this wait.</summary>
    public ValueTask<FlushResult> FlushAsync(CancellationToken aborted) => _pipe.FlushAsync(aborted);

    public void Dispose() => Json.Dispose();

    private void Write(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(_pipe.GetSpan(bytes.Length));
        _pipe.Advance(bytes.Length);
    }
}
