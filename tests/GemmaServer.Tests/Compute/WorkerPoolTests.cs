using GemmaServer.Compute;

namespace GemmaServer.Tests;

public sealed class WorkerPoolTests
{
    private struct CountJob(int[] seen) : IWorkerJob
    {
        public readonly void Execute(int item, int worker) => Interlocked.Increment(ref seen[item]);
    }

    private struct WorkerJob(int[] busy, int threads, StrongFlag failed) : IWorkerJob
    {
        public readonly void Execute(int item, int worker)
        {
            if ((uint)worker >= (uint)threads || Interlocked.Increment(ref busy[worker]) != 1) failed.Set = true;
            Thread.SpinWait(20);
            Interlocked.Decrement(ref busy[worker]);
        }
    }

    private struct FailingJob(int failAt) : IWorkerJob
    {
        public readonly void Execute(int item, int worker)
        {
            if (item == failAt) throw new FormatException($"item {item}");
        }
    }

    /// <summary>Notes what each worker's thread had allocated at its first and its last item.</summary>
    private struct AllocationJob(long[] first, long[] last) : IWorkerJob
    {
        public readonly void Execute(int item, int worker)
        {
            last[worker] = GC.GetAllocatedBytesForCurrentThread();
            if (first[worker] < 0) first[worker] = last[worker];
            Thread.SpinWait(50);
        }
    }

    private struct NestedJob(WorkerPool pool) : IWorkerJob
    {
        public readonly void Execute(int item, int worker)
        {
            CountJob inner = new(new int[4]);
            pool.Run(ref inner, 4);
        }
    }

    private struct GatherJob(long[] partial, int[] data) : IWorkerJob
    {
        // A reference that only the job holds: the collector has to find it in the pool's copy.
        public int[]? Extra;

        public readonly void Execute(int item, int worker) => Interlocked.Add(ref partial[worker], data[item] + Extra![item]);
    }

    private sealed class StrongFlag
    {
        public volatile bool Set;
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(8)]
    [InlineData(17)]
    [InlineData(64)]
    public void Every_item_runs_exactly_once(int threads)
    {
        using WorkerPool pool = new(threads);
        foreach (int items in new[] { 0, 1, 2, 3, 7, 8, 9, 64, 1000 })
        {
            int[] seen = new int[items];
            CountJob job = new(seen);
            pool.Run(ref job, items);
            Assert.All(seen, count => Assert.Equal(1, count));
        }
    }

    [Theory]
    [InlineData(2, 100_000)]
    [InlineData(4, 50_000)]
    [InlineData(64, 5_000)]
    public void Many_short_runs_lose_and_repeat_nothing(int threads, int runs)
    {
        using WorkerPool pool = new(threads);
        int[] seen = new int[5], expected = new int[5];
        CountJob job = new(seen);
        for (int run = 0; run < runs; run++)
        {
            int items = 1 + run % 5;
            for (int i = 0; i < items; i++) expected[i]++;
            pool.Run(ref job, items);
            // At once: nothing may still be on its way when Run returns.
            if (!seen.AsSpan().SequenceEqual(expected)) Assert.Fail($"run {run}: {string.Join(' ', seen)}");
        }
    }

    [Fact]
    public void Parked_workers_wake_for_the_next_run()
    {
        using WorkerPool pool = new(4);
        for (int run = 0; run < 30; run++)
        {
            int[] seen = new int[100];
            CountJob job = new(seen);
            pool.Run(ref job, 100);
            Assert.All(seen, count => Assert.Equal(1, count));
            Thread.Sleep(2);    // much longer than a worker spins
        }
    }

    [Fact]
    public void Two_calls_at_a_time_never_share_a_worker_number()
    {
        const int threads = 6;
        using WorkerPool pool = new(threads);
        StrongFlag failed = new();
        WorkerJob job = new(new int[threads], threads, failed);
        for (int run = 0; run < 300; run++) pool.Run(ref job, 64);
        Assert.False(failed.Set);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void An_items_exception_reaches_the_caller_and_the_pool_lives_on(int threads)
    {
        using WorkerPool pool = new(threads);
        for (int failAt = 0; failAt < 64; failAt += 9)
        {
            FailingJob failing = new(failAt);
            FormatException e = Assert.Throws<FormatException>(() => pool.Run(ref failing, 64));
            Assert.Equal($"item {failAt}", e.Message);

            int[] seen = new int[64];
            CountJob job = new(seen);
            pool.Run(ref job, 64);
            Assert.All(seen, count => Assert.Equal(1, count));
        }
    }

    [Fact]
    public void A_run_inside_a_run_is_refused()
    {
        using WorkerPool pool = new(2);
        NestedJob job = new(pool);
        Assert.Throws<InvalidOperationException>(() => pool.Run(ref job, 8));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void A_run_allocates_nothing(int threads)
    {
        using WorkerPool pool = new(threads);
        CountJob job = new(new int[256]);
        for (int run = 0; run < 200; run++) pool.Run(ref job, 256);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int run = 0; run < 2000; run++) pool.Run(ref job, 256);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void Workers_allocate_nothing_between_items_spinning_or_parked()
    {
        using WorkerPool pool = new(3);
        long[] first = new long[3], last = new long[3];
        AllocationJob job = new(first, last);
        for (int run = 0; run < 300; run++)
        {
            // Counted from the hundredth run on, when everything is compiled and every lock has been inflated.
            if (run == 100) first.AsSpan().Fill(-1);
            pool.Run(ref job, 200);
            if (run % 10 == 0) Thread.Sleep(1);     // long enough to park
        }
        Assert.Contains(Enumerable.Range(1, 2), worker => first[worker] >= 0);
        for (int worker = 0; worker < 3; worker++)
        {
            if (first[worker] >= 0) Assert.Equal(first[worker], last[worker]);
        }
    }

    [Fact]
    public void References_inside_a_job_survive_collections_while_it_runs()
    {
        using WorkerPool pool = new(4);
        using CancellationTokenSource stop = new();
        Thread collector = new(() => { while (!stop.IsCancellationRequested) { GC.Collect(0); GC.Collect(); } });
        collector.Start();
        for (int run = 0; run < 300; run++)
        {
            long[] partial = new long[4];
            GatherJob job = new(partial, [.. Enumerable.Range(0, 500)]) { Extra = [.. Enumerable.Range(run, 500)] };
            pool.Run(ref job, 500);
            Assert.Equal(500 * 499 + 500 * run, partial.Sum());
        }
        stop.Cancel();
        collector.Join();
    }

    [Fact]
    public void A_disposed_pool_refuses_to_run()
    {
        WorkerPool pool = new(3);
        CountJob job = new(new int[4]);
        pool.Run(ref job, 4);
        pool.Dispose();
        Assert.Throws<ObjectDisposedException>(() => pool.Run(ref job, 4));
    }

    [Fact]
    public void A_pool_needs_a_thread() => Assert.Throws<ArgumentOutOfRangeException>(() => new WorkerPool(0));
}
