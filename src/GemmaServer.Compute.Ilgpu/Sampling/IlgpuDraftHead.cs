namespace GemmaServer.Compute.Ilgpu;

/// <summary>A drafter's head: logits over all tokens or over the best clusters', then the choice that the slot's sampler would make.</summary>
internal sealed class IlgpuDraftHead(
    IlgpuRuntime runtime, IlgpuStep step, IlgpuMatMul matMul, IlgpuRows rows, IlgpuSlots slots, IlgpuOutputs outputs, IlgpuSampler sampler, int maxSequences) : IDisposable
{
    private readonly bool[] _isDone = new bool[maxSequences];
    private IlgpuTensor? _portion;

    /// <summary>See <see cref="IComputeDevice.Draft"/>.</summary>
    public bool Run(IlgpuTensor x, IlgpuMatrix head, IlgpuCentroids? centroids, int depth, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap)
    {
        if (depth == 0) Begin();
        slots.SendCounts();
        outputs.BeginGuesses(step.Host, _isDone, depth);
        _portion ??= new IlgpuTensor(runtime, CpuDevice.LogitRows, x.Columns);
        for (int start = 0; start < outputs.Count; start += CpuDevice.LogitRows)
        {
            int count = Math.Min(CpuDevice.LogitRows, outputs.Count - start);
            rows.Copy(count, x, start, 1f, _portion, 0);
            if (centroids is null) matMul.Multiply(count, _portion, head, sampler.Logits);
            else centroids.Multiply(count, _portion, head, sampler.Logits);
            sampler.Run(start, count, softcap: 0, keeps: tap is not null);
            if (tap is not null) sampler.Show(tap, start, count);
        }
        sampler.Fetch();
        bool goesOn = Deliver(depth, sequences, result);
        // The guesses are the rows' tokens from here on.
        step.SendTokens();
        return goesOn;
    }

    public void Dispose() => _portion?.Dispose();

    /// <summary>Nothing follows an end token.</summary>
    private void Begin()
    {
        for (int row = 0; row < step.RowCount; row++)
            _isDone[row] = step.Host.Slice(row).DraftsWanted <= 0 || slots[step.Host.Slot(row)].IsEnd(step.Host.Tokens[row]);
    }

    private bool Deliver(int depth, ReadOnlySpan<int> sequences, StepResult result)
    {
        bool goesOn = false;
        for (int row = 0; row < step.RowCount; row++)
        {
            if (_isDone[row]) continue;
            int guess = sampler.Result(row)[0];
            result.AddDraft(sequences[row], guess);
            step.Host.SetToken(row, guess);
            _isDone[row] = depth + 1 >= step.Host.Slice(row).DraftsWanted || slots[step.Host.Slot(row)].IsEnd(guess);
            goesOn |= !_isDone[row];
        }
        return goesOn;
    }
}
