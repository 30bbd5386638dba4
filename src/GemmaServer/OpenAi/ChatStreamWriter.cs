using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Writes chat chunks: the role first, then deltas as they settle, the reason of the end, the usage if wanted.</summary>
internal sealed class ChatStreamWriter(SseStream stream, ChatShape shape, ChatRequest request, Tokenizer tokenizer, IReadOnlyList<ChatChoice> choices)
    : IAnswerWriter
{
    private readonly OutputRuns _runs = new();
    private readonly bool[] _finished = new bool[choices.Count];
    private bool _toldPrompt = !request.Sampling.ReturnTokenIds;

    public EventStream Stream => stream;

    /// <summary>One chunk per choice with its role.</summary>
    public void Open()
    {
        foreach (ChatChoice choice in choices)
        {
            Utf8JsonWriter json = BeginChunk(choice);
            json.WriteString("role"u8, "assistant"u8);
            json.WriteString("content"u8, ""u8);
            EndChunk(choice, finish: null, withLogprobs: false);
        }
    }

    /// <summary>Everything that settled since the last time.</summary>
    public void Write()
    {
        foreach (ChatChoice choice in choices)
        {
            WriteDeltas(choice);
            if (choice.FinishReason is not { } reason || _finished[choice.Index]) continue;
            _finished[choice.Index] = true;
            BeginChunk(choice);
            EndChunk(choice, reason, withLogprobs: choice.Logprobs.Count > 0);
        }
    }

    /// <summary>The usage chunk, whose choices are empty, and the end mark.</summary>
    public void Close()
    {
        SamplingFields sampling = request.Sampling;
        if (sampling.IncludeUsage || sampling.WantsMetrics || sampling.WantsTimings)
        {
            Utf8JsonWriter json = stream.Begin();
            shape.Head(json, "chat.completion.chunk"u8);
            json.WriteStartArray("choices"u8);
            json.WriteEndArray();
            if (sampling.IncludeUsage) shape.UsageOf(choices).Write(json);
            AnswerTimes.Write(json, sampling, choices[0].Generation);
            json.WriteEndObject();
            stream.End();
        }
        stream.Done();
    }

    /// <summary>The error, without an end mark.</summary>
    public void Fail(ApiError error)
    {
        error.Write(stream.Begin());
        stream.End();
    }

    private void WriteDeltas(ChatChoice choice)
    {
        List<OutputEvent> events = choice.Events;
        for (int i = 0; i < events.Count; i++)
        {
            OutputEvent output = events[i];
            switch (output.Kind)
            {
                case OutputEventKind.Content:
                    Utf8JsonWriter json = BeginChunk(choice);
                    json.WriteString("content"u8, _runs.Next(events, ref i));
                    EndChunk(choice, finish: null, withLogprobs: true);
                    break;
                case OutputEventKind.Reasoning:
                    json = BeginChunk(choice);
                    shape.Reasoning(json, _runs.Next(events, ref i));
                    EndChunk(choice, finish: null, withLogprobs: false);
                    break;
                case OutputEventKind.ToolCallStart:
                    json = BeginCall(choice, output.ToolIndex);
                    json.WriteString("id"u8, ChatShape.NewCallId());
                    json.WriteString("type"u8, "function"u8);
                    json.WriteStartObject("function"u8);
                    json.WriteString("name"u8, output.Text);
                    json.WriteString("arguments"u8, ""u8);
                    EndCall(choice);
                    break;
                case OutputEventKind.ToolCallArguments:
                    json = BeginCall(choice, output.ToolIndex);
                    json.WriteStartObject("function"u8);
                    json.WriteString("arguments"u8, _runs.Next(events, ref i));
                    EndCall(choice);
                    break;
            }
        }
        events.Clear();
    }

    private Utf8JsonWriter BeginCall(ChatChoice choice, int index)
    {
        Utf8JsonWriter json = BeginChunk(choice);
        json.WriteStartArray("tool_calls"u8);
        json.WriteStartObject();
        json.WriteNumber("index"u8, index);
        return json;
    }

    private void EndCall(ChatChoice choice)
    {
        stream.Json.WriteEndObject();
        stream.Json.WriteEndObject();
        stream.Json.WriteEndArray();
        EndChunk(choice, finish: null, withLogprobs: false);
    }

    private Utf8JsonWriter BeginChunk(ChatChoice choice)
    {
        Utf8JsonWriter json = stream.Begin();
        shape.Head(json, "chat.completion.chunk"u8);
        json.WriteStartArray("choices"u8);
        json.WriteStartObject();
        json.WriteNumber("index"u8, choice.Index);
        json.WriteStartObject("delta"u8);
        return json;
    }

    private void EndChunk(ChatChoice choice, string? finish, bool withLogprobs)
    {
        Utf8JsonWriter json = stream.Json;
        json.WriteEndObject();
        if (withLogprobs && request.Logprobs >= 0)
        {
            TokenLogprobWriter.Write(json, tokenizer, choice.Logprobs, request.Sampling.TokensAsIds);
            choice.Logprobs.Clear();
        }
        else json.WriteNull("logprobs"u8);
        json.WriteString("finish_reason"u8, finish);
        if (finish is not null) choice.StopReason.Write(json);
        if (request.Sampling.ReturnTokenIds)
        {
            TokenLogprobWriter.Ids(json, "token_ids"u8, choice.TokenIds);
            choice.TokenIds.Clear();
        }
        json.WriteEndObject();
        json.WriteEndArray();
        if (!_toldPrompt)
        {
            TokenLogprobWriter.Ids(json, "prompt_token_ids"u8, request.Prompt);
            _toldPrompt = true;
        }
        if (request.Sampling.ContinuousUsage) shape.UsageOf(choices).Write(json);
        else if (request.Sampling.IncludeUsage) json.WriteNull("usage"u8);
        json.WriteEndObject();
        stream.End();
    }
}
