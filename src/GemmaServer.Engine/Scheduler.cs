using GemmaServer.Compute;
using GemmaServer.Model;
using GemmaServer.Text;

namespace GemmaServer.Engine;

/// <summary>
/// Who runs next, in which slot and which pages. Running decodes come first, then running prefills, then the queue
/// (<see cref="WaitingQueue"/>); when pages run short the last in rank gives its own back and is computed again later.
/// </summary>
/// <remarks>
/// Rank is (priority, arrival), lower first. Why nobody waits for ever behind its own priority or a worse one:
/// <c>_running</c> is in order of rank, so its first sequence can take the pages of all others, and the engine's constructor
/// made sure that one alone always fits: it comes to its end. Of a sequence's own priority only finitely many
/// rank before it. A preempted one is first in the queue, before newcomers of any rank. Among the new, each admission raises
/// a client's counter, so the others' turn comes. Who follows a leader waits for the prefill of a running sequence of no worse
/// priority, a bounded number of times, and is woken when the leader leaves. Only better priorities may hold up a worse one
/// for as long as they come; that is what they are for.
/// </remarks>
internal sealed partial class Scheduler
{
    private static readonly int[] LastSampledRow = [StepBatch.LastSampled];

    private readonly IModelRunner _runner;
    private readonly BlockAllocator _blocks;
    private readonly EngineMetrics _metrics;
    private readonly TimeProvider _time;
    private readonly Action<Exception> _report;
    private readonly RoomEstimate _room;
    private readonly QueueLimits _limits;

    private readonly WaitingQueue _queue = new();
    private readonly Heap<QueuePlace> _deadlines = new();
    private readonly List<Sequence> _running;       // in order of rank
    private readonly BlockTable[] _tables;          // by slot; a table keeps its size for the slot's next sequence
    private readonly Sequence?[] _owners;           // by slot
    private readonly Stack<int> _freeSlots;
    private int _slicesInFlight;

    /// <param name="runner">Opens and closes slots; its steps are launched by the engine.</param>
    /// <param name="maxSequences">Slots to use.</param>
    /// <param name="chunk">Most rows of one sequence in a step.</param>
    /// <param name="windowShare">Share of the pages that may keep windows of past prompts and turns.</param>
    /// <param name="limits">Told who enters and leaves the queue.</param>
    /// <param name="metrics">Where to count.</param>
    /// <param name="time">Clock of the deadlines.</param>
    /// <param name="report">Told of failures.</param>
    public Scheduler(IModelRunner runner, int maxSequences, int chunk, double windowShare, QueueLimits limits, EngineMetrics metrics, TimeProvider time, Action<Exception> report)
    {
        _runner = runner;
        _blocks = new BlockAllocator(runner.KvCache, windowShare);
        _metrics = metrics;
        _time = time;
        _report = report;
        _room = new RoomEstimate(runner.KvCache, _blocks, chunk);
        _limits = limits;
        _running = new List<Sequence>(maxSequences);
        _closing = new List<Sequence>(maxSequences);
        _owners = new Sequence?[maxSequences];
        _tables = new BlockTable[maxSequences];
        _freeSlots = new Stack<int>(maxSequences);
        for (int slot = maxSequences - 1; slot >= 0; slot--)
        {
            _tables[slot] = _blocks.NewTable();
            _freeSlots.Push(slot);
        }
    }

    public int Running => _running.Count;

    public int FreePages => _blocks.FreePages;

    public long Evictions => _blocks.Evictions;

    public int HashUnit => _blocks.HashUnit;

    public bool IsIdle => _running.Count == 0 && _queue.Count == 0 && _closing.Count == 0;

    /// <summary>Forgets cached prefixes that nobody holds, and says how many pages that frees.</summary>
    public int ForgetPrefixes() => _blocks.ForgetUnheld();

    /// <summary>Puts a new sequence into the queue.</summary>
    public void Add(Sequence sequence)
    {
        if (sequence.Generation.IsCancelled)
        {
            Finish(sequence, FinishReason.Abort);
            return;
        }
        _room.Measure(sequence);
        _queue.Add(sequence);
        if (sequence.Place.NextDeadline != long.MaxValue) _deadlines.Add(sequence.Place);
    }

    /// <summary>Ends a sequence whose reader left. One still in the inbox ends when it is taken in.</summary>
    public void Cancel(Sequence sequence)
    {
        bool inInbox = sequence.State == SequenceState.Waiting && sequence.Place.Node.List is null;
        if (sequence.State != SequenceState.Finished && !inInbox) Finish(sequence, FinishReason.Abort);
    }

