using System.Collections.Concurrent;
using System.Diagnostics;
using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.Engine;

/// <summary>
/// Turns requests into tokens: one thread that owns sequences, pages and the runner, an inbox before it and one event queue
/// per request behind it.
/// </summary>
public sealed class InferenceEngine : IDisposable
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

    /// <summary>Hands a request to the engine thread, or says at once why not. From any thread.</summary>
    /// <param name="request">Checked and complete; MaxTokens is bounded by the model's length here.</param>
    /// <param name="generation">Its answer; null unless accepted. Every accepted request ends with a reason.</param>
    /// <exception cref="ArgumentException">The prompt is empty or longer than the model: the caller did not check.</exception>
    public SubmitResult TrySubmit(GenerationRequest request, out Generation? generation) =>
        TrySubmit(request, request.Stop is { } stop ? stop.Push : null, out generation);

    /// <summary>Hands several requests of one client in, all or none: the choices of one answer. Equal beginnings among them are computed once.</summary>
    /// <param name="requests">As above, each; all of the first one's client.</param>
    /// <param name="generations">Their answers, in the same order; null unless accepted.</param>
    /// <exception cref="ArgumentException">A prompt is empty or longer than the model, or the clients differ: the caller did not check.</exception>
    public SubmitResult TrySubmit(IReadOnlyList<GenerationRequest> requests, out Generation[]? generations)
    {
        string? privateSalt = requests.Count > 1 && !_options.PrefixCaching ? Guid.NewGuid().ToString() : null;
        Sequence[] sequences = new Sequence[requests.Count];
        for (int i = 0; i < sequences.Length; i++)
        {
            if (requests[i].Client != requests[0].Client) throw new ArgumentException("The requests are of different clients.", nameof(requests));
            sequences[i] = Prepare(requests[i], requests[i].Stop is { } stop ? stop.Push : null, privateSalt);
        }
        return TrySubmit(sequences, out generations);
    }

    internal SubmitResult TrySubmit(GenerationRequest request, Func<int, bool>? endsWith, out Generation? generation)
    {
        SubmitResult result = TrySubmit([Prepare(request, endsWith, privateSalt: null)], out Generation[]? generations);
        generation = generations?[0];
        return result;
    }

    /// <summary>When to try again after a refusal: about when what waits now was admitted, by the rate of the last admissions; 1 to 60 seconds.</summary>
    /// <param name="client">For <see cref="SubmitResult.ClientQueueFull"/> the client; null for the whole queue.</param>
    public TimeSpan RetryAfter(string? client = null)
    {
        double seconds = _limits.Estimate(client, _options.Time.GetTimestamp()) / _options.Time.TimestampFrequency;
        return TimeSpan.FromSeconds(Math.Clamp(seconds, 1, 60));
    }

    private SubmitResult TrySubmit(Sequence[] sequences, out Generation[]? generations)
    {
        generations = null;
        lock (_submitting)
        {
            if (_closed) return SubmitResult.ShuttingDown;
            SubmitResult result = _limits.TryEnter(sequences[0].Place.Client, sequences.Length);
            if (result != SubmitResult.Accepted) return result;
            generations = new Generation[sequences.Length];
            for (int i = 0; i < sequences.Length; i++)
            {
                sequences[i].Place.Arrival = _arrivals++;
                generations[i] = sequences[i].Generation;
                _inbox.Enqueue(sequences[i]);
            }
        }
        Ring();
        return SubmitResult.Accepted;
    }

    private Sequence Prepare(GenerationRequest request, Func<int, bool>? endsWith, string? privateSalt)
    {
        if (request.Prompt.Length == 0 || request.Prompt.Length > MaxModelLength)
            throw new ArgumentException($"A prompt of {request.Prompt.Length} tokens; it must have 1 to {MaxModelLength}.", nameof(request));

        int maxTokens = Math.Clamp(request.MaxTokens, 0, MaxModelLength - request.Prompt.Length);
        DraftDepth? depth = MaxDrafts > 0 && maxTokens > 1 ? new DraftDepth(MaxDrafts) : null;
        NgramIndex? ngrams = depth is null || _runner.MaxDrafts > 0 ? null : IndexNgrams(request, maxTokens);
        long now = _options.Time.GetTimestamp();
        Generation generation = new(request, maxTokens, now);
        TokenHashes? hashes = Hash(request, maxTokens, privateSalt);
        Sequence sequence = new(request, maxTokens, endsWith, generation, Deadline(request.QueueTimeout, now), Deadline(request.Timeout, now), hashes)
        {
            HasPrivateHashes = privateSalt is not null,
            Depth = depth,
            Ngrams = ngrams,
        };
        generation.OnCancel(() => Cancel(sequence));
        return sequence;
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

        Metrics.Show(_scheduler.Running, _scheduler.FreePages);
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
        Metrics.Show(_scheduler.Running, _scheduler.FreePages);
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

    /// <summary>
    /// Names the prompt's prefixes here, on the caller's thread. Without a prefix cache only the choices of one request share
    /// what they compute, by a salt of their own. Null for a request that shares nothing: prompt logprobs come from computed rows.
    /// </summary>
    private TokenHashes? Hash(GenerationRequest request, int maxTokens, string? privateSalt)
    {
        if (request.PromptLogprobs >= 0 || (!_options.PrefixCaching && privateSalt is null)) return null;
        TokenHashes hashes = new(_scheduler.HashUnit, privateSalt ?? request.CacheSalt, request.Prompt.Length + Math.Min(maxTokens, Sequence.FirstOutputRoom));
        hashes.Extend(request.Prompt);
        return hashes;
    }

    /// <summary>Indexes the prompt here, on the caller's thread.</summary>
    private static NgramIndex IndexNgrams(GenerationRequest request, int maxTokens)
    {
        NgramIndex ngrams = new(request.Prompt.Length + Math.Min(maxTokens, Sequence.FirstOutputRoom));
        ngrams.Extend(request.Prompt);
        return ngrams;
    }

    private long Deadline(TimeSpan? within, long now)
    {
        if (within is not { } timeout) return long.MaxValue;
        double deadline = now + timeout.TotalSeconds * _options.Time.TimestampFrequency;
        return deadline >= long.MaxValue ? long.MaxValue : (long)deadline;
    }
}
