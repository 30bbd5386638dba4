using System.Runtime.InteropServices;
using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>Whose items are whose, who helps whom, and how workers sleep and wake.</summary>
public sealed partial class WorkerSharesTests
{
    /// <summary>Notes worker and thread of each item.</summary>
    private struct NoteJob(int[] workers, int[] threads) : IWorkerJob
    {
        public readonly void Execute(int item, int worker)
        {
            workers[item] = worker;
            threads[item] = Environment.CurrentManagedThreadId;
        }
    }

    /// <summary>One item waits until all others are done.</summary>
    private struct StuckJob(int stuck, int others, int[] done) : IWorkerJob
    {
        public readonly void Execute(int item, int worker)
        {
            if (item != stuck) Interlocked.Increment(ref done[0]);
            else if (SpinWait.SpinUntil(Arrived, 60_000)) Interlocked.Increment(ref done[1]);
        }

        private readonly bool Arrived() => Volatile.Read(ref done[0]) == others;
    }

    /// <summary>Everyone waits until everyone is there, so each worker gets one item only.</summary>
    private struct MeetJob(int[] workers, int[] arrived) : IWorkerJob
    {
        public readonly void Execute(int item, int worker)
        {
            workers[item] = worker;
            Interlocked.Increment(ref arrived[0]);
            SpinWait.SpinUntil(Everybody, 60_000);
        }

        private readonly bool Everybody() => Volatile.Read(ref arrived[0]) >= workers.Length;
    }

    private struct CountJob(int[] seen) : IWorkerJob
    {
        public readonly void Execute(int item, int worker) => Interlocked.Increment(ref seen[item]);
    }

    private struct FailingJob : IWorkerJob
    {
        public readonly void Execute(int item, int worker) => throw new FormatException($"{worker}");
    }