    /// <summary>Ends those whose time is over: to leave the queue, or to be complete.</summary>
    public void Expire()
    {
        if (_deadlines.Count == 0) return;
        long now = _time.GetTimestamp();
        while (_deadlines.Count > 0 && _deadlines.Top.NextDeadline <= now)
        {
            QueuePlace place = _deadlines.Top;
            Finish(place.Sequence, place.EndBy <= now ? FinishReason.Deadline : FinishReason.QueueTimeout);
        }
    }

    /// <summary>
    /// Whether a step can be planned while one is in flight: every decode gets its pages without a preemption, and nobody
    /// wants guesses behind a token that is not known yet.
    /// </summary>
    public bool CanPlanAhead()
    {
        foreach (Sequence s in _running)
            if (s.SamplesInFlight > 0 && s.DraftsWanted > 0) return false;
        return PagesForDecodes() <= FreePages;
    }

    /// <summary>Fills an empty step; it stays empty when nothing can be computed now.</summary>
    public void Schedule(ScheduledStep step)
    {
        AddClosing(step);
        MakeRoomForDrafts(step);
        AddDecodes(step);
        AddPrefills(step);
        Admit(step);
    }

    /// <summary>A launched slice came back: its sequence may be freed when it was the last.</summary>
    /// <param name="sequence">Whose.</param>
    /// <param name="slice">The slice.</param>
    /// <param name="isComputed">False when its step failed, or never left.</param>
    public void Land(Sequence sequence, in SequenceSlice slice, bool isComputed)
    {
        sequence.Landed(slice);
        _slicesInFlight--;
        if (sequence.State != SequenceState.Finished) return;
        if (isComputed) AdvanceFinished(sequence, slice);
        if (sequence.StepsInFlight == 0) Release(sequence);
    }

    /// <summary>After rows were committed: shows the pages that became full to others, and gives back those that left the window.</summary>
    public void Advanced(Sequence sequence)
    {
        if (sequence.Hashes is { } hashes)
        {
            int shown = sequence.Shown;
            hashes.Extend(sequence.Tokens[..sequence.Computed]);
            _blocks.AddToCache(hashes, sequence.Blocks!, shown, sequence.Computed, sequence.PromptLength);
            sequence.Shown = sequence.Computed;
            if (shown < sequence.CacheBoundary && sequence.CacheBoundary <= sequence.Computed) _blocks.KeepWindows(hashes, sequence.CacheBoundary, sequence.CacheBoundary);
            if (shown < sequence.PromptLength && sequence.PromptLength <= sequence.Computed) _blocks.KeepWindows(hashes, sequence.CacheBoundary, sequence.PromptLength);
        }
        sequence.PagesHeld -= _blocks.ReleaseLeftWindow(sequence.Blocks!, sequence.Computed);
    }

    /// <summary>Ends a sequence without a token.</summary>
    public void Finish(Sequence sequence, FinishReason reason) => Finish(sequence, new TokenEvent(-1, float.NaN, null, reason));

    /// <summary>Ends a sequence: out of queue or batch, pages back as soon as no step in flight reads them, last event out.</summary>
    public void Finish(Sequence sequence, in TokenEvent last)
    {
        if (sequence.State == SequenceState.Running) _running.Remove(sequence);
        else LeaveQueue(sequence);
        sequence.State = SequenceState.Finished;
        _queue.Wake(sequence, int.MaxValue);
        _queue.Ended(sequence);
        _deadlines.Remove(sequence.Place);
        if (sequence.StepsInFlight == 0 && !TryClose(sequence, last.Finish)) Release(sequence);
        _metrics.AddFinished(last.Finish);
        sequence.Generation.Complete(last, _time.GetTimestamp());
    }

    /// <summary>Ends everybody.</summary>
    public void FinishAll(FinishReason reason)
    {
        while (_running.Count > 0) Finish(_running[^1], reason);
        while (_queue.Peek() is { } waiting) Finish(waiting, reason);
        GiveUpClosing();
    }

    /// <summary>Every slot and every page is in exactly one place.</summary>
    /// <exception cref="InvalidOperationException">It is not so.</exception>
    public void CheckIntegrity()
    {
        _blocks.CheckIntegrity(_tables);
        int owned = 0;
        for (int slot = 0; slot < _owners.Length; slot++)
        {
            if (_owners[slot] is not { } owner) continue;
            owned++;
            if (owner.Slot != slot) throw new InvalidOperationException($"Slot {slot} belongs to a sequence in slot {owner.Slot}.");
        }
        if (owned + _freeSlots.Count != _owners.Length)
            throw new InvalidOperationException($"{owned} used + {_freeSlots.Count} free ≠ {_owners.Length} slots.");
        if (IsIdle && _slicesInFlight == 0 && owned != 0) throw new InvalidOperationException($"Idle, but {owned} slots are in use.");
    }

