using System.Diagnostics;

namespace GemmaServer.Text;

/// <summary>Counts what compiling a grammar costs, and ends it in time.</summary>
internal sealed class CompileBudget(GrammarLimits limits, CancellationToken cancellation)
{
    private const long StepsBetweenLooks = 1 << 14;

    private readonly long _started = Stopwatch.GetTimestamp();
    private long _work;
    private long _nextLook = StepsBetweenLooks;

    public GrammarLimits Limits => limits;

    public long Work => _work;

    /// <summary>Takes elementary steps off the budget.</summary>
    /// <exception cref="GrammarException">It is spent.</exception>
    public void Spend(long steps)
    {
        _work += steps;
        if (_work < _nextLook) return;
        _nextLook = _work + StepsBetweenLooks;
        cancellation.ThrowIfCancellationRequested();
        if (_work > limits.MaxWork || Stopwatch.GetElapsedTime(_started) > limits.MaxTime) throw TooMuch();
    }

    public static GrammarException TooMuch() => new("The grammar is too large or too ambiguous to be followed.");
}
