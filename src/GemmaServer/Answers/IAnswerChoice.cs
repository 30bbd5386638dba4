namespace GemmaServer;

/// <summary>One answer of a request while it comes: takes token events from the engine and keeps what has settled for the writer.</summary>
internal interface IAnswerChoice
{
    /// <summary>Takes what has come, up to <see cref="AnswerLoop.MostAtOnce"/> tokens; false when there was nothing.</summary>
    bool Take(RequestWatch watch);

    /// <summary>Why it ended, in OpenAI's words; null while it goes on, or when it failed.</summary>
    string? FinishReason { get; }

    /// <summary>Why there is no answer; null when all is well.</summary>
    ApiError? Failure { get; }

    /// <summary>Tokens generated, the stop token included.</summary>
    int Tokens { get; }

    /// <summary>Whether nothing more comes.</summary>
    bool IsDone => FinishReason is not null || Failure is not null;
}
