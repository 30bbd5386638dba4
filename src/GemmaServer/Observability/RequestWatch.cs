using System.Diagnostics;
using GemmaServer.Engine;

namespace GemmaServer;

/// <summary>Follows one request for metrics and traces, and knows how it ended. One reader.</summary>
internal sealed class RequestWatch : IDisposable
{
    private static readonly ActivitySource Source = new(ServerMetrics.MeterName);
    private static readonly TimeProvider Clock = TimeProvider.System;

    private readonly ServerMetrics _metrics;
    private readonly Server _server;
    private readonly string _model;
    private readonly string _operation;
    private readonly int _promptTokens;
    private readonly Activity? _activity;
    private readonly long[] _lastToken;
    private readonly long _start = Clock.GetTimestamp();
    private GenerationSet? _generations;
    private bool _closed;
    private volatile bool _aborted;

    public RequestWatch(Server server, string requestId, string? keyName, string operation, string model, int promptTokens, int maxTokens, int choices, int places)
    {
        RequestId = requestId;
        KeyName = keyName;
        _server = server;
        _metrics = server.Metrics;
        _model = model;
        _operation = operation;
        _promptTokens = promptTokens;
        _lastToken = new long[places];
        _metrics.ParamN.Record(choices);
        _metrics.ParamMaxTokens.Record(maxTokens);
        _metrics.PromptLength.Record(promptTokens);
        server.RequestBegan();
        // The parent is ASP.NET's own activity, which honours W3C traceparent.
        _activity = Source.StartActivity($"{operation} {model}", ActivityKind.Internal);
        _activity?.SetTag("gen_ai.operation.name", operation);
        _activity?.SetTag("gen_ai.provider.name", "gemmaserver");
        _activity?.SetTag("gen_ai.request.model", model);
        _activity?.SetTag("gen_ai.request.max_tokens", maxTokens);
        _activity?.SetTag("gen_ai.request.choice.count", choices);
        _activity?.SetTag("gen_ai.response.model", model);
        _activity?.SetTag("gen_ai.response.id", requestId);
    }

    public string RequestId { get; }

    /// <summary>Whose key was shown; null where none was asked for.</summary>
    public string? KeyName { get; }

    /// <summary>Whether another request ended this one.</summary>
    public bool IsAborted => _aborted;

    public void Started(GenerationSet generations)
    {
        _generations = generations;
        _server.Running.Add(this);
    }

    /// <summary>Ends the work; the client is told. From any thread.</summary>
    public void Abort()
    {
        _aborted = true;
        _generations?.Cancel();
    }

    /// <summary>A token of this choice has come.</summary>
    public void Token(int place)
    {
        long now = Clock.GetTimestamp();
        if (_lastToken[place] != 0) _metrics.InterTokenLatency.Record(Clock.GetElapsedTime(_lastToken[place], now).TotalSeconds);
        _lastToken[place] = now;
    }

    /// <summary>The answer is complete. Does nothing after <see cref="Failed"/>.</summary>
    public void Finished(IEnumerable<string?> reasons, int tokens)
    {
        if (_closed) return;
        string[] known = [.. reasons.Select(static r => r ?? "stop")];
        foreach (string reason in known) Count(reason == "tool_calls" ? "stop" : reason);
        Close();
        _activity?.SetTag("gen_ai.response.finish_reasons", known);
        _activity?.SetTag("gen_ai.usage.input_tokens", _promptTokens);
        _activity?.SetTag("gen_ai.usage.output_tokens", tokens);
        _metrics.GenerationLength.Record(tokens);
        TagList tags = Tags();
        tags.Add("gen_ai.token.type", "input");
        _metrics.GenAiTokens.Record(_promptTokens, tags);
        tags = Tags();
        tags.Add("gen_ai.token.type", "output");
        _metrics.GenAiTokens.Record(tokens, tags);
        _server.LogFinished(RequestId, string.Join(',', known), _promptTokens, tokens, Clock.GetElapsedTime(_start));
    }

    /// <summary>There is no answer, or only a part of one.</summary>
    public void Failed(ApiError error)
    {
        if (_closed) return;
        Count("error");
        Close();
        _activity?.SetStatus(ActivityStatusCode.Error, error.Message);
        _activity?.SetTag("error.type", error.Code ?? error.Type);
        _server.LogFailed(RequestId, error.Status, error.Code ?? error.Type);
    }

    /// <summary>The client went away.</summary>
    public void Aborted()
    {
        if (_closed) return;
        Count("abort");
        Close();
        _activity?.SetTag("error.type", "client_disconnected");
        _server.LogAborted(RequestId);
    }

    public void Dispose()
    {
        if (_generations is not null) _server.Running.Remove(this);
        if (!_closed) Failed(ApiError.Internal(RequestId));
        _activity?.Dispose();
        _server.RequestEnded();
    }

    private void Count(string reason) => _metrics.Success.Add(1, new KeyValuePair<string, object?>("finished_reason", reason));

    private void Close()
    {
        _closed = true;
        TagList tags = Tags();
        double total = Clock.GetElapsedTime(_start).TotalSeconds;
        _metrics.EndToEnd.Record(total);
        _metrics.GenAiDuration.Record(total, tags);
        foreach (Generation g in _generations?.All ?? []) Record(g, tags);
    }

    private void Record(Generation g, in TagList tags)
    {
        if (g.AdmittedAt == 0) return;
        long end = g.FinishedAt != 0 ? g.FinishedAt : Clock.GetTimestamp();
        _metrics.QueueTime.Record(Clock.GetElapsedTime(g.QueuedAt, g.AdmittedAt).TotalSeconds);
        _metrics.InferenceTime.Record(Clock.GetElapsedTime(g.AdmittedAt, end).TotalSeconds);
        if (g.FirstTokenAt == 0) return;
        double first = Clock.GetElapsedTime(g.QueuedAt, g.FirstTokenAt).TotalSeconds;
        _metrics.TimeToFirstToken.Record(first);
        _metrics.GenAiFirstToken.Record(first, tags);
        _metrics.PrefillTime.Record(Clock.GetElapsedTime(g.AdmittedAt, g.FirstTokenAt).TotalSeconds);
        double decode = Clock.GetElapsedTime(g.FirstTokenAt, end).TotalSeconds;
        _metrics.DecodeTime.Record(decode);
        if (g.GeneratedTokens < 2) return;
        _metrics.TimePerOutputToken.Record(decode / (g.GeneratedTokens - 1));
        _metrics.GenAiPerToken.Record(decode / (g.GeneratedTokens - 1), tags);
    }

    private TagList Tags() => new()
    {
        { "gen_ai.operation.name", _operation },
        { "gen_ai.provider.name", "gemmaserver" },
        { "gen_ai.request.model", _model },
    };
}
