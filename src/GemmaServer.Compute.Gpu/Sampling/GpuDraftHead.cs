namespace GemmaServer.Compute;

/// <summary>A drafter's head: logits over all tokens or over the best clusters', then the choice that the slot's sampler would make.</summary>
internal sealed class GpuDraftHead(
    GpuContext gpu, GpuStep step, GpuMatMul matMul, GpuSlots slots, GpuOutputs outputs, GpuSampler sampler, GpuKernel settle, GpuKernel gather,
    int portion, int vocabularySize) : IDisposable
{
    private readonly PinnedBuffer _results = gpu.AllocatePinned((long)step.MaxSequences * StepFacts.ResultInts * sizeof(int));
    private readonly bool[] _isDone = new bool[step.MaxSequences];
    private GpuTensor? _portion;

    /// <summary>See <see cref="IComputeDevice.Draft"/>. It waits: whether a row goes on depends on its guess.</summary>
    public bool Run(
        GpuTensor x, GpuMatrix head, GpuCentroids? centroids, int depth, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap)
    {
        if (depth == 0) Begin(sequences, result);
        outputs.BeginGuesses(step.Slices, _isDone.AsSpan(0, step.SliceCount), depth);
        if (_portion is null || _portion.Columns != x.Columns)
        {
            _portion?.Dispose();
            _portion = new GpuTensor(gpu, portion, x.Columns);
        }
        for (int start = 0; start < outputs.Count; start += portion)
        {
            int count = Math.Min(portion, outputs.Count - start);
            // The norm's vector is not read.
            gather.Begin().Add(outputs.Table).Add(x.Buffer).Add(x.Buffer).Add(_portion.Buffer).Add(x.Columns).Add(0f).Add(start).Add(0)
                .Run(GpuSampler.Group, count);
            matMul.MultiplyRows(_portion, head, sampler.Logits, count);
            centroids?.Bar(matMul, outputs.Table, _portion, sampler.Logits, start, count);
            sampler.Run(start, count, softcap: 0, keepAll: tap is not null);
            if (tap is not null) Show(tap, start, count, depth);
        }
        settle.Begin().Add(outputs.Table).Add(sampler.Results).Add(step.Tokens).Run(64, (outputs.Count + 63) / 64);
        gpu.Read(_results, 0, sampler.Results, 0, (long)outputs.Count * StepFacts.ResultInts * sizeof(int));
        gpu.Wait(gpu.Record());
        return Deliver(depth, sequences, result);
    }

    public void Dispose()
    {
        _results.Dispose();
        _portion?.Dispose();
    }

    /// <summary>Nothing follows an end token.</summary>
    private void Begin(ReadOnlySpan<int> sequences, StepResult result)
    {
        for (int row = 0; row < step.SliceCount; row++)
        {
            SequenceSlice slice = step.Slices[row];
            ReadOnlySpan<int> sampled = result.Tokens(sequences[row]);
            _isDone[row] = slice.DraftsWanted <= 0 || (!sampled.IsEmpty && slots[slice.Slot].IsEnd(sampled[^1]));
        }
    }

    private bool Deliver(int depth, ReadOnlySpan<int> sequences, StepResult result)
    {
        bool goesOn = false;
        for (int row = 0; row < step.SliceCount; row++)
        {
            if (_isDone[row]) continue;
            int guess = _results.Span<int>()[row * StepFacts.ResultInts];
            result.AddDraft(sequences[row], guess);
            _isDone[row] = depth + 1 >= step.Slices[row].DraftsWanted || slots[step.Slices[row].Slot].IsEnd(guess);
            goesOn |= !_isDone[row];
        }
        return goesOn;
    }

    private void Show(LogitsTap tap, int start, int count, int depth)
    {
        float[] rows = new float[count * vocabularySize];
        sampler.Logits.Read(rows);
        for (int i = 0; i < count; i++)
        {
            SequenceSlice slice = step.Slices[start + i];
            tap(slice.Slot, slice.ContextLength + depth, rows.AsSpan(i * vocabularySize, vocabularySize));
        }
    }
}
