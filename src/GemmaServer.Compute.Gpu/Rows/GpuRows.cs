namespace GemmaServer.Compute;

/// <summary>Norms and gates: one group of lanes for each row. Kernels: <c>rows.cl</c>.</summary>
internal sealed class GpuRows
{
    private const int Group = 256;

    private readonly GpuStep _step;
    private readonly float _epsilon;
    private readonly GpuKernel _rmsNorm, _addNorm, _gateByInput;

    public GpuRows(GpuContext gpu, GpuStep step, float epsilon)
    {
        (_step, _epsilon) = (step, epsilon);
        KernelSource source = new("rows.cl", [], ("GROUP", Group));
        (_rmsNorm, _addNorm, _gateByInput) = (gpu.Kernel(source, "rms_norm"), gpu.Kernel(source, "add_norm"), gpu.Kernel(source, "gate_by_input"));
    }

    /// <summary>y = RMS(x; w), or y += where <paramref name="add"/>; a null weight is all ones.</summary>
    public void RmsNorm(GpuTensor x, GpuVector? w, GpuTensor y, bool add) => _rmsNorm.Begin()
        .Add(_step.Header).Add(x.Buffer).Add(w?.Buffer ?? GpuBuffer.None).Add(y.Buffer)
        .Add(x.Columns).Add(_epsilon).Add(w is null ? 0 : 1).Add(add ? 1 : 0)
        .Run(Group, _step.Grid);

    /// <summary>x = (x + RMS(delta; post)) · scale; normed = RMS(x; next).</summary>
    public void AddNorm(GpuTensor x, GpuTensor delta, GpuVector post, float scale, GpuVector? next, GpuTensor normed) => _addNorm.Begin()
        .Add(_step.Header).Add(x.Buffer).Add(delta.Buffer).Add(post.Buffer)
        .Add(scale).Add(next?.Buffer ?? GpuBuffer.None).Add(normed.Buffer).Add(x.Columns).Add(_epsilon).Add(next is null ? 0 : 1)
        .Run(Group, _step.Grid);

    /// <summary>y = gelu_tanh(y) ⊙ ple[:, layer].</summary>
    public void GateByInput(GpuTensor y, GpuTensor ple, int layer) => _gateByInput.Begin()
        .Add(_step.Header).Add(y.Buffer).Add(ple.Buffer).Add(y.Columns).Add(ple.Columns / y.Columns).Add(layer)
        .Run(Group, _step.Grid);
}
