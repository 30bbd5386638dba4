using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>The CPU device: SIMD kernels over packed weights, on worker threads of its own.</summary>
public sealed unsafe class CpuDevice : IComputeDevice
{
    /// <summary>Rows of logits held at once; the head of a bigger batch goes in portions.</summary>
    public const int LogitRows = 32;

    private readonly WorkerPool _workers;
    private readonly WorkerPlacement _placement;
    private readonly CpuMatMul _matMul;
    private readonly CpuExperts _experts;
    private readonly CpuHead _head;
    private readonly CpuDraftHead _draftHead;
    private readonly CpuStep _step = new();
    private readonly AttentionSchedule _schedule = new();
    private readonly AttentionScratch _attention = new();
    private readonly List<Rope> _ropes = [];
    private readonly float _epsilon;
    private readonly AlignedBuffer _rowScratch = new();
    private SlotState[] _slots = [];
    private int[] _lastSampled = [];
    private int _widestHead, _mostHeads, _mostKvHeads, _mostHeadsPerKv;

    /// <summary>A device of <paramref name="threads"/> threads, the caller's included.</summary>
    /// <param name="threads">0 takes one per physical core.</param>
    /// <param name="activations">Exact or fast arithmetic.</param>
    /// <param name="epsilon">Of every RMS norm; 1e-6 in Gemma 4.</param>
    /// <param name="amx">Whether AMX kernels may be used where the machine has them.</param>
    public CpuDevice(int threads, ActivationType activations, float epsilon = 1e-6f, bool amx = true)
        : this(WorkerPlacement.Free(threads == 0 ? null : threads), activations, epsilon, amx) { }

    /// <summary>A device whose workers have places; the thread that runs steps is worker 0.</summary>
    /// <param name="placement">How many workers, and where.</param>
    /// <param name="activations">Exact or fast arithmetic.</param>
    /// <param name="epsilon">Of every RMS norm; 1e-6 in Gemma 4.</param>
    /// <param name="amx">Whether AMX kernels may be used where the machine has them.</param>
    /// <exception cref="InvalidOperationException">The system refuses a place.</exception>
    public CpuDevice(WorkerPlacement placement, ActivationType activations, float epsilon = 1e-6f, bool amx = true)
    {
        (_workers, _placement) = (new WorkerPool(placement), placement);
        _matMul = new CpuMatMul(_workers, activations, amx);
        if (amx && activations == ActivationType.Int8 && AmxSupport.IsInProcessor && AmxSupport.Refusal is { } reason) Remark = $"AMX is not used: {reason}.";
        _experts = new CpuExperts(_workers, _matMul);
        _head = new CpuHead(_workers, _matMul);
        _draftHead = new CpuDraftHead(_workers, _matMul);
        _epsilon = epsilon;
    }

    /// <inheritdoc/>
    public string Name
    {
        get
        {
            string simd = Vector512.IsHardwareAccelerated ? "512-bit" : Vector256.IsHardwareAccelerated ? "256-bit" : Vector128.IsHardwareAccelerated ? "128-bit" : "scalar";
            string tiles = _matMul.Activations != ActivationType.Int8 ? "" : _matMul.Tiles switch { TileKind.Amx => ", AMX", TileKind.Vnni => ", 512-bit VNNI", _ => "" };
            return $"cpu ({simd} SIMD{tiles}, {_placement}, {_matMul.Activations} activations)";
        }
    }

    /// <summary>What whoever runs this may want to know: why a fast way of this processor is not taken; null where there is nothing.</summary>
    public string? Remark { get; }

    /// <inheritdoc/>
    public bool IsAsynchronous => false;

    /// <inheritdoc/>
    public long WeightBytes => _matMul.PackedBytes;

    /// <inheritdoc/>
    public DeviceTensor CreateTensor(int rows, int columns) => new CpuTensor(rows, columns);

