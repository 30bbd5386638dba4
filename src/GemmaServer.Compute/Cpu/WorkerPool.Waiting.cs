using System.Diagnostics;

namespace GemmaServer.Compute;

/// <summary>
/// How workers wait. Inside a step the next kernel is some microseconds away, so they spin; between steps they spin a
/// little and then park, because the HTTP server shares the cores and an idle server uses none.
/// </summary>
public sealed unsafe partial class WorkerPool
{
    // Longer than the serial parts of a step: scratch, norms of one row, the end of sampling.
    private static readonly long SpinInStep = Microseconds(200);

    // The engine takes requests in and hands tokens out before the next step begins.
    private static readonly long SpinBetweenSteps = Microseconds(50);

    // Chunks at the end of a share are small, so a longer wait means that the system took a worker from its core: parked, the
    // caller leaves its own to it.
    private static readonly long SpinForOthers = Microseconds(Environment.ProcessorCount == 1 ? 0 : 50);

    // With more threads than cores, one that spins keeps another from its work.
    private static readonly long CrowdedSpin = Microseconds(Environment.ProcessorCount == 1 ? 0 : 20);

    // A look at the clock costs as much as some pauses.
    private const int PausesPerLook = 16;

    private readonly WorkerPlacement _placement;
    private readonly bool _crowded;
    private readonly int _mostAwake;
    private int _placedThread;

    /// <summary>
    /// Many runs follow: wakes the workers and keeps them awake through pauses of up to 200 µs. The calling thread takes
    /// worker 0's place for good.
    /// </summary>
    /// <exception cref="InvalidOperationException">A Run is going on, or the system refuses the place.</exception>
    public void BeginStep()
    {
        ObjectDisposedException.ThrowIf(_stopping, this);
        if (_placement.Pins && _placedThread != Environment.CurrentManagedThreadId)
        {
            ThreadAffinity.Set(_placement.CpusOf(0));
            _placedThread = Environment.CurrentManagedThreadId;
        }
        if (_crowded || Threads == 1) return;

        Enter();
        Volatile.Write(ref _board.SpinTicks, SpinInStep);
        Publish(items: 0, flags: 0);
        WakeParked(_workers.Length, _mostAwake);
        Volatile.Write(ref _running, 0);
    }

    /// <summary>The last of many runs is done: workers park soon. A step that breaks off without it costs no more than one long spin.</summary>
    public void EndStep()
    {
        if (!_crowded) Volatile.Write(ref _board.SpinTicks, SpinBetweenSteps);
    }

    private static long Microseconds(long count) => Stopwatch.Frequency * count / 1_000_000;

    private void WorkerLoop(Worker worker)
    {
        long seen = 0;
        while (WaitForNewRun(ref seen, worker))
        {
            int done = Work(seen, worker.Number);
            if (done == 0) continue;
            // Counting ends our claims: after it the job may be the next one. Both sides write before they read, with
            // full fences, so either the caller sees the count or we see it parked.
            Interlocked.Add(ref _board.Completed, done);
            if (Volatile.Read(ref _board.CallerParked) == 0) continue;
            lock (_doneGate) Monitor.Pulse(_doneGate);
        }
    }

    /// <summary>Waits until another run than <paramref name="seen"/> is published, and reads it.</summary>
    /// <returns>False when the pool ends.</returns>
    private bool WaitForNewRun(ref long seen, Worker worker)
    {
        long start = Stopwatch.GetTimestamp();
        do
        {
            for (int i = 0; i < PausesPerLook; i++)
            {
                long now = Volatile.Read(ref _board.Run);
                if (now != seen)
                {
                    seen = now;
                    return true;
                }
                Thread.SpinWait(1);
            }
            if (_stopping) return false;
        }
        while (Stopwatch.GetTimestamp() - start < Volatile.Read(ref _board.SpinTicks));

        lock (worker)
        {
            worker.IsParked = true;
            Interlocked.Increment(ref _board.Parked);
            // Published since we last looked: whoever did it may not have seen us park.
            if (Volatile.Read(ref _board.Run) != seen || _stopping) Unpark(worker);
            while (worker.IsParked) Monitor.Wait(worker);
        }
        seen = Volatile.Read(ref _board.Run);
        return !_stopping;
    }

    /// <summary>Wakes those of the first <paramref name="count"/> workers that are parked, up to as many threads awake as there is work for.</summary>
    private void WakeParked(int count, int mostAwake)
    {
        int parked = Volatile.Read(ref _board.Parked);
        if (parked == 0) return;
        int wanted = mostAwake - (Threads - parked);
        for (int i = 0; i < count && wanted > 0; i++)
        {
            // One that parks just now sees the new run itself and does not count.
            if (Volatile.Read(ref _workers[i].IsParked) && Wake(_workers[i])) wanted--;
        }
    }

    /// <returns>False when it was awake.</returns>
    private bool Wake(Worker worker)
    {
        lock (worker)
        {
            if (!worker.IsParked) return false;
            Unpark(worker);
            Monitor.Pulse(worker);
            return true;
        }
    }

    private void Unpark(Worker worker)
    {
        worker.IsParked = false;
        Interlocked.Decrement(ref _board.Parked);
    }

    private void WaitUntilCompleted(int items)
    {
        long start = Stopwatch.GetTimestamp();
        do
        {
            for (int i = 0; i < PausesPerLook; i++)
            {
                if (Volatile.Read(ref _board.Completed) == items) return;
                Thread.SpinWait(1);
            }
        }
        while (Stopwatch.GetTimestamp() - start < (_crowded ? CrowdedSpin : SpinForOthers));

        lock (_doneGate)
        {
            Interlocked.Exchange(ref _board.CallerParked, 1);
            while (Volatile.Read(ref _board.Completed) != items) Monitor.Wait(_doneGate);
            _board.CallerParked = 0;
        }
    }

    /// <summary>A thread of the pool, and the lock that it parks on.</summary>
    private sealed class Worker
    {
        public readonly int Number;
        public readonly Thread Thread;

        /// <summary>Set when the thread is in its place, or was refused it.</summary>
        public readonly ManualResetEventSlim Placed = new();

        /// <summary>Waits for a pulse; whoever wakes it clears this, under the lock.</summary>
        public bool IsParked;

        public Worker(WorkerPool pool, int number)
        {
            Number = number;
            Thread = new Thread(() =>
            {
                try
                {
                    if (pool._placement.Pins) ThreadAffinity.Set(pool._placement.CpusOf(number));
                }
                catch (InvalidOperationException e)
                {
                    Interlocked.CompareExchange(ref pool._error, e, null);
                }
                Placed.Set();
                pool.WorkerLoop(this);
            }) { IsBackground = true, Name = $"compute-{number}" };
        }
    }
}