    private void AddDecodes(ScheduledStep step)
    {
        // Victims come from the end of the list, so they are never in the batch yet.
        for (int i = 0; i < _running.Count; i++)
        {
            Sequence sequence = _running[i];
            if (sequence.IsPrefilling) continue;
            while (!TryAdd(step, sequence) && HasWork(step, sequence) && sequence.State == SequenceState.Running) Preempt(_running[^1]);
        }
    }

    private void AddPrefills(ScheduledStep step)
    {
        for (int i = 0; i < _running.Count; i++)
        {
            Sequence sequence = _running[i];
            if (!sequence.IsPrefilling) continue;

            // Without pages it waits for others to finish, unless there is nobody to wait for.
            while (!TryAdd(step, sequence) && _slicesInFlight == 0 && sequence.State == SequenceState.Running) Preempt(_running[^1]);
        }
    }

    private static bool HasWork(ScheduledStep step, Sequence sequence) => sequence.RowsToCompute > 0 && step.Batch.FreeTokens > 0;

    /// <summary>Adds as many of a sequence's rows as budget and pages allow; false when that is none.</summary>
    private bool TryAdd(ScheduledStep step, Sequence sequence)
    {
        if (sequence.State != SequenceState.Running || !HasWork(step, sequence)) return false;
        int start = sequence.Scheduled;
        int rows = _blocks.RowsThatFit(sequence.Blocks!, start, Math.Min(sequence.RowsToCompute, step.Batch.FreeTokens));
        if (rows == 0) return false;

        int end = start + rows;
        bool sample = rows == sequence.RowsToCompute && sequence.WantsToken;
        int drafts = sample && start == sequence.Count - 1 ? Guess(sequence, start, step.Batch.FreeTokens - rows) : 0;
        sequence.PagesHeld += _blocks.Grow(sequence.Blocks!, end + drafts);
        SequenceSlice slice = new()
        {
            Slot = sequence.Slot,
            ContextLength = start,
            Sample = sample,
            Drafts = drafts,
            DraftsWanted = sample && sequence.Ngrams is null ? Math.Min(sequence.DraftsWanted, _runner.MaxDrafts) : 0,
            PromptLogprobs = sequence.WantsPromptLogprobs(start) ? sequence.PromptLogprobs : -1,
            NextPromptToken = end < sequence.PromptLength ? sequence.Tokens[end] : -1,
            Blocks = sequence.Blocks!,
        };
        step.Add(sequence, slice, start < sequence.Count ? sequence.TokensAndDrafts[start..(end + drafts)] : LastSampledRow);
        if (sample && sequence.Constraint is { } constraint) Constrain(step.Batch, constraint, sequence.TokensAndDrafts.Slice(end, drafts));
        _slicesInFlight++;
        return true;
    }

    /// <summary>Pages that the decodes of the next step take.</summary>
    private int PagesForDecodes()
    {
        int missing = 0;
        foreach (Sequence s in _running)
            if (!s.IsPrefilling) missing += _blocks.PagesMissing(s.Blocks!, s.Scheduled + s.RowsToCompute);
        return missing;
    }

    /// <summary>Takes everything from a sequence but its tokens; it comes first in the queue.</summary>
    private void Preempt(Sequence sequence)
    {
        if (sequence.StepsInFlight != 0) throw new InvalidOperationException("A sequence in flight cannot be preempted.");
        if (_running.Count == 1) throw new InvalidOperationException("The KV pool is too small for a single sequence.");
        _running.Remove(sequence);
        Release(sequence);
        sequence.Computed = sequence.Shown = 0;
        sequence.KeepDrafts(0);
        sequence.State = SequenceState.Waiting;
        _queue.Wake(sequence, int.MaxValue);
        _room.Measure(sequence);
        _queue.AddPreempted(sequence);
        _limits.Return(sequence.Place.Client);
        _metrics.AddPreemption();
    }

    private void LeaveQueue(Sequence sequence)
    {
        _queue.Remove(sequence);
        _limits.Leave(sequence.Place.Client);
    }

    private void Release(Sequence sequence)
    {
        if (sequence.Slot < 0) return;
        int slot = sequence.Slot;
        if (sequence.Hashes is { } hashes) _blocks.KeepWindows(hashes, sequence.Shown, sequence.Shown);
        _blocks.ReleaseAll(sequence.Blocks!);
        sequence.Blocks = null;
        sequence.PagesHeld = 0;
        sequence.Slot = -1;
        _owners[slot] = null;
        _freeSlots.Push(slot);
        try
        {
            _runner.CloseSlot(slot);
        }
        catch (Exception e)
        {
            _report(e);
        }
    }
}
