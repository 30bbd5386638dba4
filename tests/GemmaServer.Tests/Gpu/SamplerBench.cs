using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>The sampler on the device over logits that a test writes, one row for each of some slots.</summary>
internal sealed class SamplerBench : IDisposable
{
    private readonly GpuBench _bench;
    private readonly GpuSlots _slots;
    private readonly GpuOutputs _outputs;
    private readonly GpuSampler _sampler;
    private readonly StepFacts _facts;
    private readonly SlotState[] _states;
    private readonly StepBatch _batch;
    private readonly StepResult _result;

    public SamplerBench(int vocabulary, int rows)
    {
        _bench = new GpuBench(rows, rows);
        KernelSource head = new("head.cl", ["sampling.h"], ("GROUP", GpuSampler.Group), ("CHUNK", GpuSampler.Chunk));
        _slots = new GpuSlots(_bench.Gpu, head, rows, vocabulary);
        _outputs = new GpuOutputs(_bench.Gpu, _slots, rows, vocabulary);
        _sampler = new GpuSampler(_bench.Gpu, _slots, _outputs, rows, rows, vocabulary);
        _facts = new StepFacts(_bench.Gpu, rows);
        _states = [.. Enumerable.Range(0, rows).Select(static _ => new SlotState())];
        (_batch, _result) = (new StepBatch(rows, rows), new StepResult(rows));
    }

    /// <summary>A slot as the reference keeps it.</summary>
    public SlotState State(int slot) => _states[slot];

    public void Open(int slot, SamplingParams sampling, int[] prompt, int[] output)
    {
        _states[slot].Open(sampling, prompt, output);
        _slots.Open(slot, sampling, prompt, output);
    }

    /// <summary>What the device samples after positions <paramref name="position"/> − 1, slot by slot.</summary>
    public StepResult Run(float[][] logits, float cap, int position, ulong[]?[]? allowed = null)
    {
        _batch.Clear();
        for (int s = 0; s < logits.Length; s++)
        {
            _batch.Add(
                new SequenceSlice { Slot = s, ContextLength = position - 1, Sample = true, Blocks = new BlockTable(0), PromptLogprobs = -1, NextPromptToken = -1 }, [1]);
            if (allowed is not null) _batch.Allow(s, allowed[s]);
        }
        _outputs.Begin(_batch, _facts);
        _sampler.Begin();
        _sampler.Logits.Write([.. logits.SelectMany(static l => l)]);
        _sampler.Run(0, logits.Length, cap, keepAll: false);
        _facts.Fetch(_sampler.Results, _sampler.Tops, _outputs.Tops);
        _facts.Deliver(_result);
        return _result;
    }

    public void Dispose()
    {
        _facts.Dispose();
        _sampler.Dispose();
        _outputs.Dispose();
        _slots.Dispose();
        _bench.Dispose();
    }
}