    /// <inheritdoc/>
    public DeviceMatrix LoadMatrix(params ReadOnlySpan<TensorSource> parts)
    {
        CpuWeights weights = new(parts);
        _matMul.Prepare(weights);
        return new CpuMatrix(weights);
    }

    /// <inheritdoc/>
    public DeviceMatrix LoadTable(TensorSource source) => new CpuMatrix(new CpuWeights(source));

    /// <inheritdoc/>
    public DeviceVector LoadVector(TensorSource source, float scale = 1f)
    {
        CpuWeights weights = new([source]);
        float[] values = new float[weights.Columns * weights.Rows];
        for (int r = 0; r < weights.Rows; r++) weights.DecodeRow(r, values.AsSpan(r * weights.Columns, weights.Columns));
        for (int i = 0; i < values.Length; i++) values[i] *= scale;
        return new CpuVector(values);
    }

    /// <inheritdoc/>
    public DeviceCentroids LoadCentroids(TensorSource vectors, ReadOnlySpan<int> tokenOrdering, int used) =>
        new CpuCentroids(new CpuWeights(vectors), tokenOrdering.ToArray(), used, LogitRows, _workers.Threads);

    /// <inheritdoc/>
    public DeviceKvCache CreateKvCache(KvCachePlan plan, Func<int, AttentionPlan> layerShape)
    {
        foreach (int layer in plan.Groups.SelectMany(g => g.Layers)) Widen(layerShape(layer));
        return new CpuKvCache(plan, layerShape);
    }

    /// <inheritdoc/>
    public int AddRope(ReadOnlySpan<float> inverseFrequencies)
    {
        // A drafter turns as its target does: one table serves both.
        for (int i = 0; i < _ropes.Count; i++)
            if (_ropes[i].Is(inverseFrequencies)) return i;
        _ropes.Add(new Rope(inverseFrequencies));
        return _ropes.Count - 1;
    }

    /// <inheritdoc/>
    public void Reserve(int maxBatchTokens, int maxSequences, int vocabularySize, params ReadOnlySpan<AttentionPlan> readers)
    {
        foreach (AttentionPlan reader in readers) Widen(reader);
        _step.Reserve(maxBatchTokens, maxSequences, _workers.Threads, NormRopeStoreJob<KvF32>.ScratchFloats(_widestHead));
        _schedule.Reserve(maxBatchTokens);
        _attention.Reserve(_workers.Threads, maxBatchTokens, _widestHead, _mostHeads, _mostKvHeads, _mostHeadsPerKv);
        foreach (Rope rope in _ropes) rope.Reserve(maxBatchTokens);
        _head.Reserve(LogitRows, maxBatchTokens, vocabularySize);
        _draftHead.Reserve(maxSequences);
        _slots = new SlotState[maxSequences];
        for (int i = 0; i < maxSequences; i++) _slots[i] = new SlotState();
        _lastSampled = new int[maxSequences];
    }

