using GemmaServer.Engine;
using GemmaServer.Text;

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
        CompiledGrammar? grammar = null;
        if (request!.Constraint is { } constraint) (grammar, error) = await constraint.CompileAsync(server.Grammars!, http.RequestAborted);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        if (Interlocked.Exchange(ref _warned, 1) == 0) Log.RawPrompt(server.Logger);
        using RequestWatch watch = server.Watch(http, "text_completion", model!, request.Prompts.Sum(static p => p.Tokens.Length), request.MaxTokens,
            request.Sampling.N, request.Prompts.Count * request.Sampling.N);
        int n = request.Sampling.N;
        await Answer.ServeAsync(http, server, model!, watch, Requests(request, grammar, origin, watch), request.Sampling.Stream,
            (i, g) => new CompletionChoice(i, g, request, request.Prompts[i / n], model!.Tokenizer), new CompletionShape(model!, request));
    }

    private static List<GenerationRequest> Requests(CompletionRequest request, CompiledGrammar? grammar, in RequestOrigin origin, RequestWatch watch)
    {
        List<GenerationRequest> requests = [];
        int promptLogprobs = request.Echo ? request.Logprobs : -1;
        foreach (CompletionPrompt prompt in request.Prompts)
        {
            for (int choice = 0; choice < request.Sampling.N; choice++)
            {
                requests.Add(request.Sampling.ToRequest(watch.RequestId, prompt.Tokens, request.MaxTokens, choice, request.Logprobs, promptLogprobs,
                    thoughtOpen: false, origin, rules: new AnswerRules(grammar)));
            }
        }
        return requests;
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Warning, Message = "Somebody uses /v1/completions: without Gemma's turn format in the prompt the answers will be poor. (Said once.)")]
        public static partial void RawPrompt(ILogger logger);
    }
}
