using System.Diagnostics;
using System.Text.Json;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>An answer as Ollama's objects: one with everything, or a line for each piece and a last one with the figures.</summary>
internal sealed class OllamaShape(OllamaRequest request) : IAnswerShape<ChatChoice>, IAnswerShape<CompletionChoice>
{
    public IAnswerWriter Stream(HttpResponse response, IReadOnlyList<ChatChoice> choices) => new OllamaChatLines(response, this, choices[0]);

    public IAnswerWriter Stream(HttpResponse response, IReadOnlyList<CompletionChoice> choices) => new OllamaTextLines(response, this, choices[0]);

    public void Whole(Utf8JsonWriter json, IReadOnlyList<ChatChoice> choices)
    {
        OutputCollector collected = new();
        collected.AddRange(choices[0].Events);
        Head(json);
        Piece(json, collected.Content, collected.Reasoning, collected.ToolCalls, firstCall: 0);
        End(json, choices[0]);
    }

    public void Whole(Utf8JsonWriter json, IReadOnlyList<CompletionChoice> choices)
    {
        Head(json);
        Piece(json, choices[0].Text.ToString(), thinking: "", calls: [], firstCall: 0);
        End(json, choices[0]);
    }

    /// <summary>What is said of a model that only had to be loaded.</summary>
    public void Loaded(Utf8JsonWriter json)
    {
        Head(json);
        Piece(json, "", thinking: "", calls: [], firstCall: 0);
        json.WriteString("done_reason"u8, "load"u8);
        json.WriteBoolean("done"u8, true);
        json.WriteEndObject();
    }

    /// <summary>Opens an object.</summary>
    public void Head(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("model"u8, request.Model);
        json.WriteString("created_at"u8, DateTime.UtcNow);
    }

    /// <summary>Writes what came; empty thinking and no calls are left out.</summary>
    public void Piece(Utf8JsonWriter json, string content, string thinking, IReadOnlyList<CollectedToolCall> calls, int firstCall)
    {
        if (request.IsGenerate) json.WriteString("response"u8, content);
        else
        {
            json.WriteStartObject("message"u8);
            json.WriteString("role"u8, "assistant"u8);
            json.WriteString("content"u8, content);
        }
        if (thinking.Length > 0) json.WriteString("thinking"u8, thinking);
        if (request.IsGenerate) return;
        if (calls.Count > 0) Calls(json, calls, firstCall);
        json.WriteEndObject();
    }

    public void End(Utf8JsonWriter json, ChatChoice choice) => End(json, choice.FinishReason, choice.Generation, choice.Tokens);

    public void End(Utf8JsonWriter json, CompletionChoice choice) => End(json, choice.FinishReason, choice.Generation, choice.Tokens);

    private static void Calls(Utf8JsonWriter json, IReadOnlyList<CollectedToolCall> calls, int firstCall)
    {
        json.WriteStartArray("tool_calls"u8);
        for (int i = 0; i < calls.Count; i++)
        {
            json.WriteStartObject();
            json.WriteString("id"u8, ChatShape.NewCallId());
            json.WriteStartObject("function"u8);
            json.WriteNumber("index"u8, firstCall + i);
            json.WriteString("name"u8, calls[i].Name);
            json.WritePropertyName("arguments"u8);
            json.WriteRawValue(calls[i].ArgumentsJson, skipInputValidation: true);
            json.WriteEndObject();
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    /// <summary>Closes the last object with the figures, in nanoseconds. Loading is the wait for a place: the model itself is loaded.</summary>
    private static void End(Utf8JsonWriter json, string? finish, Generation times, int tokens)
    {
        long end = times.FinishedAt != 0 ? times.FinishedAt : Stopwatch.GetTimestamp();     // 0 where we ended it ourselves
        long admitted = times.AdmittedAt != 0 ? times.AdmittedAt : end;
        long first = times.FirstTokenAt != 0 ? times.FirstTokenAt : end;
        json.WriteString("done_reason"u8, finish == "length" ? "length"u8 : "stop"u8);
        json.WriteBoolean("done"u8, true);
        json.WriteNumber("total_duration"u8, Nanoseconds(times.QueuedAt, end));
        json.WriteNumber("load_duration"u8, Nanoseconds(times.QueuedAt, admitted));
        json.WriteNumber("prompt_eval_count"u8, times.PromptTokens);
        json.WriteNumber("prompt_eval_duration"u8, Nanoseconds(admitted, first));
        json.WriteNumber("eval_count"u8, tokens);
        json.WriteNumber("eval_duration"u8, Nanoseconds(first, end));
        json.WriteEndObject();
    }

    // Clients divide by it.
    private static long Nanoseconds(long from, long to) => Math.Max(1, Stopwatch.GetElapsedTime(from, to).Ticks * 100);
}
