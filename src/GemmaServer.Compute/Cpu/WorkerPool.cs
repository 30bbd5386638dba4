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
/// Fork and join for kernels: threads of its own that run a struct job without allocating. Each worker begins with its own
/// share of the items, so that it meets the same weight rows at every step, and then helps the others with theirs.
/// </summary>
/// <remarks>
/// <para>
/// A run is published in one 64-bit word: its number and its item count. Each worker has a word of its own that says up to
/// where its share is claimed, and in which run; items are claimed by compare-and-swap on that word. A word of an earlier
/// run means an untouched share, so nobody has to set the words back, and a worker that sleeps holds nobody up: others
/// take its share.
/// </para>
/// <para>
/// A worker that wakes late finds its run's shares all claimed, or another run published, and touches nothing. The job is
/// read after a claim, and only replaced when all claimed items have been counted as done.
/// </para>
/// </remarks>
public sealed unsafe partial class WorkerPool : IDisposable
{
    /// <summary>Most items of one run.</summary>
    public const int MaxItems = (1 << ItemBits) - 1;

    // Bits of a word, from the top: number of the run, whether shares stay with their owners, items. Run numbers come again
    // after 2^39 runs, when years have passed.
    private const int ItemBits = 24;
    private const long OwnersOnly = 1L << ItemBits;
    private const long NextRun = OwnersOnly << 1;
    private const long RunMask = -NextRun;

    private readonly Worker[] _workers;     // without the caller, who is worker 0
    private readonly Board _board;
    private readonly object _doneGate = new();

    private Exception? _error;
    private int _running;
    private volatile bool _stopping;

    /// <summary>Starts <paramref name="threads"/> − 1 background threads, free to run anywhere; the caller of Run is the last one.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Fewer than one thread.</exception>
    public WorkerPool(int threads) : this(WorkerPlacement.Free(threads)) { }

    /// <summary>Starts a thread for every worker but the caller's, each in its place.</summary>
    /// <exception cref="InvalidOperationException">The system refuses a place.</exception>
    public WorkerPool(WorkerPlacement placement)
    {
        _placement = placement;
        _crowded = placement.Threads > Environment.ProcessorCount;
        _mostAwake = Environment.ProcessorCount;
        _board = new Board(placement.Threads);
        _board.SpinTicks = _crowded ? CrowdedSpin : SpinBetweenSteps;
        _workers = new Worker[placement.Threads - 1];
        for (int i = 0; i < _workers.Length; i++) _workers[i] = new Worker(this, i + 1);
        foreach (Worker worker in _workers) worker.Thread.Start();
        if (!placement.Pins) return;
        foreach (Worker worker in _workers) worker.Placed.Wait();
        if (_error is not { } refused) return;
        Dispose();
        ExceptionDispatchInfo.Throw(refused);
    }

    /// <summary>Threads that take part, the caller included.</summary>
    public int Threads => _placement.Threads;

    /// <summary>Whether workers stay on processors of their own.</summary>
    public bool Pins => _placement.Pins;

    /// <summary>Workers that sleep; the others run or spin.</summary>
    internal int ParkedWorkers => Volatile.Read(ref _board.Parked);

    /// <summary>
    /// Runs items 0 … <paramref name="items"/> − 1 and returns when all are done. One Run at a time; an item may not
    /// call Run itself, nor wait for another item: with few cores they may run one behind the other.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">More than <see cref="MaxItems"/>.</exception>
    /// <exception cref="InvalidOperationException">Another Run is going on.</exception>
    /// <exception cref="ObjectDisposedException">The pool is disposed.</exception>
    /// <remarks>The first exception of an item is rethrown here; items not yet started are then left out.</remarks>
    public void Run<TJob>(ref TJob job, int items) where TJob : struct, IWorkerJob => Run(ref job, items, 0);

    /// <summary>
    /// As <see cref="Run{TJob}(ref TJob, int)"/>, but every item runs on the worker whose share it is in, and the calling
    /// thread takes worker 0's place for as long as it lasts. Memory that is written first in such a run lies on the NUMA
    /// node of the worker that a Run of so many items gives it to.
    /// </summary>
    /// <inheritdoc cref="Run{TJob}(ref TJob, int)" path="/exception"/>
    public void RunByOwner<TJob>(ref TJob job, int items) where TJob : struct, IWorkerJob
    {
        using ThreadAffinity.Stay stay = ThreadAffinity.StayOn(_placement.CpusOf(0));
        Run(ref job, items, OwnersOnly);
    }

