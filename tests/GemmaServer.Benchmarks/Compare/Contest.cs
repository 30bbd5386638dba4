namespace GemmaServer.Benchmarks;

/// <summary>Work that is done in rounds: in each, our program and the other's run once, one after the other.</summary>
internal abstract class Contest
{
    /// <summary>For the progress line.</summary>
    public abstract string Name { get; }

    /// <summary>The checkpoints that it reads.</summary>
    public abstract IReadOnlyList<string> Files { get; }

    /// <summary>What it fills.</summary>
    public abstract IReadOnlyList<Comparison> Comparisons { get; }

    /// <summary>Adds a figure of each side to every comparison.</summary>
    /// <exception cref="ProgramFailedException">A program did not do its work.</exception>
    public abstract Task RoundAsync(int round, CancellationToken cancellation);
}
