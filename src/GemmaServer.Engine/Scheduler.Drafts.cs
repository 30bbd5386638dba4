using GemmaServer.Compute;
using GemmaServer.Text;

namespace GemmaServer.Engine;

// Guesses behind a decode's row, and what a constraint allows there.
internal sealed partial class Scheduler
{
    private const int LeastDraftRoom = 8;

    private int _draftRoom, _draftPages;    // rows and pages of the step being filled that guesses may still take

    /// <summary>Guesses leave each decode its row and its pages, and most of the step to prefills.</summary>
    private void MakeRoomForDrafts(ScheduledStep step)
    {
        _draftRoom = Math.Min(step.Batch.FreeTokens - _running.Count, Math.Max(LeastDraftRoom, step.Batch.FreeTokens / 4));
        _draftPages = FreePages - PagesForDecodes();
    }

    /// <summary>Settles the guesses behind a decode's row and returns their number. They never cost another sequence its row or its pages.</summary>
    private int Guess(Sequence sequence, int start, int freeRows)
    {
        if (sequence.Depth is null) return 0;
        int drafts = Math.Max(0, Math.Min(sequence.DraftsWanted, Math.Min(_draftRoom, freeRows)));
        int own = _blocks.PagesMissing(sequence.Blocks!, start + 1), more = 0;
        while (drafts > 0 && (more = _blocks.PagesMissing(sequence.Blocks!, start + 1 + drafts) - own) > _draftPages) drafts--;
        if (drafts == 0) more = 0;

        sequence.Guess(drafts);
        if (sequence.Constraint is { } constraint) sequence.KeepDrafts(AllowedDrafts(constraint, sequence.TokensAndDrafts[sequence.Count..]));
        _draftRoom -= sequence.Drafts;
        _draftPages -= more;
        return sequence.Drafts;
    }

    /// <summary>How many guesses from the first on may come at all.</summary>
    private static int AllowedDrafts(TokenConstraint constraint, ReadOnlySpan<int> drafts)
    {
        int count = 0;
        while (count < drafts.Length && constraint.TryPush(drafts[count])) count++;
        constraint.Rewind(count);
        return count;
    }

    /// <summary>Says what may be sampled from each of the batch's last rows: the one before the guesses, and those of the guesses.</summary>
    private static void Constrain(StepBatch batch, TokenConstraint constraint, ReadOnlySpan<int> drafts)
    {
        int row = batch.TokenCount - 1 - drafts.Length;
        batch.Allow(row, constraint.Allowed);
        foreach (int draft in drafts)
        {
            constraint.TryPush(draft);
            batch.Allow(++row, constraint.Allowed);
        }
        constraint.Rewind(drafts.Length);
    }
}
