namespace GemmaServer.Compute;

/// <summary>Rows of tables, by token.</summary>
internal sealed class GpuGather(GpuContext gpu, GpuStep step, float epsilon)
{
    public void Embed(GpuMatrix table, float scale, GpuTensor x) => throw new NotImplementedException();

    public void EmbedBeside(GpuMatrix table, float scale, GpuTensor x, GpuTensor y) => throw new NotImplementedException();

    public void PerLayerInputs(GpuTensor ple, float contextScale, GpuVector norm, GpuMatrix table, float tableScale) => throw new NotImplementedException($"{gpu} {step} {epsilon}");
}
