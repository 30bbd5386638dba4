using GemmaServer.Compute;
using GemmaServer.Text;

namespace GemmaServer.Engine;

/// <summary>Everything the engine needs for one answer: rendered, tokenized, checked. Nothing asks again whether a value is valid.</summary>
public sealed class GenerationRequest
{
    /// <summary>For logs; the HTTP request's id.</summary>
    public required string Id { get; init; }

    /// <summary>Prompt token ids, at least one, fewer than the model's length.</summary>
    public required int[] Prompt { get; init; }

    /// <summary>How tokens are chosen.</summary>
    public required SamplingParams Sampling { get; init; }

    /// <summary>Most tokens to generate; 0 only computes the prompt (echo with logprobs). The model's length bounds it too.</summary>
    public required int MaxTokens { get; init; }

    /// <summary>Token ids that end the answer with <see cref="FinishReason.Stop"/>; the token itself is still reported.</summary>
    public IReadOnlyList<int> StopTokens { get; init; } = [];

    /// <summary>Ends the answer when a stop string appears in visible text; null when there is none.</summary>
    public StopMatcher? Stop { get; init; }

    /// <summary>Which tokens the answer may have; null where any. Not shared with another request.</summary>
    public TokenConstraint? Constraint { get; init; }

    /// <summary>Tokens that the answer is expected to have: guesses for speculation, whether or not anybody else guesses; null for none.</summary>
    public int[]? Prediction { get; init; }

    /// <summary>Most guesses a step, within what the engine does; 0 for none, null leaves it to the engine.</summary>
    public int? MaxDrafts { get; init; }

    /// <summary>−1: none; n ≥ 0: the logprob of every prompt token and the n best at its place; such a request does not use the prefix cache.</summary>
    public int PromptLogprobs { get; init; } = -1;

    /// <summary>Requests share cached prefixes only with those of the same salt; null is shared among all that have none.</summary>
    public string? CacheSalt { get; init; }

    /// <summary>
    /// Prompt tokens that the conversation's next turn is likely to repeat: those before the generation prompt. The prefix
    /// cache keeps the sliding windows there. Null: the whole prompt.
    /// </summary>
    public int? CacheBoundary { get; init; }

    /// <summary>When the request must have left the queue; null waits for ever.</summary>
    public TimeSpan? QueueTimeout { get; init; }

    /// <summary>How long the whole answer may take, from now on; null takes the time it takes.</summary>
    public TimeSpan? Timeout { get; init; }

    /// <summary>Lower is served earlier, as in vLLM; a worse one waits as long as better ones come.</summary>
    public int Priority { get; init; }

    /// <summary>Who asks, as a name that may be kept in memory: clients of one priority are served in turn. Null is a client, too.</summary>
    public string? Client { get; init; }
}

/// <summary>Why an answer ended.</summary>
public enum FinishReason
{
    /// <summary>Still going.</summary>
    None,

    /// <summary>A stop token or stop string.</summary>
    Stop,

    /// <summary>The token limit, or the context is full.</summary>
    Length,

    /// <summary>The client went away, or the server is shutting down.</summary>
    Abort,

    /// <summary>It waited longer in the queue than it wanted.</summary>
    QueueTimeout,

    /// <summary>The answer was not complete when its time was over.</summary>
    Deadline,

    /// <summary>The engine failed; see the log.</summary>
    Error,
}

/// <summary>One thing that happened to a request, in order: a token, the end, or both.</summary>
/// <param name="Token">The token; −1 for an end without one.</param>
/// <param name="Logprob">NaN where not asked for.</param>
/// <param name="TopLogprobs">The best tokens; null where not asked for.</param>
/// <param name="Finish">None while it goes on. The event with any other value is the last one.</param>
public readonly record struct TokenEvent(int Token, float Logprob, TokenLogprob[]? TopLogprobs, FinishReason Finish);