    /// <summary>The items that a worker begins with in a run of so many: first, and the one behind the last.</summary>
    public (int First, int End) ShareOf(int items, int worker)
    {
        (int each, int more) = int.DivRem(items, Threads);
        int first = worker * each + Math.Min(worker, more);
        return (first, first + each + (worker < more ? 1 : 0));
    }

    /// <summary>Ends and joins the threads. Not while a Run is going on.</summary>
    public void Dispose()
    {
        if (_stopping) return;
        _stopping = true;
        foreach (Worker worker in _workers) Wake(worker);
        foreach (Worker worker in _workers) worker.Thread.Join();
        _board.Dispose();
    }

    private void Run<TJob>(ref TJob job, int items, long flags) where TJob : struct, IWorkerJob
    {
        ObjectDisposedException.ThrowIf(_stopping, this);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(items, MaxItems);
        if (Threads == 1 || items <= 1)
        {
            for (int i = 0; i < items; i++) job.Execute(i, 0);
            return;
        }

        Enter();
        // On this stack the job cannot move, whatever the caller's reference points into; its own references stay
        // visible to the collector because the local's address is taken.
        TJob local = job;
        _board.Job = Unsafe.AsPointer(ref local);
        _board.Body = &RunItems<TJob>;
        _board.Completed = 0;

        long run = Publish(items, flags);
        WakeParked(Math.Min(items, Threads) - 1, flags == OwnersOnly ? int.MaxValue : _mostAwake);
        int mine = Work(run, worker: 0);
        WaitUntilCompleted(items - mine);

        job = local;
        Exception? error = _error;
        if (error is not null) _error = null;
        Volatile.Write(ref _running, 0);
        if (error is not null) ExceptionDispatchInfo.Throw(error);
    }

    private static void RunItems<TJob>(void* job, int first, int count, int worker) where TJob : struct, IWorkerJob
    {
        ref TJob typed = ref Unsafe.AsRef<TJob>(job);
        for (int i = first; i < first + count; i++) typed.Execute(i, worker);
    }

    private void Enter()
    {
        if (Interlocked.Exchange(ref _running, 1) != 0) throw new InvalidOperationException("The pool is already running a job.");
    }

    private long Publish(int items, long flags)
    {
        long run = ((_board.Run & RunMask) + NextRun) | flags | (uint)items;
        Interlocked.Exchange(ref _board.Run, run);
        return run;
    }

    /// <summary>Does the worker's own share and then what is left of the others', the next one's first: it is the nearest.</summary>
    /// <returns>Items done, or left out after an error. They still have to be counted.</returns>
    private int Work(long run, int worker)
    {
        int done = 0, owner = worker, shares = (run & OwnersOnly) != 0 ? 1 : Threads;
        for (int i = 0; i < shares; i++)
        {
            while (TryClaim(run, owner, out int first, out int count))
            {
                try
                {
                    if (Volatile.Read(ref _error) is null) _board.Body(_board.Job, first, count, worker);
                }
                catch (Exception e)
                {
                    Interlocked.CompareExchange(ref _error, e, null);
                }
                done += count;
            }
            if (++owner == Threads) owner = 0;
        }
        return done;
    }

    /// <summary>Takes a quarter of what is left of a share, so that chunks get smaller towards its end.</summary>
    private bool TryClaim(long run, int owner, out int first, out int count)
    {
        (int start, int end) = ShareOf((int)run & MaxItems, owner);
        ref long claimed = ref _board.Claimed(owner);
        while (true)
        {
            long seen = Volatile.Read(ref claimed);
            bool touched = ((seen ^ run) & RunMask) == 0;
            first = touched ? (int)seen & MaxItems : start;
            count = Math.Max(1, (end - first) / 4);
            if (first >= end) return false;
            // A word of another run: an untouched share, unless we are late and the word is of a later run. Then that run
            // was published before we read the word, and we see it now.
            if (!touched && Volatile.Read(ref _board.Run) != run) return false;
            long mine = (run & RunMask) | (uint)(first + count);
            if (Interlocked.CompareExchange(ref claimed, mine, seen) == seen) return true;
        }
    }
}
