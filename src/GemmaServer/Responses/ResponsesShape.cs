using System.Buffers;
using System.Text.Json;

namespace GemmaServer;

/// <summary>An answer as a response object, whole or streamed; keeps it in the store when it is complete.</summary>
internal sealed class ResponsesShape(ServedModel model, ResponsesRequest request, ResponseStore store) : IAnswerShape<ChatChoice>
{
    public IAnswerWriter Stream(HttpResponse response, IReadOnlyList<ChatChoice> choices)
    {
        SseStream stream = new(response);
        return new ResponsesStreamWriter(stream, this, new ResponseEvents(stream, model.Tokenizer, request.SealThoughts), choices[0]);
    }

    public void Whole(Utf8JsonWriter json, IReadOnlyList<ChatChoice> choices)
    {
        ResponseOutput output = new(null);
        output.Take(choices[0]);
        output.Finish(choices[0]);
        json.WriteRawValue(Complete(output.Items, choices[0]).Span, skipInputValidation: true);
    }

    /// <summary>Makes the object of a response that is complete, and keeps it before the client can ask for it.</summary>
    public ReadOnlyMemory<byte> Complete(IReadOnlyList<OutputItem> items, ChatChoice choice)
    {
        ArrayBufferWriter<byte> body = new(4096);
        using (Utf8JsonWriter json = new(body, JsonStyle.Writer)) Write(json, choice.FinishReason == "length" ? "incomplete"u8 : "completed"u8, items, choice);
        if (request.Store) store.Add(new StoredResponse(request.Id, request.Owner, request.PreviousId, request.Input.ToArray(), body.WrittenSpan.ToArray()));
        return body.WrittenMemory;
    }

    /// <summary>Writes the response object.</summary>
    public void Write(Utf8JsonWriter json, ReadOnlySpan<byte> status, IReadOnlyList<OutputItem> items, ChatChoice choice, ApiError? error = null)
    {
        json.WriteStartObject();
        json.WriteString("id"u8, request.Id);
        json.WriteString("object"u8, "response"u8);
        json.WriteNumber("created_at"u8, request.CreatedAt);
        if (status.SequenceEqual("completed"u8)) json.WriteNumber("completed_at"u8, DateTimeOffset.UtcNow.ToUnixTimeSeconds());
        else json.WriteNull("completed_at"u8);
        json.WriteString("status"u8, status);
        WriteError(json, error);
        if (status.SequenceEqual("incomplete"u8))
        {
            json.WriteStartObject("incomplete_details"u8);
            json.WriteString("reason"u8, "max_output_tokens"u8);
            json.WriteEndObject();
        }
        else json.WriteNull("incomplete_details"u8);
        json.WriteString("model"u8, model.Names[0]);
        json.WriteStartArray("output"u8);
        foreach (OutputItem item in items) item.Write(json, model.Tokenizer, request.SealThoughts);
        json.WriteEndArray();
        request.Echo.Write(json);
        json.WriteBoolean("store"u8, request.Store);
        json.WritePropertyName("metadata"u8);
        if (request.Chat.Metadata is { } metadata) metadata.WriteTo(json);
        else
        {
            json.WriteStartObject();
            json.WriteEndObject();
        }
        WriteUsage(json, Usage.Of(request.Chat, [choice]));
        json.WriteEndObject();
    }

    private static void WriteError(Utf8JsonWriter json, ApiError? error)
    {
        if (error is null)
        {
            json.WriteNull("error"u8);
            return;
        }
        json.WriteStartObject("error"u8);
        json.WriteString("code"u8, "server_error"u8);   // the published list of codes has no finer ones
        json.WriteString("message"u8, error.Message);
        json.WriteEndObject();
    }

    /// <summary>Known from the first event on: clients' schemas want it in all of them.</summary>
    private static void WriteUsage(Utf8JsonWriter json, Usage usage)
    {
        json.WriteStartObject("usage"u8);
        json.WriteNumber("input_tokens"u8, usage.Prompt);
        json.WriteStartObject("input_tokens_details"u8);
        json.WriteNumber("cached_tokens"u8, usage.Cached);
        json.WriteNumber("cache_write_tokens"u8, 0);
        json.WriteEndObject();
        json.WriteNumber("output_tokens"u8, usage.Completion);
        json.WriteStartObject("output_tokens_details"u8);
        json.WriteNumber("reasoning_tokens"u8, usage.Reasoning);
        json.WriteEndObject();
        json.WriteNumber("total_tokens"u8, usage.Prompt + usage.Completion);
        json.WriteEndObject();
    }
}
