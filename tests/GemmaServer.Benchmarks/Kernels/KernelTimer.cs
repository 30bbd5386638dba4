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
        // The runtime's last code is there after some dozen calls and a moment; then the clock counts.
        long warm = Stopwatch.GetTimestamp();
        do run(turn++);
        while (turn < 40 && Stopwatch.GetElapsedTime(warm).TotalSeconds < secondsEach || turn < 3);

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
