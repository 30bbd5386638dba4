using GemmaServer.Compute;

namespace GemmaServer.Engine;

/// <summary>The single place where tokens become real: appended, checked for an end, handed to the reader.</summary>
internal sealed class Committer(Scheduler scheduler, EngineMetrics metrics, double? draftCost, TimeProvider time, Action<Exception> report)
{
    private readonly DraftCost _draftCost = new();

    /// <summary>Takes a step's result in. Rows of sequences that ended since the launch are dropped.</summary>
    /// <param name="step">What was launched.</param>
    /// <param name="result">What it produced.</param>
    /// <param name="elapsed">How long the runner was busy with it.</param>
    public void Commit(ScheduledStep step, StepResult result, TimeSpan elapsed)
    {
        if (step.IsDecode) _draftCost.Observe(step.Batch.TokenCount, elapsed.TotalSeconds);
        double cost = draftCost ?? _draftCost.Share(step.Count);
        for (int i = 0; i < step.Count; i++)
        {
            Sequence sequence = step.Sequences[i];
            SequenceSlice slice = step.Batch.Slices[i];
            scheduler.Land(sequence, slice, isComputed: true);
            if (sequence.State == SequenceState.Finished) continue;
            try
            {
                Commit(sequence, slice, result, i, cost);
            }
            catch (Exception e)
            {
                report(e);
                if (sequence.State != SequenceState.Finished) scheduler.Finish(sequence, FinishReason.Error);
            }
        }
        step.Clear();
    }

    /// <summary>Takes a failed step back: all its sequences end, those still in an earlier step keep their pages until that one lands.</summary>
    public void Abandon(ScheduledStep step)
    {
        for (int i = 0; i < step.Count; i++)
        {
            Sequence sequence = step.Sequences[i];
            scheduler.Land(sequence, step.Batch.Slices[i], isComputed: false);
            if (sequence.State != SequenceState.Finished) scheduler.Finish(sequence, FinishReason.Error);
        }
        step.Clear();
    }

    private void Commit(Sequence sequence, in SequenceSlice slice, StepResult result, int index, double draftCost)
    {
        ReadOnlySpan<int> tokens = result.Tokens(index);
        Check(sequence, slice, tokens.Length);
        FinishReason finish = Append(sequence, tokens, out int appended);

        // Rows of wrong guesses hold keys and values that the next step overwrites.
        sequence.Computed += slice.QueryLength - slice.Drafts + Math.Min(slice.Drafts, Math.Max(0, appended - 1));
        scheduler.Advanced(sequence);
        if (slice.Drafts > 0 && sequence.AreDraftsPredicted) sequence.Generation.AddPredicted(slice.Drafts, Math.Min(Math.Min(slice.Drafts, tokens.Length - 1), appended));
        if (slice.PromptLogprobs >= 0) KeepPromptLogprobs(sequence, slice, result.PromptLogprobs(index));
        Publish(sequence, result, index, appended, finish);
        if (sequence.State == SequenceState.Finished) return;

        if (sequence.MaxTokens == 0 && sequence.Computed == sequence.Count) scheduler.Finish(sequence, FinishReason.Length);
        if (!slice.Sample || sequence.Depth is not { } depth) return;
        int accepted = Math.Min(slice.Drafts, tokens.Length - 1);
        depth.Committed(slice.Drafts, accepted, draftCost);
        sequence.SetDrafts(result.Drafts(index));
        if (slice.Drafts > 0) metrics.AddDrafts(slice.Drafts, accepted);
    }

    /// <summary>Makes tokens real up to the one that ends the answer; what follows that one is dropped.</summary>
    private static FinishReason Append(Sequence sequence, ReadOnlySpan<int> tokens, out int appended)
    {
        FinishReason finish = FinishReason.None;
        for (appended = 0; appended < tokens.Length && finish == FinishReason.None; appended++) finish = sequence.Append(tokens[appended]);
        return finish;
    }

    /// <summary>Hands tokens to the reader; the last one with the end, if it is one.</summary>
    private void Publish(Sequence sequence, StepResult result, int index, int count, FinishReason finish)
    {
        for (int i = 0; i < count; i++)
        {
            metrics.AddGeneratedToken();
            FinishReason here = i == count - 1 ? finish : FinishReason.None;
            TokenEvent tokenEvent = new(result.Tokens(index)[i], result.Logprob(index, i), result.TopLogprobs(index, i), here);
            if (here == FinishReason.None) sequence.Generation.Publish(tokenEvent, time.GetTimestamp());
            else scheduler.Finish(sequence, tokenEvent);
        }
    }

    /// <summary>Keeps those not known from before a preemption, and none that belong to outputs computed again.</summary>
    private static void KeepPromptLogprobs(Sequence sequence, in SequenceSlice slice, IReadOnlyList<TokenLogprob[]>? rows)
    {
        for (int i = 0; i < (rows?.Count ?? 0); i++)
        {
            int position = slice.ContextLength + i + 1;     // of the token that this row predicts
            if (position < sequence.PromptLength && position == sequence.Generation.PromptLogprobsKnown + 1)
                sequence.Generation.AddPromptLogprobs(rows![i]);
        }
    }

    private static void Check(Sequence sequence, in SequenceSlice slice, int tokens)
    {
        if (slice.Sample ? tokens == 0 : tokens != 0)
            throw new InvalidOperationException($"The runner gave {tokens} tokens for a slice with Sample = {slice.Sample}.");
        if (slice.Drafts > 0 && tokens > slice.Drafts + 1)
            throw new InvalidOperationException($"The runner gave {tokens} tokens for a slice with {slice.Drafts} guesses.");
        if (tokens > 1 && sequence.StepsInFlight > 0)
            throw new InvalidOperationException($"The runner gave {tokens} tokens where the next step is in flight already.");
    }
}
