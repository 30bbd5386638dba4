namespace GemmaServer.Compute;

/// <summary>The KV pool on the device.</summary>
internal sealed class GpuKvCache(KvCachePlan plan) : DeviceKvCache(plan)
{
    public override void Dispose() { }
}

/// <summary>Attention.</summary>
internal sealed class GpuAttention(GpuContext gpu, GpuStep step, GpuOptions options) : IDisposable
{
    public GpuKvCache CreateCache(KvCachePlan plan, Func<int, AttentionPlan> layerShape) => throw new NotImplementedException($"{gpu} {step} {options}");

    public int AddRope(ReadOnlySpan<float> inverseFrequencies) => throw new NotImplementedException();

    public void Reserve(int maxRows, int maxSequences, ReadOnlySpan<AttentionPlan> readers) { }

    /// <summary>Once a step: rotations.</summary>
    public void Begin() { }

    public void NormRopeStore(AttentionPlan plan, GpuVector qNorm, GpuVector kNorm, GpuTensor qkv, GpuKvCache cache) => throw new NotImplementedException();

    public void Attend(AttentionPlan plan, GpuTensor qkv, GpuKvCache cache, GpuTensor heads) => throw new NotImplementedException();

    public void Dispose() { }
}
