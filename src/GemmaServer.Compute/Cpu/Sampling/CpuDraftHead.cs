namespace GemmaServer.Compute;

/// <summary>A drafter's head: logits over all tokens or over the best clusters', then the choice that the slot's sampler would make.</summary>
internal sealed class CpuDraftHead(WorkerPool workers, CpuMatMul matMul)
{
    private readonly CpuSampler[] _samplers = [.. Enumerable.Range(0, workers.Threads).Select(_ => new CpuSampler())];
    private int[] _guesses = [];
    private bool[] _isDone = [];

    /// <summary>Room for one row a sequence.</summary>
    public void Reserve(int rows) => (_guesses, _isDone) = (new int[rows], new bool[rows]);

    /// <summary>See <see cref="IComputeDevice.Draft"/>; <paramref name="logits"/> holds a portion of the rows at a time.</summary>
    public bool Run(
        CpuStep step, CpuTensor x, CpuWeights head, CpuCentroids? centroids, int depth, SlotState[] slots, CpuTensor logits,
        ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap) =>
        Run(new CpuDraftLogits(workers, matMul, x, head, centroids), step, depth, slots, logits, sequences, result, tap);

    /// <summary>The choice over logits from elsewhere.</summary>
    public bool Run<TLogits>(
        TLogits source, CpuStep step, int depth, SlotState[] slots, CpuTensor logits, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap)
        where TLogits : struct, IDraftLogits
    {
        if (depth == 0) Begin(step, slots);
        for (int start = 0; start < step.RowCount; start += logits.Rows)
        {
            int count = Math.Min(logits.Rows, step.RowCount - start);
            source.Fill(start, count, logits);
            if (tap is not null)
                for (int i = 0; i < count; i++) tap(step.Slot(start + i), step.Position(start + i) + depth, logits.RowSpan(i));
            GuessJob job = new(step, start, depth, slots, logits, _samplers, _isDone, _guesses);
            workers.Run(ref job, count);
        }
        return Deliver(step, depth, slots, sequences, result);
    }

    private static bool IsEnd(SlotState slot, int token)
    {
        IReadOnlyList<int> ends = slot.Sampling.EndTokens;
        for (int i = 0; i < ends.Count; i++)
            if (ends[i] == token) return true;
        return false;
    }

    /// <summary>Nothing follows an end token.</summary>
    private void Begin(CpuStep step, SlotState[] slots)
    {
        for (int row = 0; row < step.RowCount; row++)
            _isDone[row] = step.Slice(row).DraftsWanted <= 0 || IsEnd(slots[step.Slot(row)], step.Tokens[row]);
    }

    private bool Deliver(CpuStep step, int depth, SlotState[] slots, ReadOnlySpan<int> sequences, StepResult result)
    {
        bool goesOn = false;
        for (int row = 0; row < step.RowCount; row++)
        {
            if (_isDone[row]) continue;
            int guess = _guesses[row];
            result.AddDraft(sequences[row], guess);
            step.SetToken(row, guess);
            _isDone[row] = depth + 1 >= step.Slice(row).DraftsWanted || IsEnd(slots[step.Slot(row)], guess);
            goesOn |= !_isDone[row];
        }
        return goesOn;
    }

    private readonly struct GuessJob(
        CpuStep step, int start, int depth, SlotState[] slots, CpuTensor logits, CpuSampler[] samplers, bool[] isDone, int[] guesses) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            int row = start + item;
            // The target samples this token with the same noise, so both agree more often than two draws would.
            if (!isDone[row]) guesses[row] = samplers[worker].Choose(logits.RowSpan(item), slots[step.Slot(row)], step.Position(row) + 1 + depth);
        }
    }
}
