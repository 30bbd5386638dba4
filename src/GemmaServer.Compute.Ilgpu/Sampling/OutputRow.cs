namespace GemmaServer.Compute.Ilgpu;

/// <summary>Places of the numbers that kernels know of a row that gets logits; <see cref="IlgpuOutputs"/> writes them.</summary>
internal static class OutputRow
{
    /// <summary>Numbers of a row.</summary>
    public const int Ints = 20;

    /// <summary>1: a token is chosen; 2: it is the best; 4: among a nucleus only.</summary>
    public const int Flags = 0;

    /// <summary>Where the chosen token will stand.</summary>
    public const int Position = 1;

    /// <summary>Low and high half of the seed.</summary>
    public const int Seed = 2;

    /// <summary>1 / temperature, a float.</summary>
    public const int InverseT = 4;

    /// <summary>Candidates by rank; 0 for all.</summary>
    public const int TopK = 5;

    /// <summary>In units of 2^−31.</summary>
    public const int TopP = 6;

    /// <summary>ln min-p, a float.</summary>
    public const int LeastRelative = 7;

    /// <summary>How far below the best logit the nucleus of all tokens may end, a float.</summary>
    public const int Depth = 8;

    /// <summary>Where its tokens are counted; −1 without penalties.</summary>
    public const int Counts = 9;

    /// <summary>Repetition, frequency, presence: floats.</summary>
    public const int Penalties = 10;

    /// <summary>Which mask allows its tokens; −1 where all are allowed.</summary>
    public const int Mask = 13;

    /// <summary>Guesses before it in its run: the rows before have them.</summary>
    public const int Run = 14;

    /// <summary>The guess in the next row; −1 without one.</summary>
    public const int Guess = 15;

    /// <summary>The prompt token whose logit is wanted; −1 for none.</summary>
    public const int PromptNext = 16;

    /// <summary>Best tokens wanted beside it, and where their pairs begin.</summary>
    public const int Top = 17;

    /// <summary>A token is chosen.</summary>
    public const int Samples = 1;

    /// <summary>The best is chosen.</summary>
    public const int IsGreedy = 2;

    /// <summary>Top-p applies.</summary>
    public const int HasNucleus = 4;

    /// <summary>
    /// Numbers of a result: token, its logit before bias and bans, the greatest such logit, log sum exp above it, the prompt
    /// token's logit, best tokens found.
    /// </summary>
    public const int ResultInts = 8;
}
