using System.Text.Json;
using GemmaServer.Engine;

namespace GemmaServer;

/// <summary>One API's shape of an answer with choices of one kind.</summary>
internal interface IAnswerShape<in T> where T : IAnswerChoice
{
    /// <summary>Makes what writes a streamed answer.</summary>
    IAnswerWriter Stream(HttpResponse response, IReadOnlyList<T> choices);

    /// <summary>Writes a whole answer whose choices are complete.</summary>
    void Whole(Utf8JsonWriter json, IReadOnlyList<T> choices);
}

/// <summary>Carries a request that was read from submission to the last byte of its answer.</summary>
internal static class Answer
{
    /// <summary>Submits, follows, writes; the work ends with the client.</summary>
    /// <param name="http">The request; nothing was sent yet.</param>
    /// <param name="server">The server.</param>
    /// <param name="model">Who answers.</param>
    /// <param name="watch">Follows it.</param>
    /// <param name="requests">One for each choice.</param>
    /// <param name="isStream">Whether the client wants it piece by piece.</param>
    /// <param name="choice">Makes the choice at a place from its generation.</param>
    /// <param name="shape">How it is written.</param>
    public static async Task ServeAsync<T>(HttpContext http, Server server, ServedModel model, RequestWatch watch, IReadOnlyList<GenerationRequest> requests, bool isStream,
        Func<int, Generation, T> choice, IAnswerShape<T> shape) where T : class, IAnswerChoice
    {
        if (GenerationSet.TrySubmit(model.Engine, requests, out GenerationSet? generations) is { } refused)
        {
            watch.Failed(refused);
            await refused.WriteAsync(http);
            return;
        }
        watch.Started(generations!);
        try
        {
            T[] choices = [.. generations!.All.Select((g, i) => choice(i, g))];
            AnswerLoop loop = new(http, generations, choices, watch, server.KeepAlive);
            if (isStream)
            {
                IAnswerWriter writer = shape.Stream(http.Response, choices);
                using EventStream stream = writer.Stream;
                await loop.StreamAsync(writer);
            }
            else if (await loop.CollectAsync())
            {
                http.Response.ContentType = "application/json";
                using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
                shape.Whole(json, choices);
                await json.FlushAsync(http.RequestAborted);
            }
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
}
