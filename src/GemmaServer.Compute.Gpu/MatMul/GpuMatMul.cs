namespace GemmaServer.Compute;

/// <summary>Products.</summary>
internal sealed class GpuMatMul(GpuContext gpu, GpuStep step, GpuOptions options) : IDisposable
{
    public void Reserve(int maxRows) { _ = (gpu, step, options); }

    /// <summary>y = W·x for the step's rows.</summary>
    public void Multiply(GpuTensor x, GpuMatrix w, GpuTensor y) => throw new NotImplementedException();

    /// <summary>y = gelu_tanh(Gate·x) ⊙ (Up·x).</summary>
    public void MultiplyGated(GpuTensor x, GpuMatrix gateUp, GpuTensor y) => throw new NotImplementedException();

    /// <summary>y = W·x for the first <paramref name="rows"/> rows, whatever the step's are: the head's.</summary>
    public void MultiplyRows(GpuTensor x, GpuMatrix w, GpuTensor y, int rows) => throw new NotImplementedException();

    public void Dispose() { }
}
