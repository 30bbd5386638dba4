using System.Diagnostics;

namespace GemmaServer.Benchmarks;

/// <summary>The best of many runs: what a kernel can do when nothing disturbs it.</summary>
internal sealed class KernelTimer(double secondsEach)
{
    /// <summary>Seconds of one run.</summary>
    /// <param name="run">Told the number of the run, so that it can go round among weights that no cache holds together.</param>
    public double Best(Action<int> run)
    {
        int turn = 0;
        // The runtime compiles anew after thirty calls, and in the background a tenth of a second later; slow kernels get fewer.
        long warm = Stopwatch.GetTimestamp();
        double warmSeconds = 0;
        while (turn < 3 || (warmSeconds < 1 && (turn < 40 || warmSeconds < 0.3)))
        {
            run(turn++);
            warmSeconds = Stopwatch.GetElapsedTime(warm).TotalSeconds;
        }

        double best = double.PositiveInfinity;
        long started = Stopwatch.GetTimestamp();
        do
        {
            long from = Stopwatch.GetTimestamp();
            run(turn++);
            best = Math.Min(best, Stopwatch.GetElapsedTime(from).TotalSeconds);
        }
        while (Stopwatch.GetElapsedTime(started).TotalSeconds < secondsEach);
        return best;
    }
}
