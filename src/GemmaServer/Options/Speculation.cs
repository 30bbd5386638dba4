using GemmaServer.Model;

namespace GemmaServer;

/// <summary>What the options ask of speculative decoding.</summary>
internal static class Speculation
{
    private const int PromptLookupDrafts = 8, DraftsOfOtherSizes = 4;

    /// <summary>Whether guesses come from the sequence's own tokens instead of a drafter: <c>ngram</c>, as vLLM spells it.</summary>
    public static bool IsPromptLookup(ServerOptions options) => options.SpeculativeModel is "ngram" or "[ngram]";

    /// <summary>File or folder of the drafter; null without one.</summary>
    public static string? DrafterPath(ServerOptions options) =>
        string.IsNullOrEmpty(options.SpeculativeModel) || IsPromptLookup(options) ? null : options.SpeculativeModel;

    /// <summary>Most guesses a step for one sequence; what is right for the size where the user does not say.</summary>
    /// <remarks>The published recipes of vLLM; a small model is too cheap for many wrong guesses.</remarks>
    public static int MaxDrafts(ServerOptions options, ModelConfig target) => options.NumSpeculativeTokens
        ?? (IsPromptLookup(options) ? PromptLookupDrafts : target.SizeName switch
        {
            "E2B" => 2,
            "E4B" or "26B-A4B" => 4,
            "12B" or "31B" => 8,
            _ => DraftsOfOtherSizes,
        });
}
