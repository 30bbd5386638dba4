using System.Text;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>An answer as a Messages <c>message</c>: blocks in the order in which they came.</summary>
internal sealed class MessagesShape(ServedModel model, MessagesRequest request) : IAnswerShape<ChatChoice>
{
    private readonly string _id = $"msg_{Guid.NewGuid():N}";

    /// <summary>
    /// Clients send a thought back only with a signature, and check no more than that there is one. Nothing is read from it: a
    /// thought is the client's text like any other.
    /// </summary>
    public string Signature { get; } = Convert.ToBase64String(Encoding.UTF8.GetBytes($"gemmaserver/{Guid.NewGuid():N}"));

    public static string NewToolId() => "toolu_" + Guid.NewGuid().ToString("N")[..24];

    public IAnswerWriter Stream(HttpResponse response, IReadOnlyList<ChatChoice> choices) => new MessagesStreamWriter(response, this, choices[0]);

    public void Whole(Utf8JsonWriter json, IReadOnlyList<ChatChoice> choices)
    {
        ChatChoice choice = choices[0];
        Head(json);
        json.WriteStartArray("content"u8);
        WriteBlocks(json, choice.Events);
        json.WriteEndArray();
        WriteEnd(json, choice);
        WriteUsage(json, choice);
        json.WriteNull("diagnostics"u8);
        json.WriteEndObject();
    }

    /// <summary>What stands before the content, in the object that this opens.</summary>
    public void Head(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("id"u8, _id);
        json.WriteString("type"u8, "message"u8);
        json.WriteString("role"u8, "assistant"u8);
        json.WriteString("model"u8, model.Names[0]);
    }

    /// <summary>Why it ended; nothing of a choice that goes on.</summary>
    public void WriteEnd(Utf8JsonWriter json, ChatChoice? choice)
    {
        string? stop = choice?.StopReason.Text;
        json.WriteString("stop_reason"u8, choice?.FinishReason switch
        {
            null => null,
            "tool_calls" => "tool_use",
            "length" => request.Chat.MaxTokens < request.AskedTokens ? "model_context_window_exceeded" : "max_tokens",
            _ => stop is null ? "end_turn" : "stop_sequence",
        });
        json.WriteString("stop_sequence"u8, stop);
        json.WriteNull("stop_details"u8);
        json.WriteNull("container"u8);
    }

    /// <summary>What it cost so far; tokens that the prefix cache gave are counted apart.</summary>
    public void WriteUsage(Utf8JsonWriter json, ChatChoice choice)
    {
        json.WriteStartObject("usage"u8);
        json.WriteNumber("input_tokens"u8, request.Chat.Prompt.Length - choice.CachedTokens);
        json.WriteNumber("cache_creation_input_tokens"u8, 0);
        json.WriteNumber("cache_read_input_tokens"u8, choice.CachedTokens);
        json.WriteNumber("output_tokens"u8, choice.Tokens);
        json.WriteStartObject("output_tokens_details"u8);
        json.WriteNumber("thinking_tokens"u8, choice.ReasoningTokens);
        json.WriteEndObject();
        json.WriteNull("cache_creation"u8);
        json.WriteNull("server_tool_use"u8);
        json.WriteNull("inference_geo"u8);
        json.WriteNull("speed"u8);
        json.WriteString("service_tier"u8, "standard"u8);
        json.WriteEndObject();
    }

    /// <summary>Who calls: always the model itself, not code that it had run.</summary>
    public static void WriteCaller(Utf8JsonWriter json)
    {
        json.WriteStartObject("caller"u8);
        json.WriteString("type"u8, "direct"u8);
        json.WriteEndObject();
    }

    /// <summary>The blocks of a complete answer. A call that the token limit cut is left out: its input is no JSON.</summary>
    private void WriteBlocks(Utf8JsonWriter json, List<OutputEvent> events)
    {
        OutputRuns runs = new();
        string name = "", input = "";
        for (int i = 0; i < events.Count; i++)
        {
            OutputEvent output = events[i];
            switch (output.Kind)
            {
                case OutputEventKind.Content:
                    json.WriteStartObject();
                    json.WriteString("type"u8, "text"u8);
                    json.WriteString("text"u8, runs.Next(events, ref i));
                    json.WriteNull("citations"u8);
                    json.WriteEndObject();
                    break;
                case OutputEventKind.Reasoning:
                    json.WriteStartObject();
                    json.WriteString("type"u8, "thinking"u8);
                    json.WriteString("thinking"u8, runs.Next(events, ref i));
                    json.WriteString("signature"u8, Signature);
                    json.WriteEndObject();
                    break;
                case OutputEventKind.ToolCallStart:
                    (name, input) = (output.Text, "{}");
                    break;
                case OutputEventKind.ToolCallArguments:
                    input = runs.Next(events, ref i);
                    break;
                case OutputEventKind.ToolCallEnd:
                    json.WriteStartObject();
                    json.WriteString("type"u8, "tool_use"u8);
                    json.WriteString("id"u8, NewToolId());
                    json.WriteString("name"u8, name);
                    json.WritePropertyName("input"u8);
                    json.WriteRawValue(input, skipInputValidation: true);
                    WriteCaller(json);
                    json.WriteEndObject();
                    break;
            }
        }
    }
}
