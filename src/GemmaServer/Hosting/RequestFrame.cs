using System.Diagnostics;

namespace GemmaServer;

/// <summary>
/// The outermost layer: request id and timing headers, every error in OpenAI's shape, nothing of an exception outside the log.
/// </summary>
internal sealed class RequestFrame(Server server)
{
    private const string IdHeader = "x-request-id";

    public async Task InvokeAsync(HttpContext http, RequestDelegate next)
    {
        long start = Stopwatch.GetTimestamp();
        http.TraceIdentifier = RequestId(http.Request.Headers[IdHeader]);
        http.Response.OnStarting(() =>
        {
            IHeaderDictionary headers = http.Response.Headers;
            headers[IdHeader] = http.TraceIdentifier;
            if (MessagesEndpoint.IsAt(http.Request.Path)) headers["request-id"] = http.TraceIdentifier;     // where Anthropic's clients look
            headers["openai-version"] = "2020-10-01";
            headers["openai-processing-ms"] = ((long)Stopwatch.GetElapsedTime(start).TotalMilliseconds).ToString();
            if (server.IsDraining) headers.Connection = "close";
            return Task.CompletedTask;
        });
        try
        {
            await next(http);
            await ShapeEmptyErrorAsync(http);
        }
        catch (OperationCanceledException) when (http.RequestAborted.IsCancellationRequested)
        {
            if (!http.Response.HasStarted) http.Response.StatusCode = StatusCodes.Status499ClientClosedRequest;
        }
        catch (BadHttpRequestException e)
        {
            await AnswerAsync(http, e.StatusCode == 413 ? ApiError.BodyTooLarge(server.Options.BodyLimit) : ApiError.BadRequest("The request could not be read."));
        }
        catch (Exception e)
        {
            server.LogException(e, http.TraceIdentifier);
            await AnswerAsync(http, ApiError.Internal(http.TraceIdentifier));
        }
        finally
        {
            string route = (http.GetEndpoint() as RouteEndpoint)?.RoutePattern.RawText ?? "other";
            server.Metrics.HttpRequests.Add(1, new("route", route), new("status", http.Response.StatusCode));
        }
    }

    /// <summary>Routing and the framework answer some mistakes with a bare status.</summary>
    private static async Task ShapeEmptyErrorAsync(HttpContext http)
    {
        HttpResponse response = http.Response;
        if (response.HasStarted || response.StatusCode < 400 || response.ContentType is not null) return;
        string path = http.Request.Path.Value ?? "/";
        ApiError? error = response.StatusCode switch
        {
            404 => ApiError.UnknownUrl(http.Request.Method, path),
            405 => ApiError.Method(http.Request.Method, path),
            415 => ApiError.ContentType(http.Request.ContentType),
            400 => ApiError.BadRequest("The request could not be read."),
            _ => null,
        };
        if (error is not null) await error.WriteAsync(http);
    }

    private static async Task AnswerAsync(HttpContext http, ApiError error)
    {
        if (http.Response.HasStarted)
        {
            // A stream is under way: breaking it off is the only honest end.
            http.Abort();
            return;
        }
        http.Response.Clear();
        await error.WriteAsync(http);
    }

    /// <summary>The client's own id if it is fit to be a header and a log field, else a new one.</summary>
    private static string RequestId(string? given) =>
        given is { Length: > 0 and <= 128 } && given.AsSpan().IndexOfAnyExceptInRange('!', '~') < 0 ? given : $"req_{Guid.NewGuid():N}";
}
