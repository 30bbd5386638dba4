using System.Text.Json;
using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer;

/// <summary>An answer as <c>text_completion</c> objects; chunks and whole answers have the same shape.</summary>
internal sealed class CompletionShape(ServedModel model, CompletionRequest request) : IAnswerShape<CompletionChoice>
{
    private readonly JsonEncodedText _id = JsonEncodedText.Encode($"cmpl-{Guid.NewGuid():N}");
    private readonly JsonEncodedText _model = JsonEncodedText.Encode(model.Names[0], JsonStyle.Writer.Encoder);
    private readonly JsonEncodedText _fingerprint = JsonEncodedText.Encode(model.Fingerprint);
    private readonly long _created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    public IAnswerWriter Stream(HttpResponse response, IReadOnlyList<CompletionChoice> choices) => new Chunks(new SseStream(response), this, request, choices);

    public void Whole(Utf8JsonWriter json, IReadOnlyList<CompletionChoice> choices)
    {
        Head(json);
        json.WriteStartArray("choices"u8);
        foreach (CompletionChoice choice in choices) Choice(json, choice, withFinish: true);
        json.WriteEndArray();
        UsageOf(choices).Write(json);
        AnswerTimes.Write(json, request.Sampling, choices[0].Generation);
        json.WriteEndObject();
    }

    private Usage UsageOf(IReadOnlyList<CompletionChoice> choices) => new(request.Prompts.Sum(static p => p.Tokens.Length), choices.Sum(static c => c.Tokens), 0,
        choices.Where(c => c.Index % request.Sampling.N == 0).Sum(static c => c.CachedTokens));     // a prompt counts once, as in prompt_tokens

    private void Head(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("id"u8, _id);
        json.WriteString("object"u8, "text_completion"u8);
        json.WriteNumber("created"u8, _created);
        json.WriteString("model"u8, _model);
        json.WriteString("system_fingerprint"u8, _fingerprint);
    }

    /// <summary>A choice with what has settled; takes it out.</summary>
    private void Choice(Utf8JsonWriter json, CompletionChoice choice, bool withFinish)
    {
        json.WriteStartObject();
        json.WriteNumber("index"u8, choice.Index);
        json.WriteString("text"u8, choice.Text.ToString());
        choice.Text.Clear();
        if (request.Logprobs >= 0) Logprobs(json, choice);
        else json.WriteNull("logprobs"u8);
        json.WriteString("finish_reason"u8, withFinish ? choice.FinishReason : null);
        if (withFinish) choice.StopReason.Write(json);
        if (request.Sampling.ReturnTokenIds)
        {
            TokenLogprobWriter.Ids(json, "token_ids"u8, choice.TokenIds);
            choice.TokenIds.Clear();
            if (choice.TakePromptTokens() is { } prompt) TokenLogprobWriter.Ids(json, "prompt_token_ids"u8, prompt);
        }
        json.WriteEndObject();
    }

    private void Logprobs(Utf8JsonWriter json, CompletionChoice choice)
    {
        List<TokenEvent> tokens = choice.Logprobs;
        json.WriteStartObject("logprobs"u8);
        json.WriteStartArray("tokens"u8);
        foreach (TokenEvent token in tokens) json.WriteStringValue(choice.NameOf(token.Token));
        json.WriteEndArray();

        json.WriteStartArray("token_logprobs"u8);
        foreach (TokenEvent token in tokens)
        {
            if (float.IsNaN(token.Logprob)) json.WriteNullValue();
            else json.WriteNumberValue(TokenLogprobWriter.Finite(token.Logprob));
        }
        json.WriteEndArray();

        json.WriteStartArray("top_logprobs"u8);
        foreach (TokenEvent token in tokens) Top(json, choice, token);
        json.WriteEndArray();

        json.WriteStartArray("text_offset"u8);
        foreach (TokenEvent token in tokens)
        {
            json.WriteNumberValue(choice.Offset);
            choice.Offset += choice.LengthOf(token.Token);
        }
        json.WriteEndArray();
        json.WriteEndObject();
        tokens.Clear();
    }

    /// <summary>The best tokens, and the chosen one where it is not among them; null before the first token of a text.</summary>
    private static void Top(Utf8JsonWriter json, CompletionChoice choice, in TokenEvent token)
    {
        if (float.IsNaN(token.Logprob))
        {
            json.WriteNullValue();
            return;
        }
        // Two tokens can have the same text, and a JSON object must not name one twice.
        HashSet<string> names = [choice.NameOf(token.Token)];
        json.WriteStartObject();
        json.WriteNumber(names.First(), TokenLogprobWriter.Finite(token.Logprob));
        foreach (TokenLogprob top in token.TopLogprobs ?? [])
        {
            if (choice.NameOf(top.Token) is var name && names.Add(name)) json.WriteNumber(name, TokenLogprobWriter.Finite(top.Logprob));
        }
        json.WriteEndObject();
    }

    private sealed class Chunks(SseStream stream, CompletionShape shape, CompletionRequest request, IReadOnlyList<CompletionChoice> choices) : IAnswerWriter
    {
        private readonly bool[] _finished = new bool[choices.Count];

        public EventStream Stream => stream;

        public void Open()
        {
        }

        /// <summary>Chunks of all choices that have something to say.</summary>
        public void Write()
        {
            foreach (CompletionChoice choice in choices)
            {
                bool isLast = choice.FinishReason is not null && !_finished[choice.Index];
                if (choice.Text.Length == 0 && !isLast) continue;
                _finished[choice.Index] |= isLast;
                Utf8JsonWriter json = stream.Begin();
                shape.Head(json);
                json.WriteStartArray("choices"u8);
                shape.Choice(json, choice, isLast);
                json.WriteEndArray();
                if (request.Sampling.ContinuousUsage) shape.UsageOf(choices).Write(json);
                else if (request.Sampling.IncludeUsage) json.WriteNull("usage"u8);
                json.WriteEndObject();
                stream.End();
            }
        }

        /// <summary>The usage chunk, whose choices are empty, and the end mark.</summary>
        public void Close()
        {
            SamplingFields sampling = request.Sampling;
            if (sampling.IncludeUsage || sampling.WantsMetrics || sampling.WantsTimings)
            {
                Utf8JsonWriter json = stream.Begin();
                shape.Head(json);
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
    }
}
