using GemmaServer.Compute;

namespace GemmaServer.Engine;

/// <summary>The single place where tokens become real: appended, checked for an end, handed to the reader.</summary>
internal sealed class Committer(Scheduler scheduler, EngineMetrics metrics, TimeProvider time, Action<Exception> report)
{
    /// <summary>Takes a step's result in. Rows of sequences that ended since the launch are dropped.</summary>
    public void Commit(ScheduledStep step, StepResult result)
    {
        for (int i = 0; i < step.Count; i++)
        {
            Sequence sequence = step.Sequences[i];
            SequenceSlice slice = step.Batch.Slices[i];
            scheduler.Land(sequence, slice, isComputed: true);
            if (sequence.State == SequenceState.Finished) continue;
            try
            {
                Commit(sequence, slice, result, i);
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

    private void Commit(Sequence sequence, in SequenceSlice slice, StepResult result, int index)
    {
        sequence.Computed += slice.QueryLength;
        scheduler.Advanced(sequence);
        if (slice.PromptLogprobs >= 0) KeepPromptLogprobs(sequence, slice, result.PromptLogprobs(index));

        ReadOnlySpan<int> tokens = result.Tokens(index);
        Check(sequence, slice, tokens.Length);
        for (int i = 0; i < tokens.Length; i++)
            if (!Accept(sequence, tokens[i], result.Logprob(index, i), result.TopLogprobs(index, i))) return;

        if (sequence.MaxTokens == 0 && sequence.Computed == sequence.Count) scheduler.Finish(sequence, FinishReason.Length);
    }

    /// <summary>False when the answer ends with this token, so that what follows it is dropped.</summary>
    private bool Accept(Sequence sequence, int token, float logprob, TokenLogprob[]? top)
    {
        FinishReason finish = sequence.Append(token);
        metrics.AddGeneratedToken();
        TokenEvent tokenEvent = new(token, logprob, top, finish);
        if (finish == FinishReason.None) sequence.Generation.Publish(tokenEvent, time.GetTimestamp());
        else scheduler.Finish(sequence, tokenEvent);
        return finish == FinishReason.None;
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
        if (tokens > 1 && sequence.StepsInFlight > 0)
            throw new InvalidOperationException($"The runner gave {tokens} tokens where the next step is in flight already.");
    }
}
