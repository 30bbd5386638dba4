using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>A context with a step, for tests of single kernels: OpenCL's, or CUDA's in a run with GEMMASERVER_TEST_GPU=cuda.</summary>
internal sealed class GpuBench : IDisposable
{
    public GpuBench(int maxRows = 64, int maxSequences = 8, GpuContext? gpu = null)
    {
        Gpu = gpu ?? OpenClDriver.OpenContext();
        Step = new GpuStep(Gpu);
        Step.Reserve(maxRows, maxSequences);
    }

    public GpuContext Gpu { get; }

    public GpuStep Step { get; }

    /// <summary>One sequence of so many rows; their tokens are 0, 1, 2, …</summary>
    public void Begin(int rows, int context = 0)
    {
        StepBatch batch = new(Step.MaxRows, Step.MaxSequences);
        batch.Add(
            new SequenceSlice { ContextLength = context, Blocks = new BlockTable(1), PromptLogprobs = -1, NextPromptToken = -1 },
            [.. Enumerable.Range(0, rows)]);
        Step.Begin(batch);
    }

    public GpuTensor Tensor(int rows, int columns, ReadOnlySpan<float> values)
    {
        GpuTensor tensor = new(Gpu, rows, columns);
        tensor.Write(values);
        return tensor;
    }

    /// <summary>The first rows.</summary>
    public static float[] Rows(DeviceTensor tensor, int rows)
    {
        float[] values = new float[rows * tensor.Columns];
        tensor.Read(values);
        return values;
    }

    public static float[] Random(int count, int seed, float spread = 1)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (float)((random.NextDouble() - 0.5) * 2 * spread))];
    }

    public void Dispose()
    {
        Step.Dispose();
        Gpu.Dispose();
    }
}
