using System.Text.Json;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Writes the events of a streamed response, numbered from 0.</summary>
internal sealed class ResponseEvents(SseStream stream, Tokenizer tokenizer, bool sealThoughts)
{
    private int _number;

    /// <summary>An event about the whole response, which <paramref name="response"/> writes as a value.</summary>
    public void Response(ReadOnlySpan<byte> type, Action<Utf8JsonWriter> response)
    {
        Utf8JsonWriter json = Begin(type);
        json.WritePropertyName("response"u8);
        response(json);
        End();
    }

    /// <summary>An item begins.</summary>
    public void Added(OutputItem item, int place)
    {
        Item("response.output_item.added"u8, item, place);
        if (item.Kind != OutputItemKind.Call) Part("response.content_part.added"u8, item, place);
    }

    /// <summary>More of an item.</summary>
    public void Delta(OutputItem item, int place, string text, IReadOnlyList<TokenEvent> logprobs)
    {
        Utf8JsonWriter json = Begin(
            item.Kind switch
            {
                OutputItemKind.Reasoning => "response.reasoning_text.delta"u8,
                OutputItemKind.Message => "response.output_text.delta"u8,
                _ => "response.function_call_arguments.delta"u8,
            }, item, place);
        json.WriteString("delta"u8, text);
        if (item.Kind == OutputItemKind.Message) WriteLogprobs(json, logprobs);
        End();
    }

    /// <summary>An item is over.</summary>
    public void Done(OutputItem item, int place)
    {
        if (item.Kind == OutputItemKind.Call)
        {
            // Who runs functions waits for this one: arguments that were cut are not done.
            if (item.Status == OutputItemStatus.Completed) ArgumentsDone(item, place);
        }
        else
        {
            Utf8JsonWriter json = Begin(item.Kind == OutputItemKind.Reasoning ? "response.reasoning_text.done"u8 : "response.output_text.done"u8, item, place);
            json.WriteString("text"u8, item.Text.ToString());
            if (item.Kind == OutputItemKind.Message) WriteLogprobs(json, item.Logprobs);
            End();
            Part("response.content_part.done"u8, item, place);
        }
        Item("response.output_item.done"u8, item, place);
    }

    private void ArgumentsDone(OutputItem item, int place)
    {
        Utf8JsonWriter json = Begin("response.function_call_arguments.done"u8, item, place);
        json.WriteString("name"u8, item.Name);
        json.WriteString("arguments"u8, item.Text.ToString());
        End();
    }

    private void Item(ReadOnlySpan<byte> type, OutputItem item, int place)
    {
        Utf8JsonWriter json = Begin(type);
        json.WriteNumber("output_index"u8, place);
        json.WritePropertyName("item"u8);
        item.Write(json, tokenizer, sealThoughts);
        End();
    }

    private void Part(ReadOnlySpan<byte> type, OutputItem item, int place)
    {
        Utf8JsonWriter json = Begin(type, item, place);
        json.WritePropertyName("part"u8);
        item.WritePart(json, tokenizer);
        End();
    }

    private void WriteLogprobs(Utf8JsonWriter json, IReadOnlyList<TokenEvent> logprobs)
    {
        json.WritePropertyName("logprobs"u8);
        TokenLogprobWriter.WriteArray(json, tokenizer, logprobs);
    }

    /// <summary>Opens an event about an item, or about the one part that it has.</summary>
    private Utf8JsonWriter Begin(ReadOnlySpan<byte> type, OutputItem item, int place)
    {
        Utf8JsonWriter json = Begin(type);
        json.WriteString("item_id"u8, item.Id);
        json.WriteNumber("output_index"u8, place);
        if (item.Kind != OutputItemKind.Call) json.WriteNumber("content_index"u8, 0);
        return json;
    }

    private Utf8JsonWriter Begin(ReadOnlySpan<byte> type)
    {
        Utf8JsonWriter json = stream.Begin(type);
        json.WriteStartObject();
        json.WriteString("type"u8, type);
        json.WriteNumber("sequence_number"u8, _number++);
        return json;
    }

    private void End()
    {
        stream.Json.WriteEndObject();
        stream.End();
    }
}
