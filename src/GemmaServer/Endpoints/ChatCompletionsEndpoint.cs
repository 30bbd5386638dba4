using System.Text.Json;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary><c>POST /v1/chat/completions</c>.</summary>
internal static partial class ChatCompletionsEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server) =>
        routes.MapPost("/v1/chat/completions", http => Handle(http, server));

    private static async Task Handle(HttpContext http, Server server)
    {
        RequestOrigin origin = default;
        (ChatRequest? request, ServedModel? model, ApiError? error) = await server.ReadAsync<ChatRequest>(http, ChatRequestReader.Read);
        error ??= RequestOrigin.Read(http, server.Options, out origin);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        using RequestWatch watch = server.Watch(http, "chat", model!, request!.Prompt.Length, request.MaxTokens, request.Sampling.N, request.Sampling.N);
        if (GenerationSet.TrySubmit(model!.Engine, Requests(request, origin, watch), out GenerationSet? generations) is { } refused)
        {
            watch.Failed(refused);
            await refused.WriteAsync(http);
            return;
        }
        Log.Accepted(server.Logger, watch.RequestId, model.Names[0], request.Prompt.Length, request.Sampling.Stream, request.Sampling.N);

        watch.Started(generations!);
        try
        {
            ChatShape shape = new($"chatcmpl-{Guid.NewGuid():N}", model, request, server.Options.ReasoningField);
            ChatChoice[] choices = [.. generations!.All.Select((g, i) => new ChatChoice(i, g, request, model.Tokenizer))];
            AnswerLoop loop = new(http, generations, watch, server.KeepAlive);
            if (request.Sampling.Stream) await StreamAsync(http, loop, shape, request, model.Tokenizer, choices, watch);
            else await WholeAsync(http, loop, shape, request, model.Tokenizer, choices, watch, server.Options.ReasoningField);
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

    private static GenerationRequest[] Requests(ChatRequest request, in RequestOrigin origin, RequestWatch watch)
    {
        GenerationRequest[] requests = new GenerationRequest[request.Sampling.N];
        for (int i = 0; i < requests.Length; i++)
        {
            requests[i] = request.Sampling.ToRequest(watch.RequestId, request.Prompt, request.MaxTokens, i, request.Logprobs, promptLogprobs: -1,
                request.Start == PromptState.ThoughtOpen, origin, request.GenerationStart);
        }
        return requests;
    }

    private static async Task StreamAsync(
        HttpContext http, AnswerLoop loop, ChatShape shape, ChatRequest request, Tokenizer tokenizer, ChatChoice[] choices, RequestWatch watch)
    {
        using SseStream stream = new(http.Response);
        ChatStreamWriter writer = new(stream, shape, request, tokenizer, choices);
        await loop.StreamAsync(stream, i => choices[i].IsDone, () => Take(choices, watch), () => FailureOf(choices), writer.Open, writer.Write, writer.Close);
    }

    private static async Task WholeAsync(
        HttpContext http, AnswerLoop loop, ChatShape shape, ChatRequest request, Tokenizer tokenizer, ChatChoice[] choices, RequestWatch watch, ReasoningField field)
    {
        if (await loop.CollectAsync(i => choices[i].IsDone, () => Take(choices, watch), () => FailureOf(choices)) is { } failure)
        {
            watch.Failed(failure);
            await failure.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        shape.Head(json, "chat.completion"u8);
        json.WriteStartArray("choices"u8);
        foreach (ChatChoice choice in choices)
        {
            OutputCollector collected = new();
            collected.AddRange(choice.Events);
            json.WriteStartObject();
            json.WriteNumber("index"u8, choice.Index);
            ChatShape.Message(json, collected, field);
            if (request.Logprobs >= 0) TokenLogprobWriter.Write(json, tokenizer, choice.Logprobs);
            else json.WriteNull("logprobs"u8);
            json.WriteString("finish_reason"u8, choice.FinishReason);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        ChatStreamWriter.UsageOf(request, choices).Write(json);
        shape.Metadata(json);
        json.WriteEndObject();
        await json.FlushAsync(http.RequestAborted);
    }

    private static bool Take(ChatChoice[] choices, RequestWatch watch)
    {
        bool any = false;
        foreach (ChatChoice choice in choices) any |= choice.Take(watch);
        return any;
    }

    private static ApiError? FailureOf(ChatChoice[] choices)
    {
        foreach (ChatChoice choice in choices)
        {
            if (choice.Failure is { } failure) return failure;
        }
        return null;
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Information, Message = "Accepted chat request {RequestId} for {Model}: {PromptTokens} prompt tokens, stream={Stream}, n={N}")]
        public static partial void Accepted(ILogger logger, string requestId, string model, int promptTokens, bool stream, int n);
    }
}
