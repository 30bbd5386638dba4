using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;

namespace GemmaServer.Compute;

/// <summary>Work cut into items that may run in any order, on any worker.</summary>
public interface IWorkerJob
{
    /// <summary>Does one item. Called from several threads at once on the same struct: treat its fields as read-only.</summary>
    /// <param name="item">0 … items − 1; each comes exactly once.</param>
    /// <param name="worker">0 … <see cref="WorkerPool.Threads"/> − 1; no two calls at the same time share one.</param>
    void Execute(int item, int worker);
}

/// <summary>
/// Fork and join for kernels: threads of its own that run a struct job without allocating. The HTTP server shares the
/// cores, so a worker without work spins for some tens of microseconds (the gap between two kernels) and then parks.
/// </summary>
/// <remarks>
/// One 64-bit word carries everything a claim needs: <c>generation &lt;&lt; 32 | next item</c>. A worker claims items by
/// compare-and-swap, so one that wakes late finds another generation, or no items left, and touches nothing. The job's
/// fields are read after a claim, and are only replaced when every claimed item has been counted as done.
/// </remarks>
public sealed unsafe class WorkerPool : IDisposable
{
    // A kernel launch that arrives within this time finds its workers awake.
    private static readonly long SpinTicks = Environment.ProcessorCount == 1 ? 0 : Stopwatch.Frequency * 30 / 1_000_000;

    // Nobody can claim from it: no items are left after int.MaxValue.
    private const uint Closed = int.MaxValue;

    private readonly Thread[] _workers;
    private readonly object _workGate = new();
    private readonly object _doneGate = new();

    private long _state = Closed;
    private int _items;
    private int _completed;
    private void* _job;
    private delegate*<void*, int, int, int, void> _body;
    private Exception? _error;

    private uint _generation;
    private int _parked;
    private int _callerParked;
    private int _running;
    private volatile bool _stopping;

    /// <summary>Starts <paramref name="threads"/> − 1 background threads; the caller of Run is the last one.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Fewer than one thread.</exception>
    public WorkerPool(int threads)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(threads, 1);
        Threads = threads;
        _workers = new Thread[threads - 1];
        for (int i = 0; i < _workers.Length; i++)
        {
            int worker = i + 1;
            _workers[i] = new Thread(() => WorkerLoop(worker)) { IsBackground = true, Name = $"compute-{worker}" };
            _workers[i].Start();
        }
    }

    /// <summary>Threads that take part, the caller included.</summary>
    public int Threads { get; }

    /// <summary>
    /// Runs items 0 … <paramref name="items"/> − 1 and returns when all are done. One Run at a time; an item may not
    /// call Run itself.
    /// </summary>
    /// <exception cref="InvalidOperationException">Another Run is going on.</exception>
    /// <exception cref="ObjectDisposedException">The pool is disposed.</exception>
    /// <remarks>The first exception of an item is rethrown here; items not yet started are then left out.</remarks>
    public void Run<TJob>(ref TJob job, int items) where TJob : struct, IWorkerJob
    {
        ObjectDisposedException.ThrowIf(_stopping, this);
        if (Threads == 1 || items <= 1)
        {
            for (int i = 0; i < items; i++) job.Execute(i, 0);
            return;
        }

        if (Interlocked.Exchange(ref _running, 1) != 0) throw new InvalidOperationException("The pool is already running a job.");
        // On this stack the job cannot move, whatever the caller's reference points into; its own references stay
        // visible to the collector because the local's address is taken.
        TJob local = job;
        _job = Unsafe.AsPointer(ref local);
        _body = &RunItems<TJob>;
        _items = items;
        _completed = 0;
        _error = null;

        uint generation = ++_generation;
        Interlocked.Exchange(ref _state, (long)generation << 32);
        WakeParked(items - 1);
        Work(generation, worker: 0);
        WaitUntilDone(items);
        Interlocked.Exchange(ref _state, (long)generation << 32 | Closed);

        job = local;
        Exception? error = _error;
        _error = null;
        Volatile.Write(ref _running, 0);
        if (error is not null) ExceptionDispatchInfo.Throw(error);
    }

    /// <summary>Ends and joins the threads. Not while a Run is going on.</summary>
    public void Dispose()
    {
        _stopping = true;
        lock (_workGate) Monitor.PulseAll(_workGate);
        foreach (Thread worker in _workers) worker.Join();
    }

    private static void RunItems<TJob>(void* job, int first, int count, int worker) where TJob : struct, IWorkerJob
    {
        ref TJob typed = ref Unsafe.AsRef<TJob>(job);
        for (int i = first; i < first + count; i++) typed.Execute(i, worker);
    }

    private void WorkerLoop(int worker)
    {
        uint seen = 0;
        while (true)
        {
            seen = WaitForGenerationAfter(seen);
            if (_stopping) return;
            Work(seen, worker);
        }
    }

    private void Work(uint generation, int worker)
    {
        while (TryClaim(generation, out int first, out int count))
        {
            int items = _items;
            try
            {
                if (Volatile.Read(ref _error) is null) _body(_job, first, count, worker);
            }
            catch (Exception e)
            {
                Interlocked.CompareExchange(ref _error, e, null);
            }

            // Counting ends our claim: after it the fields may belong to the next job. Both sides write before they
            // read, with full fences, so either the caller sees the count or we see it parked.
            if (Interlocked.Add(ref _completed, count) == items && Volatile.Read(ref _callerParked) != 0)
            {
                lock (_doneGate) Monitor.Pulse(_doneGate);
            }
        }
    }

    /// <summary>Takes a quarter of an even share of what is left, so that chunks get smaller towards the end.</summary>
    private bool TryClaim(uint generation, out int first, out int count)
    {
        while (true)
        {
            long state = Volatile.Read(ref _state);
            first = (int)state;
            int left = Volatile.Read(ref _items) - first;
            count = Math.Max(1, left / (4 * Threads));
            if ((uint)(state >> 32) != generation || left <= 0) return false;
            if (Interlocked.CompareExchange(ref _state, state + count, state) == state) return true;
        }
    }

    private void WakeParked(int wanted)
    {
        if (Volatile.Read(ref _parked) == 0) return;
        lock (_workGate)
        {
            if (wanted >= _parked) Monitor.PulseAll(_workGate);
            else for (int i = 0; i < wanted; i++) Monitor.Pulse(_workGate);
        }
    }

    private uint WaitForGenerationAfter(uint seen)
    {
        uint now;
        long start = Stopwatch.GetTimestamp();
        do
        {
            now = (uint)(Volatile.Read(ref _state) >> 32);
            if (now != seen || _stopping) return now;
            Thread.SpinWait(8);
        }
        while (Stopwatch.GetTimestamp() - start < SpinTicks);

        lock (_workGate)
        {
            Interlocked.Increment(ref _parked);
            while ((now = (uint)(Volatile.Read(ref _state) >> 32)) == seen && !_stopping) Monitor.Wait(_workGate);
            Interlocked.Decrement(ref _parked);
        }
        return now;
    }

    private void WaitUntilDone(int items)
    {
        long start = Stopwatch.GetTimestamp();
        do
        {
            if (Volatile.Read(ref _completed) == items) return;
            Thread.SpinWait(8);
        }
        while (Stopwatch.GetTimestamp() - start < SpinTicks);

        lock (_doneGate)
        {
            Interlocked.Exchange(ref _callerParked, 1);
            while (Volatile.Read(ref _completed) != items) Monitor.Wait(_doneGate);
            _callerParked = 0;
        }
    }
}
