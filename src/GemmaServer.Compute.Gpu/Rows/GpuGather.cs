namespace GemmaServer.Compute;

/// <summary>Rows of tables, by token: one group of lanes for each row. Kernels: <c>gather.cl</c>.</summary>
internal sealed class GpuGather(GpuContext gpu, GpuStep step, float epsilon)
{
    private const int Group = 128;

    /// <summary>By type: programs are made when the first table of a type is used.</summary>
    private readonly Dictionary<TensorType, (GpuKernel Embed, GpuKernel PerLayerInputs)> _kernels = [];

    /// <summary>x = table[token] · scale.</summary>
    public void Embed(GpuMatrix table, float scale, GpuTensor x) => Embed(table, scale, GpuBuffer.None, 0, x);

    /// <summary>y = [table[token] · scale | x].</summary>
    public void EmbedBeside(GpuMatrix table, float scale, GpuTensor x, GpuTensor y) => Embed(table, scale, x.Buffer, x.Columns, y);

    /// <summary>See <see cref="IComputeDevice.PerLayerInputs"/>.</summary>
    public void PerLayerInputs(GpuTensor ple, float contextScale, GpuVector norm, GpuMatrix table, float tableScale)
    {
        foreach (GpuPart part in table.Parts)
        {
            KernelCall call = Begin(Kernels(part).PerLayerInputs, part).Add(ple.Buffer).Add(contextScale).Add(norm.Buffer);
            part.AddTo(call).Add(tableScale).Add(ple.Columns).Add(part.RowGroups).Add(norm.Length).Add(epsilon)
                .Run(Group, step.Grid, ple.Columns / norm.Length);
        }
    }

    private void Embed(GpuMatrix table, float scale, GpuBuffer x, int beside, GpuTensor y)
    {
        foreach (GpuPart part in table.Parts)
        {
            part.AddTo(Begin(Kernels(part).Embed, part)).Add(scale).Add(x).Add(beside).Add(y.Buffer).Add(table.Columns).Add(part.RowGroups)
                .Run(Group, step.Grid);
        }
    }

    /// <summary>Tokens are known to the device alone: each part's launch takes those whose rows it has.</summary>
    private KernelCall Begin(GpuKernel kernel, GpuPart part) => kernel.Begin().Add(step.Header).Add(step.Tokens).Add(part.FirstRow).Add(part.Rows);

    private (GpuKernel Embed, GpuKernel PerLayerInputs) Kernels(GpuPart part)
    {
        if (_kernels.TryGetValue(part.Format.Type, out (GpuKernel, GpuKernel) kernels)) return kernels;
        KernelSource source = new("gather.cl", ["weights.h"], part.Format.Constants(("GROUP", Group)));
        return _kernels[part.Format.Type] = (gpu.Kernel(source, "embed"), gpu.Kernel(source, "per_layer_inputs"));
    }
}
