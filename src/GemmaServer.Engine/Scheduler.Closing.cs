using GemmaServer.Compute;

namespace GemmaServer.Engine;

// The last row of an answer.
internal sealed partial class Scheduler
{
    private readonly List<Sequence> _closing;       // finished, in their slots, with a last row to compute

    /// <summary>
    /// Keeps a sequence whose reader has everything for one more row. An answer's last token is sampled but never fed, so a
    /// page that would end with it stays one short, and the conversation's next turn would miss a whole block.
    /// </summary>
    /// <returns>False where the row would complete no block: nothing is left to do for this sequence.</returns>
    private bool TryClose(Sequence sequence, FinishReason reason)
    {
        if (reason is not (FinishReason.Stop or FinishReason.Length) || sequence.Hashes is null || sequence.Slot < 0) return false;
        int block = _blocks.HashBlock;
        if (sequence.Count / block == sequence.Computed / block) return false;
        _closing.Add(sequence);
        return true;
    }

    /// <summary>
    /// Adds the last rows to the step, ahead of everybody and at nobody's cost: they take no page, leave each running sequence
    /// its row, and are given up where pages are short. So a closing sequence outlives its answer by one step at most.
    /// </summary>
    private void AddClosing(ScheduledStep step)
    {
        if (_closing.Count == 0) return;
        bool havePages = PagesForDecodes() <= FreePages;
        foreach (Sequence sequence in _closing)
        {
            int start = sequence.Computed;
            int rows = sequence.Count - start;
            if (!havePages || _blocks.PagesMissing(sequence.Blocks!, sequence.Count) > 0 || rows > step.Batch.FreeTokens - _running.Count)
            {
                Release(sequence);
                continue;
            }
            SequenceSlice slice = new() { Slot = sequence.Slot, ContextLength = start, PromptLogprobs = -1, NextPromptToken = -1, Blocks = sequence.Blocks! };
            step.Add(sequence, slice, sequence.Tokens[start..]);
            _slicesInFlight++;
        }
        _closing.Clear();
    }

    private void GiveUpClosing()
    {
        foreach (Sequence sequence in _closing) Release(sequence);
        _closing.Clear();
    }

    /// <summary>
    /// Takes in rows of a sequence that ended while they were computed: the closing row, or the one that was launched behind a
    /// last token not yet known to be the last.
    /// </summary>
    private void AdvanceFinished(Sequence sequence, in SequenceSlice slice)
    {
        int end = slice.ContextLength + slice.QueryLength;
        // After a failed step there is a gap; behind a sample that was dropped there is no token.
        if (sequence.Hashes is null || slice.ContextLength != sequence.Computed || end > sequence.Count) return;
        sequence.Computed = end;
        Advanced(sequence);
    }
}
