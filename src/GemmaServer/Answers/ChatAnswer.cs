using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Answers a chat request, in the shape of whichever API asked.</summary>
internal static partial class ChatAnswer
{
    /// <param name="http">The request; nothing was sent yet.</param>
    /// <param name="server">The server.</param>
    /// <param name="operation">For metrics and traces: chat, responses, …</param>
    /// <param name="model">Who answers.</param>
    /// <param name="request">What was asked.</param>
    /// <param name="origin">Who asks.</param>
    /// <param name="shape">How it is written.</param>
    public static async Task ServeAsync(
        HttpContext http, Server server, string operation, ServedModel model, ChatRequest request, RequestOrigin origin, IAnswerShape<ChatChoice> shape)
    {
        (CompiledGrammar? grammar, ApiError? error) = await AnswerConstraint.CompileAsync(request.Constraint, server.Grammars!, http.RequestAborted);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        AnswerRules rules = new(grammar, request.ThoughtBudget, request.Prediction);
        int n = request.Sampling.N;
        using RequestWatch watch = server.Watch(http, operation, model, request.Prompt.Length, request.MaxTokens, n, n);
        GenerationRequest[] requests = new GenerationRequest[n];
        for (int i = 0; i < n; i++)
        {
            requests[i] = request.Sampling.ToRequest(watch.RequestId, request.Prompt, request.MaxTokens, i, request.Logprobs, promptLogprobs: -1,
                request.Start == PromptState.ThoughtOpen, origin, request.GenerationStart, rules);
        }
        Log.Accepted(server.Logger, operation, watch.RequestId, model.Names[0], request.Prompt.Length, request.Sampling.Stream, n);
        await Answer.ServeAsync(http, server, model, watch, requests, request.Sampling.Stream, (i, g) => new ChatChoice(i, g, request, model.Tokenizer), shape);
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Information, Message = "Submitting {Operation} request {RequestId} for {Model}: {PromptTokens} prompt tokens, stream={Stream}, n={N}")]
        public static partial void Accepted(ILogger logger, string operation, string requestId, string model, int promptTokens, bool stream, int n);
    }
}
