using System.Collections.Concurrent;
using System.Diagnostics;
using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.Engine;

/// <summary>
/// Turns requests into tokens: one thread that owns sequences, pages and the runner, an inbox before it and one event queue
/// per request behind it.
/// </summary>
public sealed partial class InferenceEngine : IDisposable
{
    private readonly IModelRunner _runner;
    private readonly EngineOptions _options;
    private readonly Scheduler _scheduler;
    private readonly Committer _committer;
    private readonly ScheduledStep[] _steps;    // one in flight, one to fill
    private int _turn;
    private ScheduledStep? _inFlight;
    private long _collectedAt;
    private long _inModel;      // Stopwatch ticks of this turn spent in the runner

    private readonly ConcurrentQueue<Sequence> _inbox = new();
    private readonly ConcurrentQueue<Sequence> _cancelled = new();
    private readonly ConcurrentQueue<TaskCompletionSource<int>> _forgetting = new();
    private readonly Lock _submitting = new();
    private readonly QueueLimits _limits;
    private long _arrivals;
    private readonly object _bell = new();
    private readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Thread? _thread;
    private bool _rung;
    private volatile bool _closed;      // nothing new is taken
    private volatile bool _abortAll;
    private volatile bool _stopped;

    /// <summary>Prepares the engine; <see cref="Start"/> gives it its thread.</summary>
    /// <param name="runner">The model. Stays the caller's to dispose, after the engine.</param>
    /// <param name="options">Bounds.</param>
    /// <exception cref="ArgumentException">One sequence of MaxModelLength tokens would not fit into the KV pool.</exception>
    public InferenceEngine(IModelRunner runner, EngineOptions options)
    {
        _runner = runner;
        _options = options;
        int rows = Math.Min(options.MaxBatchTokens, runner.MaxBatchTokens);
        int sequences = Math.Min(Math.Min(options.MaxSequences, runner.MaxSequences), rows);    // each decode gets a row in each step
        int pages = runner.KvCache.PagesForSequence(options.MaxModelLength, rows);
        if (pages > runner.KvCache.PageCount)
        {
            throw new ArgumentException(
                $"The KV cache has {runner.KvCache.PageCount} pages, but one sequence of {options.MaxModelLength} tokens needs {pages}. " +
                "Give it more memory or lower the maximum model length.", nameof(options));
        }
        if (sequences < 1) throw new ArgumentException("At least one sequence and one row must fit into a step.", nameof(options));

        Metrics = new EngineMetrics(runner.KvCache.PageCount);
        _limits = new QueueLimits(options.MaxQueue, options.MaxQueuePerClient, Metrics);
        _scheduler = new Scheduler(runner, sequences, rows, options.CachedWindowShare, _limits, Metrics, options.Time, Report);
        _committer = new Committer(_scheduler, Metrics, options.DraftCost, options.Time, Report);
        _steps = [new ScheduledStep(rows, sequences), new ScheduledStep(rows, sequences)];
    }

    /// <summary>What it did and does.</summary>
    public EngineMetrics Metrics { get; }

    /// <summary>Most prompt and answer tokens of one request together.</summary>
    public int MaxModelLength => _options.MaxModelLength;

    /// <summary>Most tokens that are guessed for a sequence in a step; 0 where nobody guesses.</summary>
    public int MaxDrafts => _runner.MaxDrafts > 0 ? _runner.MaxDrafts : _options.PromptLookupDrafts;

    /// <summary>Starts the engine thread.</summary>
    public void Start()
    {
        if (_thread is not null) throw new InvalidOperationException("The engine runs already.");
        _thread = new Thread(Run) { Name = "GemmaServer engine", IsBackground = true };
        _thread.Start();
    }

    /// <summary>Takes nothing new, lets what runs and waits finish, and ends the rest with Abort when the time is over.</summary>
    /// <param name="patience">How long to wait; <see cref="Timeout.InfiniteTimeSpan"/> for ever.</param>
    /// <returns>Whether everything finished by itself.</returns>
    public async Task<bool> DrainAsync(TimeSpan patience)
    {
        Close();
        try
        {
            await _drained.Task.WaitAsync(patience, _options.Time).ConfigureAwait(false);
            return true;
        }
        catch (TimeoutException)
        {
            _abortAll = true;
            Ring();
            await _drained.Task.ConfigureAwait(false);
            return false;
        }
    }

