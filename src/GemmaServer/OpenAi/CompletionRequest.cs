namespace GemmaServer;

/// <summary>A text completion request, checked and tokenized.</summary>
internal sealed class CompletionRequest
{
    public required SamplingFields Sampling { get; init; }

    /// <summary>At least one.</summary>
    public required IReadOnlyList<CompletionPrompt> Prompts { get; init; }

    /// <summary>0 only with <see cref="Echo"/>.</summary>
    public required int MaxTokens { get; init; }

    /// <summary>−1: none; n ≥ 0: the chosen token's logprob and the n best.</summary>
    public required int Logprobs { get; init; }

    /// <summary>Whether the prompt stands before the answer.</summary>
    public required bool Echo { get; init; }

    /// <summary>The grammar of the answer; null where any will do.</summary>
    public required AnswerConstraint? Constraint { get; init; }
}

/// <summary>One prompt of a completion request.</summary>
/// <param name="Text">As echoed.</param>
/// <param name="Tokens">At least one.</param>
internal sealed record CompletionPrompt(string Text, int[] Tokens);
