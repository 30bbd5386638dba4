namespace GemmaServer.Compute;

/// <summary>What is chosen for a GPU device.</summary>
/// <param name="Activations">F32: exact; Int8: activations are bytes where weights are quantised; BF16: tensor cores for many rows.</param>
/// <param name="BatchInvariant">A row's result is the same, bit for bit, whatever is computed beside it: one kernel for all batch sizes.</param>
/// <param name="Epsilon">Of every RMS norm; 1e-6 in Gemma 4.</param>
public sealed record GpuOptions(ActivationType Activations = ActivationType.F32, bool BatchInvariant = false, float Epsilon = 1e-6f)
{
    /// <summary>Where the bytes of weights come from; null: from the checkpoint. Measurements make them on the device.</summary>
    internal FillWeights? Fill { get; init; }

    /// <summary>Bytes of a weight's parts, where that is less than the device's largest buffer: for tests.</summary>
    internal long LargestPart { get; init; } = long.MaxValue;

    /// <summary>Most bytes for the sums of attention's chunks. Many rows with many chunks need no splitting to fill a device.</summary>
    internal long AttentionScratch { get; init; } = 64L << 20;
}

/// <summary>
/// A GPU behind the device contract: every operation queues kernels and returns; the host waits in <see cref="Collect"/> alone.
/// Which driver runs them is the <see cref="GpuContext"/>'s business.
/// </summary>
public sealed class GpuDevice : IComputeDevice
{
    private readonly GpuContext _gpu;
    private readonly GpuOptions _options;
    private readonly GpuStep _step;
    private readonly GpuRows _rows;
    private readonly GpuWeights _weights;
    private readonly GpuGather _gather;
    private readonly GpuMatMul _matMul;
    private readonly GpuExperts _experts;
    private readonly GpuAttention _attention;
    private readonly GpuHead _head;
    private bool _hasStepped;

    internal GpuDevice(GpuContext gpu, GpuOptions options)
    {
        (_gpu, _options) = (gpu, options);
        _step = new GpuStep(gpu);
        _rows = new GpuRows(gpu, _step, options.Epsilon);
        _weights = new GpuWeights(gpu, options.Fill, options.LargestPart);
        _gather = new GpuGather(gpu, _step, options.Epsilon);
        _matMul = new GpuMatMul(gpu, _step, options);
        _experts = new GpuExperts(gpu, _step, options);
        _attention = new GpuAttention(gpu, _step, options);
        _head = new GpuHead(gpu, _step, _matMul, options);
    }

    /// <inheritdoc/>
    public string Name => $"{_gpu.Info.Id} ({_gpu.Info.Name}, {_gpu.Info.Driver}, {_options.Activations} activations)";

    /// <inheritdoc/>
    public bool IsAsynchronous => true;

    /// <inheritdoc/>
    public long WeightBytes => _weights.Bytes;

    internal GpuContext Context => _gpu;

    /// <inheritdoc/>
    public DeviceTensor CreateTensor(int rows, int columns) => new GpuTensor(_gpu, rows, columns);

    /// <inheritdoc/>
    public DeviceMatrix LoadMatrix(params ReadOnlySpan<TensorSource> parts) => _weights.Load(parts);

    /// <inheritdoc/>
    public DeviceMatrix LoadTable(TensorSource source) => _weights.LoadTable(source);

    /// <inheritdoc/>
    public DeviceVector LoadVector(TensorSource source, float scale = 1f)
    {
        CpuWeights weights = new([source]);
        float[] values = new float[weights.Columns * weights.Rows];
        for (int r = 0; r < weights.Rows; r++) weights.DecodeRow(r, values.AsSpan(r * weights.Columns, weights.Columns));
        for (int i = 0; i < values.Length; i++) values[i] *= scale;
        return new GpuVector(_gpu, values);
    }

    /// <inheritdoc/>
    public DeviceCentroids LoadCentroids(TensorSource vectors, ReadOnlySpan<int> tokenOrdering, int used) =>
        _head.LoadCentroids((GpuMatrix)_weights.Load([vectors]), tokenOrdering, used);

    /// <inheritdoc/>
    public DeviceKvCache CreateKvCache(KvCachePlan plan, Func<int, AttentionPlan> layerShape)
    {
        _step.UseCache(plan);
        return _attention.CreateCache(plan, layerShape);
    }

    /// <inheritdoc/>
    public int AddRope(ReadOnlySpan<float> inverseFrequencies) => _attention.AddRope(inverseFrequencies);

    /// <inheritdoc/>
    public void Reserve(int maxBatchTokens, int maxSequences, int vocabularySize, params ReadOnlySpan<AttentionPlan> readers)
    {
        _step.Reserve(maxBatchTokens, maxSequences);
        _matMul.Reserve(maxBatchTokens, _weights.MostColumns);
        _experts.Reserve(maxBatchTokens);
        _attention.Reserve(maxBatchTokens, maxSequences, readers);
        _head.Reserve(maxBatchTokens, maxSequences, vocabularySize);
        _gpu.Finish();
    }

