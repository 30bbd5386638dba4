namespace GemmaServer;

/// <summary><c>POST /v1/completions</c>: raw text or token ids in, raw text out, without the turn format.</summary>
internal static partial class CompletionsEndpoint
{
    private static int _warned;

    public static void Map(IEndpointRouteBuilder routes, Server server) => routes.MapPost("/v1/completions", http => Handle(http, server));

    private static async Task Handle(HttpContext http, Server server)
    {
        RequestOrigin origin = default;
        (CompletionRequest? request, ServedModel? model, ApiError? error) = await server.ReadAsync<CompletionRequest>(http, CompletionRequestReader.Read);
        error ??= RequestOrigin.Read(http, server.Options, out origin);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        if (Interlocked.Exchange(ref _warned, 1) == 0) Log.RawPrompt(server.Logger);
        await CompletionAnswer.ServeAsync(http, server, "text_completion", model!, request!, origin, new CompletionShape(model!, request!));
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Warning, Message = "Somebody uses /v1/completions: without Gemma's turn format in the prompt the answers will be poor. (Said once.)")]
        public static partial void RawPrompt(ILogger logger);
    }
}
