using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Tests;
using GemmaServer.Text;

namespace GemmaServer.GoldenTests;

/// <summary>All that an answer depends on, and the answers that it gets alone: one for each choice.</summary>
internal sealed class SoakCase
{
    private static readonly Lazy<Tokenizer> s_tokenizer = new(static () =>
    {
        using FileStream json = File.OpenRead(GoldenData.At("tok512", "tokenizer.json"));
        return Tokenizer.FromJson(json);
    });

    public required int[] Prompt { get; init; }

    /// <summary>By choice; these differ in the seed.</summary>
    public required SamplingParams[] Samplings { get; init; }

    public required int MaxTokens { get; init; }

    public int[] StopTokens { get; init; } = [];

    public string[] StopStrings { get; init; } = [];

    public bool IsConstrained { get; init; }

    public int PromptLogprobs { get; init; } = -1;

    public int Choices => Samplings.Length;

    /// <summary>By choice.</summary>
    public SoakAnswer[] Expected { get; set; } = [];

    /// <summary>One choice as it is asked; stop strings and constraints are new each time, because they keep a state.</summary>
    public GenerationRequest ToRequest(int choice, SoakManner manner) => new()
    {
        Id = "soak",
        Prompt = Prompt,
        Sampling = Samplings[choice],
        MaxTokens = MaxTokens,
        StopTokens = StopTokens,
        Stop = StopStrings.Length > 0 ? new StopMatcher(s_tokenizer.Value, StopStrings, thoughtOpen: false) : null,
        Constraint = IsConstrained ? new ThirdsConstraint(s_tokenizer.Value.VocabularySize) : null,
        PromptLogprobs = PromptLogprobs,
        Client = manner.Client,
        Priority = manner.Priority,
        CacheSalt = manner.Salt,
        CacheBoundary = manner.Boundary,
        QueueTimeout = manner.QueueTimeout,
        Timeout = manner.Timeout,
    };
}

/// <summary>How a case is asked: what must not change a whole answer.</summary>
/// <param name="Client">Who asks.</param>
/// <param name="Priority">Lower goes first.</param>
/// <param name="Salt">Of the prefix cache.</param>
/// <param name="Boundary">Where the prefix cache should keep the windows.</param>
/// <param name="QueueTimeout">Patience in the queue.</param>
/// <param name="Timeout">Patience in all.</param>
/// <param name="CancelAfterMs">When one choice is cancelled; null for never.</param>
/// <param name="CancelAfterTokens">After how many tokens one choice is cancelled; null for never.</param>
internal sealed record SoakManner(
    string? Client = null, int Priority = 0, string? Salt = null, int? Boundary = null, TimeSpan? QueueTimeout = null, TimeSpan? Timeout = null,
    int? CancelAfterMs = null, int? CancelAfterTokens = null);

/// <summary>A case as one client asks it.</summary>
internal sealed record SoakRequest(SoakCase Case, SoakManner Manner, int CancelledChoice)
{
    public GenerationRequest[] ToRequests() => [.. Enumerable.Range(0, Case.Choices).Select(i => Case.ToRequest(i, Manner))];

    /// <summary>Reads a choice to its end, cancels it where that is wanted, and compares.</summary>
    /// <returns>Why it ended.</returns>
    public async Task<FinishReason> ReadAsync(int choice, Generation generation)
    {
        bool cancels = choice == CancelledChoice;
        Task cancelled = cancels && Manner.CancelAfterMs is int ms ? CancelAsync(generation, ms) : Task.CompletedTask;
        SoakAnswer answer = new(generation);
        if (cancels && Manner.CancelAfterTokens == 0) generation.Cancel();
        while (await generation.WaitToReadAsync())
        {
            while (generation.TryRead(out TokenEvent e))
            {
                answer.Events.Add(e);
                if (cancels && Manner.CancelAfterTokens == answer.Events.Count) generation.Cancel();
            }
        }
        await cancelled;
        Check(choice, answer);
        return answer.Events[^1].Finish;
    }

    /// <summary>Whole and equal, or cut short for a reason that this client gave.</summary>
    private void Check(int choice, SoakAnswer answer)
    {
        List<TokenEvent> expected = Case.Expected[choice].Events;
        FinishReason finish = answer.Events[^1].Finish;
        Assert.All(answer.Events.SkipLast(1), e => Assert.Equal(FinishReason.None, e.Finish));
        bool isWhole = finish is FinishReason.Stop or FinishReason.Length;
        if (!isWhole)
        {
            Assert.True(MayEndWith(finish, choice), $"ended with {finish}");
            Assert.Equal(-1, answer.Events[^1].Token);
            if (finish == FinishReason.QueueTimeout) Assert.Single(answer.Events);
        }
        int tokens = isWhole ? expected.Count : answer.Events.Count - 1;
        Assert.Equal(isWhole ? tokens : tokens + 1, answer.Events.Count);
        for (int i = 0; i < tokens; i++)
        {
            Assert.Equal(expected[i].Token, answer.Events[i].Token);
            Assert.Equal(BitConverter.SingleToInt32Bits(expected[i].Logprob), BitConverter.SingleToInt32Bits(answer.Events[i].Logprob));
            Assert.Equal(expected[i].TopLogprobs, answer.Events[i].TopLogprobs);
        }
        if (isWhole)
        {
            Assert.Equal(expected[^1].Finish, finish);
            Assert.Equal(Case.Expected[choice].Generation.PromptLogprobs, answer.Generation.PromptLogprobs);
        }
    }

    private bool MayEndWith(FinishReason finish, int choice) => finish switch
    {
        FinishReason.Abort => choice == CancelledChoice && (Manner.CancelAfterMs is not null || Manner.CancelAfterTokens is not null),
        FinishReason.QueueTimeout => Manner.QueueTimeout is not null,
        FinishReason.Deadline => Manner.Timeout is not null,
        _ => false,
    };

    private static async Task CancelAsync(Generation generation, int ms)
    {
        await Task.Delay(ms).ConfigureAwait(false);
        generation.Cancel();
    }
}

/// <summary>Everything a client read.</summary>
internal sealed record SoakAnswer(Generation Generation)
{
    public List<TokenEvent> Events { get; } = [];
}