    /// <inheritdoc/>
    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        _head.OpenSlot(slot, sampling, prompt, output);
        if (!output.IsEmpty) _step.SetLastSampled(slot, output[^1]);
    }

    /// <inheritdoc/>
    public void CloseSlot(int slot) => _head.CloseSlot(slot);

    /// <inheritdoc/>
    public void BeginStep(StepBatch batch)
    {
        _gpu.DropGraph();
        _step.Begin(batch);
        _head.Begin(batch);
        _attention.Begin();
        // The first step may still make room. A key that two different steps share costs a recording, never a wrong result.
        if (_step.IsPlainDecode && _hasStepped) _gpu.BeginGraph(HashCode.Combine(_step.Grid, _step.Generation, _attention.ContextBucket, _head.OutputCount));
        _hasStepped = true;
    }

    /// <inheritdoc/>
    public void Embed(DeviceMatrix table, float scale, DeviceTensor x) => _gather.Embed(Matrix(table), scale, Tensor(x));

    /// <inheritdoc/>
    public void EmbedBeside(DeviceMatrix table, float scale, DeviceTensor x, DeviceTensor y) =>
        _gather.EmbedBeside(Matrix(table), scale, Tensor(x), Tensor(y));

    /// <inheritdoc/>
    public void PerLayerInputs(DeviceTensor ple, float contextScale, DeviceVector norm, DeviceMatrix table, float tableScale) =>
        _gather.PerLayerInputs(Tensor(ple), contextScale, Vector(norm), Matrix(table), tableScale);

    /// <inheritdoc/>
    public void RmsNorm(DeviceTensor x, DeviceVector? w, DeviceTensor y) => _rows.RmsNorm(Tensor(x), (GpuVector?)w, Tensor(y), add: false);

    /// <inheritdoc/>
    public void RmsNormAdd(DeviceTensor x, DeviceVector w, DeviceTensor y) => _rows.RmsNorm(Tensor(x), Vector(w), Tensor(y), add: true);

    /// <inheritdoc/>
    public void AddNorm(DeviceTensor x, DeviceTensor delta, DeviceVector post, float scale, DeviceVector? next, DeviceTensor normed) =>
        _rows.AddNorm(Tensor(x), Tensor(delta), Vector(post), scale, (GpuVector?)next, Tensor(normed));

    /// <inheritdoc/>
    public void MatMul(DeviceTensor x, DeviceMatrix w, DeviceTensor y) => _matMul.Multiply(Tensor(x), Matrix(w), Tensor(y));

    /// <inheritdoc/>
    public void GatedMatMul(DeviceTensor x, DeviceMatrix gateUp, DeviceTensor y) => _matMul.MultiplyGated(Tensor(x), Matrix(gateUp), Tensor(y));

    /// <inheritdoc/>
    public void NormRopeStore(AttentionPlan plan, DeviceVector qNorm, DeviceVector kNorm, DeviceTensor qkv, DeviceKvCache cache) =>
        _attention.NormRopeStore(plan, Vector(qNorm), Vector(kNorm), Tensor(qkv), (GpuKvCache)cache);

    /// <inheritdoc/>
    public void Attend(AttentionPlan plan, DeviceTensor qkv, DeviceKvCache cache, DeviceTensor heads) =>
        _attention.Attend(plan, Tensor(qkv), (GpuKvCache)cache, Tensor(heads));

    /// <inheritdoc/>
    public void PerLayerGate(DeviceTensor x, DeviceMatrix w, DeviceTensor ple, int layer, DeviceTensor y)
    {
        MatMul(x, w, y);
        _rows.GateByInput(Tensor(y), Tensor(ple), layer);
    }

    /// <inheritdoc/>
    public void Route(DeviceTensor x, DeviceVector scale, DeviceMatrix proj, DeviceVector expertScale, int used) =>
        _experts.Route(Tensor(x), Vector(scale), Matrix(proj), Vector(expertScale), used);

    /// <inheritdoc/>
    public void Experts(DeviceTensor x, DeviceMatrix gate, DeviceMatrix? up, DeviceMatrix down, int expertWidth, DeviceTensor y) =>
        _experts.Run(Tensor(x), Matrix(gate), (GpuMatrix?)up, Matrix(down), expertWidth, Tensor(y));

    /// <inheritdoc/>
    public void Sample(DeviceTensor x, DeviceVector norm, DeviceMatrix head, float softcap, LogitsTap? tap, DeviceTensor? hidden = null) =>
        _head.Sample(Tensor(x), Vector(norm), Matrix(head), softcap, tap, (GpuTensor?)hidden);

    /// <inheritdoc/>
    public void Collect(StepResult result) => _head.Collect(result);

    /// <inheritdoc/>
    public bool Draft(DeviceTensor x, DeviceMatrix head, DeviceCentroids? centroids, int depth, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap) =>
        _head.Draft(Tensor(x), Matrix(head), (GpuCentroids?)centroids, depth, sequences, result, tap);

    /// <inheritdoc/>
    public void Dispose()
    {
        _gpu.Finish();
        _head.Dispose();
        _attention.Dispose();
        _experts.Dispose();
        _matMul.Dispose();
        _weights.Dispose();
        _step.Dispose();
        _gpu.Dispose();
    }

    private static GpuTensor Tensor(DeviceTensor tensor) => (GpuTensor)tensor;

    private static GpuMatrix Matrix(DeviceMatrix matrix) => (GpuMatrix)matrix;

    private static GpuVector Vector(DeviceVector vector) => (GpuVector)vector;
}
