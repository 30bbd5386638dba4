using System.Text.Json;

namespace GemmaServer;

/// <summary>What a client named as a stop and the answer ended at: vLLM's <c>stop_reason</c>. Null beside every other end.</summary>
/// <param name="Text">The stop string; null where a token ended it.</param>
/// <param name="Token">The token of <c>stop_token_ids</c>.</param>
internal readonly record struct StopReason(string? Text, int? Token)
{
    /// <summary>What an answer ended at that has come to its end.</summary>
    /// <param name="filter">Null without stop strings.</param>
    /// <param name="last">The last token of the answer.</param>
    /// <param name="isStop">Whether that token ended it.</param>
    /// <param name="named">The tokens that the client named.</param>
    public static StopReason Of(Text.StopTextFilter? filter, int last, bool isStop, IReadOnlyList<int> named) =>
        filter?.MatchedStop is { } text ? new(text, null) : isStop && named.Contains(last) ? new(null, last) : default;

    public void Write(Utf8JsonWriter json)
    {
        if (Token is { } token) json.WriteNumber("stop_reason"u8, token);
        else json.WriteString("stop_reason"u8, Text);
    }
}
