using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>A chat request, checked and rendered. Nothing behind it asks again whether a value is valid.</summary>
internal sealed class ChatRequest
{
    public required SamplingFields Sampling { get; init; }

    public required int[] Prompt { get; init; }

    /// <summary>Prompt tokens before the generation prompt: what the conversation's next turn repeats.</summary>
    public required int GenerationStart { get; init; }

    /// <summary>Whether the prompt left a thought channel open.</summary>
    public required PromptState Start { get; init; }

    public required bool EnableThinking { get; init; }

    public required int MaxTokens { get; init; }

    /// <summary>−1: none; n ≥ 0: the chosen token's logprob and the n best.</summary>
    public required int Logprobs { get; init; }

    public required bool IncludeReasoning { get; init; }

    /// <summary>False ends the answer after its first tool call.</summary>
    public required bool ParallelToolCalls { get; init; }

    /// <summary>The grammar of the answer; null where any will do.</summary>
    public AnswerConstraint? Constraint { get; init; }

    /// <summary>Most tokens of thoughts; null for any number.</summary>
    public int? ThoughtBudget { get; init; }

    /// <summary>Tokens that the client expects; null for none.</summary>
    public int[]? Prediction { get; init; }

    /// <summary>Echoed when the client sent one.</summary>
    public required JsonElement? Metadata { get; init; }

    /// <summary>Whether to answer with a service tier because the client asked for one.</summary>
    public required bool EchoServiceTier { get; init; }
}
