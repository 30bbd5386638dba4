using System.Text.Json;

namespace GemmaServer;

/// <summary>Reads a request body for the loaded model; gives the request or what is wrong with it.</summary>
internal delegate ApiError? RequestReader<T>(JsonElement root, ServedModel model, ServerOptions options, out T? request) where T : class;

/// <summary>What all endpoints share: options, the model once it is loaded, whether the server is on its way out.</summary>
internal sealed partial class Server : IDisposable
{
    // Reading a large body (parsing, rendering, tokenizing) is work for a core; the engine shares them.
    private const int LargeBody = 64 << 10;

    private readonly SemaphoreSlim _largeReads = new(Math.Max(1, Environment.ProcessorCount / 4));
    private ServedModel? _model;
    private int _inFlight;
    private volatile bool _draining;

    public Server(ServerOptions options, ILoggerFactory loggers)
    {
        Options = options;
        Logger = loggers.CreateLogger("GemmaServer");
        Responses = new ResponseStore(options.ResponseStore);
    }

    public ServerOptions Options { get; }

    public ILogger Logger { get; }

    public ServerMetrics Metrics { get; } = new();

    /// <summary>What is being answered, by request id.</summary>
    public RunningRequests Running { get; } = new();

    /// <summary>Responses that can be gone on from.</summary>
    public ResponseStore Responses { get; }

    /// <summary>How long a stream may be silent before a comment shows that it lives.</summary>
    public TimeSpan KeepAlive { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Grammars of the loaded model; null while it loads.</summary>
    public GrammarCache? Grammars { get; private set; }

    /// <summary>Null while it loads.</summary>
    public ServedModel? Model => Volatile.Read(ref _model);

    public bool IsDraining => _draining;

    /// <summary>Generation requests being answered.</summary>
    public int InFlight => Volatile.Read(ref _inFlight);

    /// <summary>Why nothing can be answered now; null when it can.</summary>
    public ApiError? NotReady => _draining ? ApiError.Draining : Model is null ? ApiError.Loading : null;

    /// <summary>The model is there.</summary>
    public void Serve(ServedModel model)
    {
        Grammars = new GrammarCache(model.Tokenizer, model.VocabularySize, _largeReads);
        Metrics.Attach(model, Grammars);
        Volatile.Write(ref _model, model);
        Log.Serving(Logger, string.Join(", ", model.Names), model.MaxModelLength);
    }

    /// <summary>Takes nothing new, lets running requests finish within the drain timeout, then ends them.</summary>
    /// <returns>Whether everything finished by itself.</returns>
    public async Task<bool> DrainAsync()
    {
        _draining = true;
        Log.Draining(Logger, InFlight, Options.DrainTimeout.TotalSeconds);
        bool clean = Model is not { } model || await model.Engine.DrainAsync(Options.DrainTimeout);

        // The engine is done; the last bytes may still be on their way to slow clients.
        for (int i = 0; i < 50 && InFlight > 0; i++) await Task.Delay(100);
        Log.Drained(Logger, clean);
        return clean;
    }

    /// <summary>Reads and checks a request: the state first, then the body, then its fields.</summary>
    public async ValueTask<(T? Request, ServedModel? Model, ApiError? Error)> ReadAsync<T>(HttpContext http, RequestReader<T> read) where T : class
    {
        if (NotReady is { } notReady) return (null, null, notReady);
        ServedModel model = Model!;
        (RequestBody? body, ApiError? error) = await RequestBody.ReadAsync(http.Request, Options.BodyLimit);
        if (error is not null) return (null, null, error);
        using (body)
        {
            bool isLarge = body!.Bytes > LargeBody;
            if (isLarge) await _largeReads.WaitAsync(http.RequestAborted);
            try
            {
                error = read(body.Root, model, Options, out T? request);
                return (request, model, error);
            }
            finally
            {
                if (isLarge) _largeReads.Release();
            }
        }
    }

    /// <summary>Starts following a request that was read.</summary>
    public RequestWatch Watch(HttpContext http, string operation, ServedModel model, int promptTokens, int maxTokens, int n, int places) =>
        new(this, http.TraceIdentifier, RequestOrigin.KeyName(http), operation, model.Names[0], promptTokens, maxTokens, n, places);

    public void RequestBegan() => Interlocked.Increment(ref _inFlight);

    public void RequestEnded() => Interlocked.Decrement(ref _inFlight);

    public void LogFinished(string requestId, string reason, int promptTokens, int tokens, TimeSpan duration) =>
        Log.Finished(Logger, requestId, reason, promptTokens, tokens, duration.TotalMilliseconds);

    public void LogFailed(string requestId, int status, string code) => Log.Failed(Logger, requestId, status, code);

    public void LogAborted(string requestId) => Log.Aborted(Logger, requestId);

    public void LogException(Exception e, string requestId) => Log.Unexpected(Logger, e, requestId);

    public void Dispose()
    {
        Model?.Dispose();
        Metrics.Dispose();
        _largeReads.Dispose();
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Information, Message = "Serving {Names}, context {MaxModelLength} tokens")]
        public static partial void Serving(ILogger logger, string names, int maxModelLength);

        [LoggerMessage(Level = LogLevel.Information, Message = "Draining: {InFlight} requests may go on for {Seconds} s")]
        public static partial void Draining(ILogger logger, int inFlight, double seconds);

        [LoggerMessage(Level = LogLevel.Information, Message = "Drained, clean={Clean}")]
        public static partial void Drained(ILogger logger, bool clean);

        [LoggerMessage(Level = LogLevel.Information, Message = "Finished {RequestId}: {Reason}, {PromptTokens} + {Tokens} tokens in {Milliseconds:F0} ms")]
        public static partial void Finished(ILogger logger, string requestId, string reason, int promptTokens, int tokens, double milliseconds);

        [LoggerMessage(Level = LogLevel.Warning, Message = "Failed {RequestId}: {Status} {Code}")]
        public static partial void Failed(ILogger logger, string requestId, int status, string code);

        [LoggerMessage(Level = LogLevel.Information, Message = "Aborted {RequestId}: the client went away")]
        public static partial void Aborted(ILogger logger, string requestId);

        [LoggerMessage(Level = LogLevel.Error, Message = "Unexpected failure in {RequestId}")]
        public static partial void Unexpected(ILogger logger, Exception e, string requestId);
    }
}