    /// <summary>Notes each worker's CPU time so far.</summary>
    private struct CpuTimeJob(long[] nanoseconds) : IWorkerJob
    {
        public readonly void Execute(int item, int worker)
        {
            // clock_gettime(2); 3 is CLOCK_THREAD_CPUTIME_ID in linux/time.h.
            GetTime(3, out TimeSpec now);
            nanoseconds[worker] = now.Seconds * 1_000_000_000 + now.Nanoseconds;
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct TimeSpec
    {
        public nint Seconds, Nanoseconds;
    }

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    private static partial int GetTime(int clock, out TimeSpec time);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(64)]
    public void Shares_lie_side_by_side_and_differ_by_one_item_at_most(int threads)
    {
        using WorkerPool pool = new(threads);
        foreach (int items in new[] { 0, 1, 2, 63, 64, 65, 1000, WorkerPool.MaxItems })
        {
            int next = 0;
            for (int worker = 0; worker < threads; worker++)
            {
                (int first, int end) = pool.ShareOf(items, worker);
                Assert.Equal(next, first);
                Assert.InRange(end - first, items / threads, (items + threads - 1) / threads);
                next = end;
            }
            Assert.Equal(items, next);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    [InlineData(64)]
    public void Items_of_a_run_by_owners_stay_with_their_worker_and_its_thread(int threads)
    {
        using WorkerPool pool = new(threads);
        int[] threadOf = new int[threads];
        for (int run = 0; run < 50; run++)
        {
            int items = run * 7;
            int[] workers = [.. Enumerable.Repeat(-1, items)];
            int[] ids = new int[items];
            NoteJob job = new(workers, ids);
            pool.RunByOwner(ref job, items);
            for (int worker = 0; worker < threads; worker++)
            {
                (int first, int end) = pool.ShareOf(items, worker);
                for (int i = first; i < end; i++)
                {
                    Assert.Equal(worker, workers[i]);
                    if (threadOf[worker] == 0) threadOf[worker] = ids[i];
                    Assert.Equal(threadOf[worker], ids[i]);
                }
            }
        }
        Assert.Equal(Environment.CurrentManagedThreadId, threadOf[0]);
        Assert.Equal(threads, threadOf.Distinct().Count());
    }

    [Theory]
    [InlineData(2)]
    [InlineData(8)]
    public void The_share_of_a_worker_that_is_held_up_is_done_by_others(int threads)
    {
        using WorkerPool pool = new(threads);
        // Shares of four items: a worker takes one at a time.
        int items = 4 * threads;
        for (int stuck = 0; stuck < items; stuck++)
        {
            int[] done = new int[2];
            StuckJob job = new(stuck, items - 1, done);
            pool.Run(ref job, items);
            Assert.Equal([items - 1, 1], done);
        }
    }

    [Fact]
    public void A_worker_begins_with_its_own_share()
    {
        // Items that wait for each other need a core each.
        int threads = Math.Min(4, Environment.ProcessorCount);
        using WorkerPool pool = new(threads);
        for (int run = 0; run < 200; run++)
        {
            int[] workers = new int[threads];
            MeetJob job = new(workers, new int[1]);
            pool.Run(ref job, threads);
            Assert.Equal(Enumerable.Range(0, threads), workers);
        }
    }

    [Fact]
    public void Any_thread_may_run_and_is_worker_0_then()
    {
        using WorkerPool pool = new(3);
        for (int run = 0; run < 20; run++)
        {
            int[] workers = new int[30], ids = new int[30];
            int caller = 0;
            Thread thread = new(() =>
            {
                caller = Environment.CurrentManagedThreadId;
                pool.BeginStep();
                NoteJob job = new(workers, ids);
                pool.Run(ref job, 30);
                pool.EndStep();
            });
            thread.Start();
            thread.Join();
            for (int i = 0; i < 30; i++) Assert.Equal(workers[i] == 0, ids[i] == caller);
        }
    }

    [Fact]
    public void Two_pools_run_side_by_side()
    {
        Exception?[] failures = new Exception?[2];
        Thread[] callers = [.. Enumerable.Range(0, 2).Select(n => new Thread(() =>
        {
            try
            {
                using WorkerPool pool = new(2 + n);
                int[] seen = new int[100];
                CountJob job = new(seen);
                for (int run = 0; run < 2000; run++) pool.Run(ref job, 100);
                Assert.All(seen, static count => Assert.Equal(2000, count));
            }
            catch (Exception e)
            {
                failures[n] = e;
            }
        }))];
        foreach (Thread caller in callers) caller.Start();
        foreach (Thread caller in callers) caller.Join();
        Assert.All(failures, Assert.Null);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(16)]
    public void Workers_wake_whenever_the_next_run_comes(int threads)
    {
        using WorkerPool pool = new(threads);
        Random random = new(threads);
        int[] seen = new int[threads];
        CountJob job = new(seen);
        for (int run = 1; run <= 3000; run++)
        {
            // Around the moments at which a worker looks at the clock, gives up and parks, in a step and outside.
            if (random.Next(4) == 0) pool.BeginStep();
            if (random.Next(4) == 0) pool.EndStep();
            Thread.SpinWait(random.Next(random.Next(10_000) + 1));
            // By owners: every worker has to come itself.
            pool.RunByOwner(ref job, threads);
            if (seen.AsSpan().ContainsAnyExcept(run)) Assert.Fail($"run {run}: {string.Join(' ', seen)}");
        }
    }

    [Theory]
    [InlineData(2)]
    [InlineData(6)]
    public void An_idle_pool_uses_no_cpu_time(int threads)
    {
        if (!OperatingSystem.IsLinux()) return;
        using WorkerPool pool = new(threads);
        long[] before = new long[threads], after = new long[threads];
        CpuTimeJob first = new(before), last = new(after);
        // A step that nobody ends must not keep the workers awake either.
        pool.BeginStep();
        pool.RunByOwner(ref first, threads);
        SpinWait.SpinUntil(() => pool.ParkedWorkers == threads - 1, 60_000);
        Assert.Equal(threads - 1, pool.ParkedWorkers);
        Thread.Sleep(500);
        pool.RunByOwner(ref last, threads);
        for (int worker = 1; worker < threads; worker++) Assert.InRange(after[worker] - before[worker], 0, 50_000_000);
    }

    [Fact]
    public void A_step_wakes_the_workers_before_its_first_run()
    {
        if (Environment.ProcessorCount == 1) return;    // nobody to wake: the caller has the only core
        using WorkerPool pool = new(2);
        // Busy machines may stop this thread for so long that the worker parks again.
        bool woken = false;
        for (int attempt = 0; attempt < 100 && !woken; attempt++)
        {
            SpinWait.SpinUntil(() => pool.ParkedWorkers == 1, 60_000);
            pool.BeginStep();
            woken = pool.ParkedWorkers == 0;
        }
        Assert.True(woken);
    }

    [Fact]
    public void An_error_of_a_run_by_owners_is_the_callers_and_does_not_stay()
    {
        using WorkerPool pool = new(3);
        for (int run = 0; run < 100; run++)
        {
            FailingJob failing = default;
            Assert.Throws<FormatException>(() => pool.RunByOwner(ref failing, 9));
            int[] seen = new int[9];
            CountJob job = new(seen);
            pool.RunByOwner(ref job, 9);
            Assert.All(seen, static count => Assert.Equal(1, count));
        }
    }

    [Fact]
    public void Pools_end_at_any_time_and_more_than_once()
    {
        Random random = new(1);
        for (int n = 0; n < 200; n++)
        {
            WorkerPool pool = new(1 + n % 9);
            CountJob job = new(new int[20]);
            if (n % 3 > 0) pool.Run(ref job, 20);
            if (n % 3 > 1) pool.BeginStep();
            Thread.SpinWait(random.Next(5000));
            pool.Dispose();
            pool.Dispose();
            Assert.Throws<ObjectDisposedException>(() => pool.Run(ref job, 20));
            Assert.Throws<ObjectDisposedException>(pool.BeginStep);
        }
    }

    [Fact]
    public void Too_many_items_are_refused()
    {
        using WorkerPool pool = new(2);
        CountJob job = new([]);
        Assert.Throws<ArgumentOutOfRangeException>(() => pool.Run(ref job, WorkerPool.MaxItems + 1));
    }
}
