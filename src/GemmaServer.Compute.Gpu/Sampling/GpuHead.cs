namespace GemmaServer.Compute;

/// <summary>
/// The end of a step: final norm, head, soft-cap, logprobs and sampling for the rows whose next token is wanted. Everything is
/// queued; the host waits in <see cref="Collect"/>. Kernels: <c>head.cl</c>.
/// </summary>
internal sealed class GpuHead(GpuContext gpu, GpuStep step, GpuMatMul matMul, GpuOptions options) : IDisposable
{
    /// <summary>Rows of logits held at once; the head of a bigger step goes in portions.</summary>
    private const int LogitRows = 32;

    /// <summary>Steps that may be under way: one runs while the one before is collected.</summary>
    private const int StepsUnderWay = 2;

    private readonly StepFacts[] _facts = new StepFacts[StepsUnderWay];
    private GpuKernel _gather = null!, _settle = null!, _hiddenRows = null!;
    private GpuSlots? _slots;
    private GpuOutputs _outputs = null!;
    private GpuSampler _sampler = null!;
    private GpuDraftHead _draftHead = null!;
    private GpuTensor? _hidden;
    private GpuBuffer _hiddenFrom;
    private int _portion, _maxRows, _vocabulary, _turn, _underWay;

    /// <summary>Rows of the step that get logits.</summary>
    public int OutputCount => _outputs.Count;

    public GpuCentroids LoadCentroids(GpuMatrix vectors, ReadOnlySpan<int> tokenOrdering, int used) => new(gpu, vectors, tokenOrdering, used);

    /// <summary>Makes room, and compiles what depends on the vocabulary's size.</summary>
    public void Reserve(int maxRows, int maxSequences, int vocabularySize)
    {
        Free();
        (_portion, _maxRows, _vocabulary) = (Math.Min(LogitRows, maxRows), maxRows, vocabularySize);
        KernelSource source = new("head.cl", ["sampling.h"], ("GROUP", GpuSampler.Group), ("CHUNK", GpuSampler.Chunk));
        (_gather, _settle, _hiddenRows) = (gpu.Kernel(source, "gather_norm"), gpu.Kernel(source, "settle"), gpu.Kernel(source, "hidden_rows"));
        _slots = new GpuSlots(gpu, source, maxSequences, vocabularySize);
        _outputs = new GpuOutputs(gpu, _slots, maxRows, vocabularySize);
        _sampler = new GpuSampler(gpu, _slots, _outputs, _portion, maxRows, vocabularySize);
        _draftHead = new GpuDraftHead(gpu, step, matMul, _slots, _outputs, _sampler, gpu.Kernel(source, "settle_guesses"), _gather, _portion, vocabularySize);
        for (int i = 0; i < StepsUnderWay; i++) _facts[i] = new StepFacts(gpu, maxRows);
        _hiddenFrom = gpu.Allocate((long)maxSequences * sizeof(int), "sampling state");
        gpu.Clear(_hiddenFrom, _hiddenFrom.Bytes);
        (_turn, _underWay) = (0, 0);
    }

    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output) => _slots!.Open(slot, sampling, prompt, output);

    public void CloseSlot(int slot) => _slots!.Close(slot);

    /// <summary>Takes in which rows of a batch get logits.</summary>
    public void Begin(StepBatch batch)
    {
        if (_underWay == StepsUnderWay) throw new InvalidOperationException("Two steps are under way; one has to be collected first.");
        _outputs.Begin(batch, _facts[_turn]);
        _sampler.Begin();
    }

    public void Sample(GpuTensor x, GpuVector norm, GpuMatrix head, float softcap, LogitsTap? tap, GpuTensor? hidden)
    {
        StepFacts facts = _facts[_turn];
        // A tap reads on the way.
        if (tap is not null) gpu.EndGraph();
        if (_hidden is null || _hidden.Columns != x.Columns)
        {
            _hidden?.Dispose();
            _hidden = new GpuTensor(gpu, _portion, x.Columns);
        }
        for (int start = 0; start < _outputs.Count; start += _portion)
        {
            int count = Math.Min(_portion, _outputs.Count - start);
            _gather.Begin().Add(_outputs.Table).Add(x.Buffer).Add(norm.Buffer).Add(_hidden.Buffer)
                .Add(x.Columns).Add(options.Epsilon).Add(start).Add(1).Run(GpuSampler.Group, count);
            matMul.MultiplyRows(_hidden, head, _sampler.Logits, count);
            _sampler.Run(start, count, softcap, keepAll: tap is not null);
            if (tap is not null) Show(tap, facts.Outputs.Slice(start, count));
        }
        _settle.Begin().Add(_outputs.Table).Add(_sampler.Results).Add(_slots!.State).Add(_slots.Counts).Add(step.LastSampled).Add(_hiddenFrom)
            .Add(_vocabulary).Add(_slots.SlotInts).Run(64, (_outputs.Count + 63) / 64);
        if (hidden is not null)
        {
            _hiddenRows.Begin().Add(_hiddenFrom).Add(x.Buffer).Add(norm.Buffer).Add(hidden.Buffer)
                .Add(x.Columns).Add(options.Epsilon).Run(GpuSampler.Group, _outputs.HiddenRows);
        }
        // The results go to buffers that take turns.
        gpu.EndGraph();
        facts.Fetch(_sampler.Results, _sampler.Tops, _outputs.Tops);
        _turn = (_turn + 1) % StepsUnderWay;
        _underWay++;
    }

    public void Collect(StepResult result)
    {
        if (_underWay == 0) throw new InvalidOperationException("No step is under way.");
        int oldest = (_turn + StepsUnderWay - _underWay) % StepsUnderWay;
        _underWay--;
        _facts[oldest].Deliver(result);
    }

    public bool Draft(GpuTensor x, GpuMatrix head, GpuCentroids? centroids, int depth, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap) =>
        _draftHead.Run(x, head, centroids, depth, sequences, result, tap);

    public void Dispose() => Free();

    private void Show(LogitsTap tap, ReadOnlySpan<OutputFacts> outputs)
    {
        float[] rows = new float[outputs.Length * _vocabulary];
        _sampler.Logits.Read(rows);
        for (int i = 0; i < outputs.Length; i++) tap(outputs[i].Slot, outputs[i].Position, rows.AsSpan(i * _vocabulary, _vocabulary));
    }

    private void Free()
    {
        if (_slots is null) return;
        _slots.Dispose();
        _outputs.Dispose();
        _sampler.Dispose();
        _draftHead.Dispose();
        foreach (StepFacts facts in _facts) facts.Dispose();
        _hidden?.Dispose();
        gpu.Free(_hiddenFrom);
        (_slots, _hidden) = (null, null);
    }
}
