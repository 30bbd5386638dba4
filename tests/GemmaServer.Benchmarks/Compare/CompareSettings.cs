namespace GemmaServer.Benchmarks;

/// <summary>What to compare, and how big the pieces of work are.</summary>
/// <param name="Ours">Our program.</param>
/// <param name="Peer">Folder of llama.cpp's programs.</param>
/// <param name="Models">Folder of the random checkpoints.</param>
/// <param name="Rounds">Measurements of each; medians are shown.</param>
/// <param name="Threads">Of either program.</param>
/// <param name="Groups">Which of <see cref="AllGroups"/>.</param>
/// <param name="Amx">Whether tiles may be used.</param>
/// <param name="Quick">A few tokens instead of the true sizes: shows that everything runs.</param>
internal sealed record CompareSettings(string Ours, string Peer, string Models, int Rounds, int Threads, IReadOnlyList<string> Groups, bool Amx, bool Quick)
{
    /// <summary>Rows that can be run alone.</summary>
    public static readonly string[] AllGroups = ["decode", "depth", "batch", "moe", "prefill", "server", "startup"];

    /// <summary>Tokens of a decode.</summary>
    public int Generate => Quick ? 8 : 128;

    /// <summary>Tokens in the context of <c>depth</c>.</summary>
    public int Depth => Quick ? 128 : 8192;

    /// <summary>Lengths of the prompts.</summary>
    public int[] Prompts => Quick ? [32, 64] : [512, 2048];

    /// <summary>Tokens of a prompt to the server.</summary>
    public int ServerPrompt => Quick ? 24 : 110;

    /// <summary>Tokens of its answer.</summary>
    public int ServerAnswer => Quick ? 8 : 64;

    /// <summary>Passes of the plain read; it takes as long as so many steps of a decode at the wall.</summary>
    public int ReadPasses => Quick ? 3 : 15;
}
