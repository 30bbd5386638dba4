using GemmaServer.Compute;

namespace GemmaServer.Engine;

/// <summary>
/// Whether the free pages are enough for one sequence more, so that a newcomer does not drive out those who are in the
/// middle. An estimate: where it is wrong, somebody waits or is preempted.
/// </summary>
/// <remarks>
/// A sequence that computed its known tokens holds their global pages and its windows. While it gets there, a step's rows
/// need pages behind the windows, but all sequences share one step's rows. So, over those that run and the newcomer, the need is
/// <code>
/// Σ pages that their known tokens still lack + 1 for each that runs + min(Σ pages of the rows in passing, those of one step)
/// </code>
/// less what those that run hold in passing already, and what the newcomer shares with them.
/// </remarks>
internal sealed class RoomEstimate
{
    private readonly KvCachePlan _plan;
    private readonly BlockAllocator _blocks;
    private readonly int _chunk;
    private readonly int _pagesOfStep;

    /// <param name="plan">Groups and pages.</param>
    /// <param name="blocks">Who holds what.</param>
    /// <param name="chunk">Most rows in a step.</param>
    public RoomEstimate(KvCachePlan plan, BlockAllocator blocks, int chunk)
    {
        _plan = plan;
        _blocks = blocks;
        _chunk = chunk;
        const int Endless = 1 << 24;    // longer than any window and chunk
        _pagesOfStep = plan.PagesForSequence(Endless, chunk) - plan.PagesForSequence(Endless, 1);
    }

    /// <summary>Says what the known tokens of a sequence need.</summary>
    public void Measure(Sequence sequence)
    {
        sequence.PagesToPrefill = _plan.PagesForSequence(sequence.Count, 1);
        sequence.PagesInPassing = _plan.PagesForSequence(sequence.Count, _chunk) - sequence.PagesToPrefill;
    }

    /// <summary>Whether there is room for one more beside those that run.</summary>
    public bool IsEnoughFor(Sequence sequence, List<Sequence> running)
    {
        int needed = sequence.PagesToPrefill;
        int passing = sequence.PagesInPassing;
        int held = 0;
        foreach (Sequence s in running)
        {
            needed++;
            if (s.Computed >= s.PrefillEnd) continue;
            needed += Math.Max(0, s.PagesToPrefill - s.PagesHeld);
            held += Math.Max(0, s.PagesHeld - s.PagesToPrefill);
            passing += s.PagesInPassing;
        }
        needed += Math.Max(0, Math.Min(passing, Math.Max(_pagesOfStep, sequence.PagesInPassing)) - held);
        if (needed <= _blocks.FreePages) return true;
        return sequence.Hashes is { } hashes && needed - _blocks.PagesShared(hashes, sequence.Count) <= _blocks.FreePages;
    }
}
