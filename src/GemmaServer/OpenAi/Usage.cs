using System.Text.Json;

namespace GemmaServer;

/// <summary>What a request cost.</summary>
/// <param name="Prompt">Prompt tokens.</param>
/// <param name="Completion">Tokens generated over all choices, stop tokens included.</param>
/// <param name="Reasoning">Those of them spent on thinking.</param>
/// <param name="Cached">Prompt tokens that did not have to be computed.</param>
/// <param name="AcceptedPredictions">Completion tokens that were guessed from the request's prediction.</param>
/// <param name="RejectedPredictions">Tokens of the prediction that were computed and did not come.</param>
internal readonly record struct Usage(int Prompt, int Completion, int Reasoning, int Cached = 0, int AcceptedPredictions = 0, int RejectedPredictions = 0)
{
    /// <summary>What a chat request cost so far.</summary>
    public static Usage Of(ChatRequest request, IReadOnlyList<ChatChoice> choices)
    {
        int tokens = 0, reasoning = 0, accepted = 0, rejected = 0;
        foreach (ChatChoice choice in choices)
        {
            tokens += choice.Tokens;
            reasoning += choice.ReasoningTokens;
            accepted += choice.Generation.AcceptedPredictions;
            rejected += choice.Generation.RejectedPredictions;
        }
        return new(request.Prompt.Length, tokens, reasoning, choices[0].CachedTokens, accepted, rejected);
    }

    public void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject("usage"u8);
        json.WriteNumber("prompt_tokens"u8, Prompt);
        json.WriteNumber("completion_tokens"u8, Completion);
        json.WriteNumber("total_tokens"u8, Prompt + Completion);
        json.WriteStartObject("prompt_tokens_details"u8);
        json.WriteNumber("cached_tokens"u8, Cached);
        json.WriteEndObject();
        json.WriteStartObject("completion_tokens_details"u8);
        json.WriteNumber("reasoning_tokens"u8, Reasoning);
        json.WriteNumber("accepted_prediction_tokens"u8, AcceptedPredictions);
        json.WriteNumber("rejected_prediction_tokens"u8, RejectedPredictions);
        json.WriteEndObject();
        json.WriteEndObject();
    }
}
