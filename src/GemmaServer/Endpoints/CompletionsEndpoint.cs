using System.Text.Json;
using GemmaServer.Engine;

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
        using RequestWatch watch = server.Watch(http, "text_completion", model!, request!.Prompts.Sum(static p => p.Tokens.Length), request.MaxTokens,
            request.Sampling.N, request.Prompts.Count * request.Sampling.N);
        if (GenerationSet.TrySubmit(model!.Engine, Requests(request, origin, watch), out GenerationSet? generations) is { } refused)
        {
            watch.Failed(refused);
            await refused.WriteAsync(http);
            return;
        }

        watch.Started(generations!);
        try
        {
            int n = request.Sampling.N;
            CompletionChoice[] choices = [.. generations!.All.Select((g, i) => new CompletionChoice(i, g, request, request.Prompts[i / n], model.Tokenizer))];
            CompletionShape shape = new($"cmpl-{Guid.NewGuid():N}", model, request, choices);
            AnswerLoop loop = new(http, generations, watch, server.KeepAlive);
            if (request.Sampling.Stream) await StreamAsync(http, loop, shape, choices, watch);
            else await WholeAsync(http, loop, shape, choices, watch);
            watch.Finished(choices.Select(static c => c.FinishReason), choices.Sum(static c => c.Tokens));
        }
        catch (OperationCanceledException) when (http.RequestAborted.IsCancellationRequested)
        {
            watch.Aborted();
        }
        finally
        {
            generations!.Cancel();
        }
    }

    private static List<GenerationRequest> Requests(CompletionRequest request, in RequestOrigin origin, RequestWatch watch)
    {
        List<GenerationRequest> requests = [];
        int promptLogprobs = request.Echo ? request.Logprobs : -1;
        foreach (CompletionPrompt prompt in request.Prompts)
        {
            for (int choice = 0; choice < request.Sampling.N; choice++)
            {
                requests.Add(request.Sampling.ToRequest(watch.RequestId, prompt.Tokens, request.MaxTokens, choice, request.Logprobs, promptLogprobs,
                    thoughtOpen: false, origin));
            }
        }
        return requests;
    }

    private static async Task StreamAsync(HttpContext http, AnswerLoop loop, CompletionShape shape, CompletionChoice[] choices, RequestWatch watch)
    {
        using SseStream stream = new(http.Response);
        await loop.StreamAsync(stream, i => choices[i].IsDone, () => Take(choices, watch), () => FailureOf(choices),
            static () => { }, () => shape.WriteChunks(stream), () => shape.Close(stream));
    }

    private static async Task WholeAsync(HttpContext http, AnswerLoop loop, CompletionShape shape, CompletionChoice[] choices, RequestWatch watch)
    {
        if (await loop.CollectAsync(i => choices[i].IsDone, () => Take(choices, watch), () => FailureOf(choices)) is { } failure)
        {
            watch.Failed(failure);
            await failure.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        shape.Head(json);
        json.WriteStartArray("choices"u8);
        foreach (CompletionChoice choice in choices) shape.Choice(json, choice, withFinish: true);
        json.WriteEndArray();
        shape.Usage.Write(json);
        json.WriteEndObject();
        await json.FlushAsync(http.RequestAborted);
    }

    private static bool Take(CompletionChoice[] choices, RequestWatch watch)
    {
        bool any = false;
        foreach (CompletionChoice choice in choices) any |= choice.Take(watch);
        return any;
    }

    private static ApiError? FailureOf(CompletionChoice[] choices)
    {
        foreach (CompletionChoice choice in choices)
        {
            if (choice.Failure is { } failure) return failure;
        }
        return null;
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Warning, Message = "Somebody uses /v1/completions: without Gemma's turn format in the prompt the answers will be poor. (Said once.)")]
        public static partial void RawPrompt(ILogger logger);
    }
}
