using GemmaServer.Compute;

namespace GemmaServer.Engine;

// From the queue into a slot.
internal sealed partial class Scheduler
{
    /// <summary>After so many leaders that failed it, a sequence computes its prefix itself.</summary>
    private const int MaxTimesFollowed = 8;

    private void Admit(ScheduledStep step)
    {
        foreach (Sequence s in _running)
            if (s.Place.Followers is { Count: > 0 }) _queue.Wake(s, s.Shown);

        while (step.Batch.FreeTokens > 0 && _freeSlots.Count > 0 && _queue.Peek() is { } sequence)
        {
            if (FindLeader(sequence, out int shared) is { } leader)
            {
                _queue.Follow(sequence, leader, shared);
                continue;
            }
            if (!_room.IsEnoughFor(sequence, _running)) break;
            Open(sequence);
            if (sequence.State == SequenceState.Running) TryAdd(step, sequence);
        }
    }

    /// <summary>
    /// The running sequence that computes more of a waiting one's prefix right now than could be found of it, if waiting
    /// is worth it. Never one of a worse priority, which might not get on.
    /// </summary>
    private Sequence? FindLeader(Sequence sequence, out int shared)
    {
        shared = 0;
        if (sequence.Hashes is not { } hashes || sequence.Generation.AdmittedAt != 0 || sequence.Place.TimesFollowed >= MaxTimesFollowed) return null;
        Sequence? leader = null;
        foreach (Sequence s in _running)
        {
            if (s.Place.Priority > sequence.Place.Priority) break;
            if (s.Hashes is null || s.Shown >= s.PrefillEnd) continue;
            int common = hashes.CommonWith(s.Hashes, Math.Min(s.PrefillEnd, sequence.Count - 1));
            common -= common % _blocks.HashBlock;
            if (common > Math.Max(shared, s.Shown)) (leader, shared) = (s, common);
        }
        return leader is not null && shared - _blocks.LengthFound(hashes, sequence.Count - 1) >= _blocks.HashBlock ? leader : null;
    }

    private void Open(Sequence sequence)
    {
        LeaveQueue(sequence);
        int slot = _freeSlots.Pop();
        _owners[slot] = sequence;
        sequence.Slot = slot;
        sequence.Blocks = _tables[slot];
        sequence.PrefillEnd = sequence.Count;
        sequence.State = SequenceState.Running;
        AddRunning(sequence);
        Adopt(sequence);
        if (sequence.Generation.AdmittedAt == 0) FirstAdmission(sequence);
        try
        {
            _runner.OpenSlot(slot, sequence.Sampling, sequence.Prompt, sequence.Output);
        }
        catch (Exception e)
        {
            _report(e);
            Finish(sequence, FinishReason.Error);
        }
    }

    private void AddRunning(Sequence sequence)
    {
        int at = _running.Count;
        while (at > 0 && sequence.Place.Outranks(_running[at - 1].Place)) at--;
        _running.Insert(at, sequence);
    }

    private void FirstAdmission(Sequence sequence)
    {
        long now = _time.GetTimestamp();
        sequence.Generation.Admitted(now);
        _limits.Admitted(sequence.Generation.QueuedAt, now);
        _metrics.AddPromptTokens(sequence.PromptLength);
        sequence.Place.Account!.ChargePrompt(sequence.PromptLength - sequence.Computed);
        if (sequence.Place.HeapIndex < 0) return;
        sequence.Place.NextDeadline = sequence.Place.EndBy;
        if (sequence.Place.EndBy == long.MaxValue) _deadlines.Remove(sequence.Place);
        else _deadlines.Moved(sequence.Place);
    }

    /// <summary>Gives a sequence what others computed of its beginning. Its last known token is always computed: a sample comes from there.</summary>
    private void Adopt(Sequence sequence)
    {
        if (sequence.Hashes is not { } hashes) return;
        hashes.Extend(sequence.Tokens);
        int found = _blocks.Adopt(hashes, sequence.Count - 1, sequence.Blocks!, out int pages);
        sequence.Computed = sequence.Shown = found;
        sequence.PagesHeld = pages;
        if (sequence.Generation.AdmittedAt != 0 || sequence.HasPrivateHashes) return;
        sequence.Generation.CachedTokens = found;
        _metrics.AddPrefixQuery(sequence.PromptLength, found);
    }
}
