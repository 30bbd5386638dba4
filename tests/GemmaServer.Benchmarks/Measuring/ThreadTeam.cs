using System.Diagnostics;

namespace GemmaServer.Benchmarks;

/// <summary>Threads that begin together: what is measured with them is the machine, not the server's own pool.</summary>
internal sealed class ThreadTeam : IDisposable
{
    private readonly Thread[] _threads;
    private readonly Barrier _start, _end;
    private Action<int> _work = static _ => { };
    private volatile bool _stopping;

    public ThreadTeam(int count)
    {
        Count = count;
        _start = new Barrier(count + 1);
        _end = new Barrier(count + 1);
        _threads = [.. Enumerable.Range(0, count).Select(i => new Thread(() => Loop(i)) { IsBackground = true, Name = $"bench-{i}" })];
        foreach (Thread thread in _threads) thread.Start();
    }

    public int Count { get; }

    /// <summary>Runs <paramref name="work"/> on every thread, with its number.</summary>
    /// <returns>Seconds until the last one was done.</returns>
    public double Run(Action<int> work)
    {
        _work = work;
        long started = Stopwatch.GetTimestamp();
        _start.SignalAndWait();
        _end.SignalAndWait();
        return Stopwatch.GetElapsedTime(started).TotalSeconds;
    }

    public void Dispose()
    {
        _stopping = true;
        _start.SignalAndWait();
        foreach (Thread thread in _threads) thread.Join();
        _start.Dispose();
        _end.Dispose();
    }

    private void Loop(int index)
    {
        while (true)
        {
            _start.SignalAndWait();
            if (_stopping) return;
            _work(index);
            _end.SignalAndWait();
        }
    }
}
