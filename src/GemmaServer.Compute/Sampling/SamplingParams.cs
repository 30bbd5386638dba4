namespace GemmaServer.Compute;

/// <summary>How the next token of one sequence is chosen. Immutable; checked by whoever made it.</summary>
/// <remarks>
/// Order of operations: logits → (logprobs are taken here) → <see cref="LogitBias"/>, penalties, bans and what the step allows → temperature →
/// top-k → top-p → min-p → Gumbel-max keyed by (<see cref="Seed"/>, position). The result depends on this sequence alone. Where bans
/// and <see cref="MinTokens"/> would leave nothing of what the step allows, what the step allows wins: an answer whose grammar is
/// complete ends.
/// </remarks>
public sealed class SamplingParams
{
    /// <summary>0 is greedy.</summary>
    public float Temperature { get; init; } = 1f;

    /// <summary>Candidates kept by rank; 0 keeps all.</summary>
    public int TopK { get; init; }

    /// <summary>Candidates kept until their probabilities sum to this; 1 keeps all.</summary>
    public float TopP { get; init; } = 1f;

    /// <summary>Candidates below this share of the best one's probability are dropped; 0 keeps all.</summary>
    public float MinP { get; init; }

    /// <summary>Divides positive and multiplies negative logits of tokens seen in prompt or output; 1 is off.</summary>
    public float RepetitionPenalty { get; init; } = 1f;

    /// <summary>Subtracted per occurrence in the output.</summary>
    public float FrequencyPenalty { get; init; }

    /// <summary>Subtracted once for each token that occurs in the output.</summary>
    public float PresencePenalty { get; init; }

    /// <summary>Key of the random stream; the same seed gives the same tokens.</summary>
    public ulong Seed { get; init; }

    /// <summary>Added to single logits, by token id.</summary>
    public IReadOnlyList<KeyValuePair<int, float>> LogitBias { get; init; } = [];

    /// <summary>Token ids that are never chosen (a checkpoint's suppress_tokens, the call token under tool_choice none).</summary>
    public IReadOnlyList<int> BannedTokens { get; init; } = [];

    /// <summary>Token ids banned while fewer than <see cref="MinTokens"/> tokens were generated.</summary>
    public IReadOnlyList<int> EndTokens { get; init; } = [];

    /// <summary>See <see cref="EndTokens"/>.</summary>
    public int MinTokens { get; init; }

    /// <summary>−1: no logprobs; n ≥ 0: the chosen token's logprob and the n best.</summary>
    public int Logprobs { get; init; } = -1;

    /// <summary>Whether any of the three penalties has an effect.</summary>
    public bool HasPenalties => RepetitionPenalty != 1f || FrequencyPenalty != 0f || PresencePenalty != 0f;
}
