using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>An answer as a chat completion, whole or in chunks; what all chunks have in common is encoded once.</summary>
internal sealed class ChatShape(ServedModel model, ChatRequest request, ReasoningField reasoningField) : IAnswerShape<ChatChoice>
{
    private readonly JsonEncodedText _id = JsonEncodedText.Encode($"chatcmpl-{Guid.NewGuid():N}");
    private readonly JsonEncodedText _model = JsonEncodedText.Encode(model.Names[0], JsonStyle.Writer.Encoder);
    private readonly JsonEncodedText _fingerprint = JsonEncodedText.Encode(model.Fingerprint);
    private readonly long _created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    /// <summary>Ids of tool calls are made once and repeated where a client sees the call again.</summary>
    public static string NewCallId() => "call_" + Guid.NewGuid().ToString("N")[..24];

    public IAnswerWriter Stream(HttpResponse response, IReadOnlyList<ChatChoice> choices) => new ChatStreamWriter(new SseStream(response), this, request, model.Tokenizer, choices);

    public void Whole(Utf8JsonWriter json, IReadOnlyList<ChatChoice> choices)
    {
        Head(json, "chat.completion"u8);
        json.WriteStartArray("choices"u8);
        foreach (ChatChoice choice in choices)
        {
            OutputCollector collected = new();
            collected.AddRange(choice.Events);
            json.WriteStartObject();
            json.WriteNumber("index"u8, choice.Index);
            Message(json, collected, reasoningField);
            if (request.Logprobs >= 0) TokenLogprobWriter.Write(json, model.Tokenizer, choice.Logprobs, request.Sampling.TokensAsIds);
            else json.WriteNull("logprobs"u8);
            json.WriteString("finish_reason"u8, choice.FinishReason);
            choice.StopReason.Write(json);
            if (request.Sampling.ReturnTokenIds) TokenLogprobWriter.Ids(json, "token_ids"u8, choice.TokenIds);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        if (request.Sampling.ReturnTokenIds) TokenLogprobWriter.Ids(json, "prompt_token_ids"u8, request.Prompt);
        UsageOf(choices).Write(json);
        AnswerTimes.Write(json, request.Sampling, choices[0].Generation);
        if (request.Metadata is { } metadata)
        {
            json.WritePropertyName("metadata"u8);
            metadata.WriteTo(json);
        }
        json.WriteEndObject();
    }

    /// <summary>What the request cost so far.</summary>
    public Usage UsageOf(IReadOnlyList<ChatChoice> choices) => Usage.Of(request, choices);

    public void Head(Utf8JsonWriter json, ReadOnlySpan<byte> kind)
    {
        json.WriteStartObject();
        json.WriteString("id"u8, _id);
        json.WriteString("object"u8, kind);
        json.WriteNumber("created"u8, _created);
        json.WriteString("model"u8, _model);
        json.WriteString("system_fingerprint"u8, _fingerprint);
        if (request.EchoServiceTier) json.WriteString("service_tier"u8, "default"u8);
    }

    public void Reasoning(Utf8JsonWriter json, string text) => Reasoning(json, text, reasoningField);

    /// <summary>Writes a thought under the names that are wanted.</summary>
    public static void Reasoning(Utf8JsonWriter json, string text, ReasoningField field)
    {
        if (field != ReasoningField.Reasoning) json.WriteString("reasoning_content"u8, text);
        if (field != ReasoningField.ReasoningContent) json.WriteString("reasoning"u8, text);
    }

    /// <summary>A whole message: content is null beside tool calls without text.</summary>
    public static void Message(Utf8JsonWriter json, OutputCollector collected, ReasoningField field)
    {
        json.WriteStartObject("message"u8);
        json.WriteString("role"u8, "assistant"u8);
        if (collected.Content.Length == 0 && collected.ToolCalls.Count > 0) json.WriteNull("content"u8);
        else json.WriteString("content"u8, collected.Content);
        json.WriteNull("refusal"u8);
        if (collected.Reasoning.Length > 0) Reasoning(json, collected.Reasoning, field);
        if (collected.ToolCalls.Count > 0)
        {
            json.WriteStartArray("tool_calls"u8);
            foreach (CollectedToolCall call in collected.ToolCalls)
            {
                json.WriteStartObject();
                json.WriteString("id"u8, NewCallId());
                json.WriteString("type"u8, "function"u8);
                json.WriteStartObject("function"u8);
                json.WriteString("name"u8, call.Name);
                json.WriteString("arguments"u8, call.ArgumentsJson);
                json.WriteEndObject();
                json.WriteEndObject();
            }
            json.WriteEndArray();
        }
        json.WriteEndObject();
    }
}
