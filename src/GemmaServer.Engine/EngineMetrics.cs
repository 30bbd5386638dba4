using System.Diagnostics;

namespace GemmaServer.Engine;

/// <summary>
/// What the engine did and does, for gauges and counters that are read when somebody asks (observable instruments).
/// Written by the engine thread, readable from any; latencies lie in each request's <see cref="Generation"/>.
/// </summary>
public sealed class EngineMetrics
{
    private readonly long[] _finished = new long[Enum.GetValues<FinishReason>().Length];
    private int _waiting;
    private int _running;
    private int _freePages;
    private long _promptTokens;
    private long _generatedTokens;
    private long _preemptions;
    private long _steps;
    private long _rows;
    private long _failures;
    private long _rejected;
    private long _prefixQueries;
    private long _prefixHits;
    private long _prefixEvictions;
    private long _draftSteps;
    private long _drafts;
    private long _acceptedDrafts;
    private long _modelTicks;
    private long _overheadTicks;

    internal EngineMetrics(int totalPages)
    {
        TotalPages = totalPages;
        _freePages = totalPages;
    }

    /// <summary>Requests that wait for a place, preempted ones included.</summary>
    public int Waiting => Volatile.Read(ref _waiting);

    /// <summary>Sequences being computed, as of the last step.</summary>
    public int Running => Volatile.Read(ref _running);

    /// <summary>Pages of the KV pool that nobody holds, cached ones included, as of the last step.</summary>
    public int FreePages => Volatile.Read(ref _freePages);

    /// <summary>Pages of the KV pool.</summary>
    public int TotalPages { get; }

    /// <summary>Prompt tokens of all requests that were admitted; recomputation after a preemption does not count again.</summary>
    public long PromptTokens => Volatile.Read(ref _promptTokens);

    /// <summary>Prompt tokens looked up in the prefix cache, once for each request that uses it.</summary>
    public long PrefixCacheQueries => Volatile.Read(ref _prefixQueries);

    /// <summary>Those of them that were found.</summary>
    public long PrefixCacheHits => Volatile.Read(ref _prefixHits);

    /// <summary>Cached pages that gave way to others, as of the last step.</summary>
    public long PrefixCacheEvictions => Volatile.Read(ref _prefixEvictions);

    /// <summary>Times a sequence's guesses were verified.</summary>
    public long DraftSteps => Volatile.Read(ref _draftSteps);

    /// <summary>Guessed tokens that were verified: rows beyond the one that each sequence gets.</summary>
    public long Drafts => Volatile.Read(ref _drafts);

    /// <summary>Those of them that were right.</summary>
    public long AcceptedDrafts => Volatile.Read(ref _acceptedDrafts);

    /// <summary>Tokens handed out.</summary>
    public long GeneratedTokens => Volatile.Read(ref _generatedTokens);

    /// <summary>Times a sequence lost its pages and was queued again.</summary>
    public long Preemptions => Volatile.Read(ref _preemptions);

    /// <summary>Steps started.</summary>
    public long Steps => Volatile.Read(ref _steps);

    /// <summary>Rows computed in these steps, so <c>Rows / Steps</c> is the mean batch.</summary>
    public long Rows => Volatile.Read(ref _rows);

    /// <summary>Seconds that the engine thread was in the runner, which computes and samples.</summary>
    public double ModelSeconds => Volatile.Read(ref _modelTicks) / (double)Stopwatch.Frequency;

    /// <summary>
    /// Seconds that the engine thread spent on everything else, from the beginning to the end of turns in which a step ran:
    /// taking requests in, scheduling, keeping pages, committing, waking readers. Waiting for requests is not in it.
    /// </summary>
    public double OverheadSeconds => Volatile.Read(ref _overheadTicks) / (double)Stopwatch.Frequency;

    /// <summary>Failures that the engine survived: of the runner, or of one sequence.</summary>
    public long Failures => Volatile.Read(ref _failures);

    /// <summary>Requests refused because the queue was full, or their client's share of it; a set counts once.</summary>
    public long Rejected => Volatile.Read(ref _rejected);

    /// <summary>Requests that ended with this reason.</summary>
    public long Finished(FinishReason reason) => Volatile.Read(ref _finished[(int)reason]);

    // Submitters and the engine thread both count here.
    internal void AddWaiting(int change) => Interlocked.Add(ref _waiting, change);

    internal void AddRejected() => Interlocked.Increment(ref _rejected);

    // Only the engine thread writes below.
    internal void AddPromptTokens(int count) => Volatile.Write(ref _promptTokens, _promptTokens + count);

    internal void AddPrefixQuery(int tokens, int hits)
    {
        Volatile.Write(ref _prefixQueries, _prefixQueries + tokens);
        Volatile.Write(ref _prefixHits, _prefixHits + hits);
    }

    internal void AddDrafts(int verified, int accepted)
    {
        Volatile.Write(ref _draftSteps, _draftSteps + 1);
        Volatile.Write(ref _drafts, _drafts + verified);
        Volatile.Write(ref _acceptedDrafts, _acceptedDrafts + accepted);
    }

    internal void AddGeneratedToken() => Volatile.Write(ref _generatedTokens, _generatedTokens + 1);

    internal void AddPreemption() => Volatile.Write(ref _preemptions, _preemptions + 1);

    internal void AddFailure() => Volatile.Write(ref _failures, _failures + 1);

    internal void AddFinished(FinishReason reason) => Volatile.Write(ref _finished[(int)reason], _finished[(int)reason] + 1);

    internal void AddStep(int rows)
    {
        Volatile.Write(ref _steps, _steps + 1);
        Volatile.Write(ref _rows, _rows + rows);
    }

    /// <summary>Adds a turn in which a step was started or collected; in ticks of <see cref="Stopwatch"/>.</summary>
    internal void AddTime(long turn, long inModel)
    {
        Volatile.Write(ref _modelTicks, _modelTicks + inModel);
        Volatile.Write(ref _overheadTicks, _overheadTicks + turn - inModel);
    }

    internal void Show(int running, int freePages, long evictions)
    {
        Volatile.Write(ref _running, running);
        Volatile.Write(ref _freePages, freePages);
        Volatile.Write(ref _prefixEvictions, evictions);
    }
}
