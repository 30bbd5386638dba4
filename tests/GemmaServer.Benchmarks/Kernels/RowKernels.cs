using GemmaServer.Compute;

namespace GemmaServer.Benchmarks;

/// <summary>Norms of E2B's rows, and sampling from all its tokens.</summary>
internal sealed class RowKernels(KernelTimer timer, int threads)
{
    private const int Hidden = 1536, Vocabulary = 262_144;

    /// <summary>So narrow that sampling is what takes the time, not the logits.</summary>
    private const int HeadColumns = 32;

    public IEnumerable<KernelResult> Run()
    {
        using KernelStep step = new(threads, ActivationType.Int8, Vocabulary);
        DeviceTensor x = step.Random(Hidden), delta = step.Random(Hidden), y = step.Empty(Hidden);
        DeviceVector w = step.Ones(Hidden);
        BlockTable blocks = new(1);
        foreach (int rows in (int[])[1, KernelStep.MaxRows])
        {
            step.BeginChunk(rows, 0, blocks);
            double norm = timer.Best(_ => step.Device.RmsNorm(x, w, y));
            double add = timer.Best(_ => step.Device.AddNorm(x, delta, w, 0.5f, w, y));
            yield return new("norm", $"{Hidden} columns", rows, norm, 0, 0, IsInteger: false);
            yield return new("add and norm", $"{Hidden} columns", rows, add, 0, 0, IsInteger: false);
        }
        foreach (KernelResult result in Samplers(step)) yield return result;
    }

    private IEnumerable<KernelResult> Samplers(KernelStep step)
    {
        using HugeBuffer weights = new(KernelStep.MatrixBytes(TensorType.F32, Vocabulary, HeadColumns));
        KernelStep.Fill(weights, TensorType.F32);
        using DeviceMatrix head = step.Device.LoadMatrix(KernelStep.Source(weights, 0, TensorType.F32, Vocabulary, HeadColumns));
        DeviceTensor x = step.Random(HeadColumns);
        DeviceVector norm = step.Ones(HeadColumns);
        StepResult result = new(KernelStep.MaxSequences);
        (string, SamplingParams)[] ways =
        [
            ("greedy", new() { Temperature = 0 }),
            ("temperature", new() { Temperature = 1, Seed = 7 }),
            ("top-k 64, top-p 0.95", new() { Temperature = 1, TopK = 64, TopP = 0.95f, Seed = 7 }),
            ("top-p 0.95", new() { Temperature = 1, TopP = 0.95f, Seed = 7 }),
            ("20 logprobs", new() { Temperature = 0, Logprobs = 20 }),
        ];
        foreach ((string name, SamplingParams sampling) in ways)
        {
            foreach (int rows in (int[])[1, 8])
            {
                for (int slot = 0; slot < rows; slot++) step.Device.OpenSlot(slot, sampling, [], []);
                double seconds = timer.Best(_ =>
                {
                    step.BeginDecode(rows, 16, new BlockTable(1), sample: true);
                    result.Begin();
                    step.Device.Sample(x, norm, head, 30f, tap: null);
                    step.Device.Collect(result);
                });
                for (int slot = 0; slot < rows; slot++) step.Device.CloseSlot(slot);
                yield return new($"sampler, {name}", $"{Vocabulary} tokens, head of {HeadColumns} columns", rows, seconds, 0, 0, IsInteger: false);
            }
        }
    }
}
