namespace GemmaServer.Compute;

/// <summary>A drafter's centroids on the device.</summary>
internal sealed class GpuCentroids(int count, int used) : DeviceCentroids(count, used)
{
    public override void Dispose() { }
}

/// <summary>The end of a step: final norm, head, soft-cap, logprobs and sampling.</summary>
internal sealed class GpuHead(GpuContext gpu, GpuStep step, GpuMatMul matMul, GpuOptions options) : IDisposable
{
    public GpuCentroids LoadCentroids(GpuMatrix vectors, ReadOnlySpan<int> tokenOrdering, int used) => throw new NotImplementedException($"{gpu} {step} {matMul} {options}");

    public void Reserve(int maxRows, int maxSequences, int vocabularySize) { }

    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output) { }

    public void CloseSlot(int slot) { }

    /// <summary>Takes in which rows of a batch get logits.</summary>
    public void Begin(StepBatch batch) { }

    public void Sample(GpuTensor x, GpuVector norm, GpuMatrix head, float softcap, LogitsTap? tap, GpuTensor? hidden) => throw new NotImplementedException();

    public void Collect(StepResult result) => throw new NotImplementedException();

    public bool Draft(GpuTensor x, GpuMatrix head, GpuCentroids? centroids, int depth, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap) => throw new NotImplementedException();

    public void Dispose() { }
}