    /// <inheritdoc/>
    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        _slots[slot].Open(sampling, prompt, output);
        _lastSampled[slot] = output.IsEmpty ? -1 : output[^1];
    }

    /// <inheritdoc/>
    public void CloseSlot(int slot) => _lastSampled[slot] = -1;

    /// <inheritdoc/>
    public void BeginStep(StepBatch batch)
    {
        _workers.BeginStep();
        _step.Begin(batch, _lastSampled);
        foreach (Rope rope in _ropes)
        {
            RopeJob job = new(rope, _step);
            _workers.Run(ref job, _step.RowCount);
        }
    }

    /// <inheritdoc/>
    public void Embed(DeviceMatrix table, float scale, DeviceTensor x)
    {
        EmbedJob job = new(_step, Weights(table), scale, Tensor(x));
        _workers.Run(ref job, _step.RowCount);
    }

    /// <inheritdoc/>
    public void EmbedBeside(DeviceMatrix table, float scale, DeviceTensor x, DeviceTensor y)
    {
        EmbedBesideJob job = new(_step, Weights(table), scale, Tensor(x), Tensor(y));
        _workers.Run(ref job, _step.RowCount);
    }

    /// <inheritdoc/>
    public void PerLayerInputs(DeviceTensor ple, float contextScale, DeviceVector norm, DeviceMatrix table, float tableScale)
    {
        PerLayerInputsJob job = new(_step, Tensor(ple), contextScale, Values(norm), Weights(table), tableScale, _epsilon, (float*)_rowScratch.Ensure((long)table.Columns * _workers.Threads * sizeof(float)));
        _workers.Run(ref job, _step.RowCount);
    }

    /// <inheritdoc/>
    public void RmsNorm(DeviceTensor x, DeviceVector? w, DeviceTensor y)
    {
        RmsNormJob job = new(Tensor(x), w is null ? [] : Values(w), Tensor(y), _epsilon, add: false);
        _workers.Run(ref job, _step.RowCount);
    }

    /// <inheritdoc/>
    public void RmsNormAdd(DeviceTensor x, DeviceVector w, DeviceTensor y)
    {
        RmsNormJob job = new(Tensor(x), Values(w), Tensor(y), _epsilon, add: true);
        _workers.Run(ref job, _step.RowCount);
    }

    /// <inheritdoc/>
    public void AddNorm(DeviceTensor x, DeviceTensor delta, DeviceVector post, float scale, DeviceVector? next, DeviceTensor normed)
    {
        AddNormJob job = new(Tensor(x), Tensor(delta), Values(post), scale, next is null ? null : Values(next), Tensor(normed), _epsilon);
        _workers.Run(ref job, _step.RowCount);
    }

    /// <inheritdoc/>
    public void MatMul(DeviceTensor x, DeviceMatrix w, DeviceTensor y) =>
        _matMul.Multiply(Tensor(x).Input(_step.RowCount), Weights(w), 0, w.Rows, Tensor(y).All, y.Columns);

    /// <inheritdoc/>
    public void GatedMatMul(DeviceTensor x, DeviceMatrix gateUp, DeviceTensor y) =>
        _matMul.MultiplyGated(Tensor(x).Input(_step.RowCount), Weights(gateUp), 0, gateUp.Rows / 2, gateUp.Rows / 2, Tensor(y).All, y.Columns);

    /// <inheritdoc/>
    public void NormRopeStore(AttentionPlan plan, DeviceVector qNorm, DeviceVector kNorm, DeviceTensor qkv, DeviceKvCache cache)
    {
        switch (cache.Plan.Type)
        {
            case KvCacheType.F32: NormRopeStore<KvF32>(plan, qNorm, kNorm, qkv, cache); break;
            case KvCacheType.F16: NormRopeStore<KvF16>(plan, qNorm, kNorm, qkv, cache); break;
            case KvCacheType.BF16: NormRopeStore<KvBF16>(plan, qNorm, kNorm, qkv, cache); break;
            default: NormRopeStore<KvQ8>(plan, qNorm, kNorm, qkv, cache); break;
        }
    }

    /// <inheritdoc/>
    public void Attend(AttentionPlan plan, DeviceTensor qkv, DeviceKvCache cache, DeviceTensor heads)
    {
        switch (cache.Plan.Type)
        {
            case KvCacheType.F32: Attend<KvF32>(plan, qkv, cache, heads); break;
            case KvCacheType.F16: Attend<KvF16>(plan, qkv, cache, heads); break;
            case KvCacheType.BF16: Attend<KvBF16>(plan, qkv, cache, heads); break;
            default: Attend<KvQ8>(plan, qkv, cache, heads); break;
        }
    }

    /// <inheritdoc/>
    public void PerLayerGate(DeviceTensor x, DeviceMatrix w, DeviceTensor ple, int layer, DeviceTensor y)
    {
        MatMul(x, w, y);
        PerLayerGateJob job = new(Tensor(ple), layer, Tensor(y));
        _workers.Run(ref job, _step.RowCount);
    }

    /// <inheritdoc/>
    public void Route(DeviceTensor x, DeviceVector scale, DeviceMatrix proj, DeviceVector expertScale, int used) =>
        _experts.Route(_step.RowCount, Tensor(x), Values(scale), Weights(proj), Values(expertScale), used, _epsilon);

    /// <inheritdoc/>
    public void Experts(DeviceTensor x, DeviceMatrix gate, DeviceMatrix? up, DeviceMatrix down, int expertWidth, DeviceTensor y) =>
        _experts.Run(_step.RowCount, Tensor(x), Weights(gate), up is null ? null : Weights(up), Weights(down), expertWidth, Tensor(y));

    /// <inheritdoc/>
    public void Sample(DeviceTensor x, DeviceVector norm, DeviceMatrix head, float softcap, LogitsTap? tap, DeviceTensor? hidden = null)
    {
        _head.Run(_step, Tensor(x), Values(norm), _epsilon, Weights(head), softcap, _slots, _lastSampled, tap, hidden is null ? null : Tensor(hidden));
        _workers.EndStep();
    }

    /// <inheritdoc/>
    public void Collect(StepResult result) => _head.Deliver(_step, result);

    /// <inheritdoc/>
    public bool Draft(DeviceTensor x, DeviceMatrix head, DeviceCentroids? centroids, int depth, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap)
    {
        bool goesOn = _draftHead.Run(_step, Tensor(x), Weights(head), (CpuCentroids?)centroids, depth, _slots, _head.Logits, sequences, result, tap);
        if (!goesOn) _workers.EndStep();
        return goesOn;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _workers.Dispose();
        _matMul.Dispose();
        _attention.Dispose();
        _experts.Dispose();
        _head.Dispose();
        _rowScratch.Dispose();
        foreach (Rope rope in _ropes) rope.Dispose();
    }

    private void Widen(AttentionPlan shape)
    {
        _widestHead = Math.Max(_widestHead, shape.HeadDim);
        _mostHeads = Math.Max(_mostHeads, shape.HeadCount);
        _mostKvHeads = Math.Max(_mostKvHeads, shape.KvHeadCount);
        _mostHeadsPerKv = Math.Max(_mostHeadsPerKv, shape.HeadCount / shape.KvHeadCount);
    }

    private void NormRopeStore<TKv>(AttentionPlan plan, DeviceVector qNorm, DeviceVector kNorm, DeviceTensor qkv, DeviceKvCache cache)
        where TKv : struct, IKvFormat
    {
        NormRopeStoreJob<TKv> job = new(
            plan, _step, _ropes[plan.Rope], Values(qNorm), Values(kNorm), _epsilon, Tensor(qkv), (CpuKvCache)cache);
        _workers.Run(ref job, _step.RowCount);
    }

    private void Attend<TKv>(AttentionPlan plan, DeviceTensor qkv, DeviceKvCache cache, DeviceTensor heads) where TKv : struct, IKvFormat
    {
        AttentionJob<TKv> job = new(plan, _step, _schedule, _attention, Tensor(qkv), (CpuKvCache)cache, Tensor(heads));
        AttentionMergeJob merge = new(plan, _schedule, _attention, Tensor(heads));
        _schedule.Begin(plan, _step, _workers.Threads);
        while (_schedule.NextRound(plan, _attention.SlotFloats))
        {
            _workers.Run(ref job, _schedule.Units.Length * plan.KvHeadCount);
            _workers.Run(ref merge, _schedule.Merges.Length * plan.HeadCount);
        }
    }

    private static CpuTensor Tensor(DeviceTensor tensor) => (CpuTensor)tensor;

    private static CpuWeights Weights(DeviceMatrix matrix) => ((CpuMatrix)matrix).Weights;

    private static float[] Values(DeviceVector vector) => ((CpuVector)vector).Values;
}
