namespace GemmaServer.Compute;

/// <summary>Mixture of experts.</summary>
internal sealed class GpuExperts(GpuContext gpu, GpuStep step, GpuMatMul matMul, GpuOptions options) : IDisposable
{
    public void Reserve(int maxRows) { _ = (gpu, step, matMul, options); }

    public void Route(GpuTensor x, GpuVector scale, GpuMatrix proj, GpuVector expertScale, int used) => throw new NotImplementedException();

    public void Run(GpuTensor x, GpuMatrix gate, GpuMatrix? up, GpuMatrix down, int expertWidth, GpuTensor y) => throw new NotImplementedException();

    public void Dispose() { }
}