    /// <summary>Forgets what the prefix cache knows and no running request holds. From any thread.</summary>
    /// <returns>The pages that are free now; 0 when the engine takes nothing new any more.</returns>
    public Task<int> ForgetPrefixesAsync()
    {
        TaskCompletionSource<int> done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_submitting)
        {
            if (_closed) return Task.FromResult(0);
            _forgetting.Enqueue(done);
        }
        Ring();
        return done.Task;
    }

    /// <summary>Stops the thread after the step it is in and ends every open request with Abort.</summary>
    public void Dispose()
    {
        if (_stopped) return;
        Close();
        _stopped = true;
        Ring();
        if (_thread is not null) _thread.Join();
        else End();
    }

    /// <summary>One turn: take in what came, pick a batch, start it, and hand out what the one before produced.</summary>
    /// <returns>Whether there is more to do.</returns>
    internal bool Step()
    {
        long start = Stopwatch.GetTimestamp();
        _inModel = 0;
        bool closed = _closed;      // before the look into the inbox: after this nothing comes in
        TakeIn();

        // A preempted sequence gives its pages away at once, so nothing in flight may still read them.
        if (_inFlight is not null && !_scheduler.CanPlanAhead()) Settle();

        ScheduledStep? next = Launch();
        Settle();
        _inFlight = next;
        if (!_runner.IsAsynchronous) Settle();

        Metrics.Show(_scheduler.Running, _scheduler.FreePages, _scheduler.Evictions);
        if (_inModel > 0) Metrics.AddTime(Stopwatch.GetTimestamp() - start, _inModel);
        bool busy = _inFlight is not null || !_scheduler.IsIdle || !_inbox.IsEmpty || !_cancelled.IsEmpty;
        if (closed && !busy) _drained.TrySetResult();
        return busy;
    }

    /// <summary>For tests: every slot and page is in exactly one place.</summary>
    internal void CheckIntegrity() => _scheduler.CheckIntegrity();

    private void TakeIn()
    {
        while (_inbox.TryDequeue(out Sequence? sequence)) _scheduler.Add(sequence);
        while (_cancelled.TryDequeue(out Sequence? sequence)) _scheduler.Cancel(sequence);
        while (_forgetting.TryDequeue(out TaskCompletionSource<int>? done)) done.SetResult(_scheduler.ForgetPrefixes());
        if (_abortAll) _scheduler.FinishAll(FinishReason.Abort);
        _scheduler.Expire();
    }

    /// <summary>Schedules and starts a step; null when there is nothing to compute, or the runner failed.</summary>
    private ScheduledStep? Launch()
    {
        ScheduledStep step = _steps[_turn ^= 1];
        try
        {
            _scheduler.Schedule(step);
        }
        catch
        {
            _committer.Abandon(step);
            throw;
        }
        if (step.Count == 0) return null;
        Metrics.AddStep(step.Batch.TokenCount);
        long start = Stopwatch.GetTimestamp();
        try
        {
            step.LaunchedAt = start;
            step.Ticket = _runner.Launch(step.Batch);
            return step;
        }
        catch (Exception e)
        {
            Report(e);
            _committer.Abandon(step);
            return null;
        }
        finally
        {
            _inModel += Stopwatch.GetTimestamp() - start;
        }
    }

    /// <summary>Waits for the step in flight, if any, and commits it.</summary>
    private void Settle()
    {
        if (_inFlight is not { } step) return;
        _inFlight = null;
        StepResult result;
        long start = Stopwatch.GetTimestamp();
        try
        {
            result = _runner.Collect(step.Ticket);
            if (result.SequenceCount != step.Count)
                throw new InvalidOperationException($"The runner gave results for {result.SequenceCount} of {step.Count} sequences.");
        }
        catch (Exception e)
        {
            Report(e);
            _committer.Abandon(step);
            return;
        }
        // Where steps overlap, this one began when the one before was done.
        long now = Stopwatch.GetTimestamp();
        _inModel += now - start;
        TimeSpan elapsed = Stopwatch.GetElapsedTime(Math.Max(step.LaunchedAt, _collectedAt), now);
        _collectedAt = now;
        _committer.Commit(step, result, elapsed);
    }

    private void Run()
    {
        while (!_stopped)
        {
            try
            {
                if (Step()) continue;
            }
            catch (Exception e)
            {
                // Not the runner's but our own mistake. Nobody should wait for an answer that will not come.
                Report(e);
                _scheduler.FinishAll(FinishReason.Error);
                continue;
            }
            CheckBooks();
            Park();
        }
        End();
    }

    private void CheckBooks()
    {
        try
        {
            _scheduler.CheckIntegrity();
        }
        catch (Exception e)
        {
            Report(e);
        }
    }

    /// <summary>The last act: nobody is left without a last event.</summary>
    private void End()
    {
        while (_inbox.TryDequeue(out Sequence? sequence)) _scheduler.Add(sequence);
        _scheduler.FinishAll(FinishReason.Abort);
        Settle();
        while (_forgetting.TryDequeue(out TaskCompletionSource<int>? done)) done.SetResult(0);
        Metrics.Show(_scheduler.Running, _scheduler.FreePages, _scheduler.Evictions);
        _drained.TrySetResult();
    }

    private void Close()
    {
        lock (_submitting) _closed = true;
        Ring();
    }

    private void Cancel(Sequence sequence)
    {
        _cancelled.Enqueue(sequence);
        Ring();
    }

    private void Ring()
    {
        lock (_bell)
        {
            _rung = true;
            Monitor.Pulse(_bell);
        }
    }

    private void Park()
    {
        lock (_bell)
        {
            while (!_rung) Monitor.Wait(_bell);
            _rung = false;
        }
    }

    private void Report(Exception exception)
    {
        Metrics.AddFailure();
        try
        {
            _options.OnError?.Invoke(exception);
        }
        catch
        {
            // A log that fails must not take the engine with it.
        }
    }
}
