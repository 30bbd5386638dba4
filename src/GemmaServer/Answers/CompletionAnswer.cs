using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Answers a text completion request, in the shape of whichever API asked.</summary>
internal static class CompletionAnswer
{
    /// <param name="http">The request; nothing was sent yet.</param>
    /// <param name="server">The server.</param>
    /// <param name="operation">For metrics and traces.</param>
    /// <param name="model">Who answers.</param>
    /// <param name="request">What was asked.</param>
    /// <param name="origin">Who asks.</param>
    /// <param name="shape">How it is written.</param>
    public static async Task ServeAsync(
        HttpContext http, Server server, string operation, ServedModel model, CompletionRequest request, RequestOrigin origin, IAnswerShape<CompletionChoice> shape)
    {
        (CompiledGrammar? grammar, ApiError? error) = await AnswerConstraint.CompileAsync(request.Constraint, server.Grammars!, http.RequestAborted);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        int n = request.Sampling.N;
        using RequestWatch watch = server.Watch(http, operation, model, request.Prompts.Sum(static p => p.Tokens.Length), request.MaxTokens, n, request.Prompts.Count * n);
        await Answer.ServeAsync(http, server, model, watch, Requests(request, grammar, origin, watch), request.Sampling.Stream,
            (i, g) => new CompletionChoice(i, g, request, request.Prompts[i / n], model.Tokenizer), shape);
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
}
