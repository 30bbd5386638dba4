using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>What is chosen for an ILGPU device.</summary>
/// <param name="Activations">
/// What input rows of products are rounded to before they are multiplied as floats: Int8 to the same bytes as elsewhere, BF16 in
/// products of many rows. Weights of types without a kernel are decoded to floats, with BF16 to bfloat16.
/// </param>
/// <param name="BatchInvariant">One kernel for any number of rows, so that a GPU's compiler rounds a row alike beside any others.</param>
/// <param name="Epsilon">Of every RMS norm; 1e-6 in Gemma 4.</param>
public sealed record IlgpuOptions(
    ActivationType Activations = ActivationType.F32, bool BatchInvariant = false, float Epsilon = 1e-6f);

/// <summary>
/// The device contract on ILGPU: kernels are C# methods that ILGPU compiles for CUDA or OpenCL, or runs in its simulator.
/// Each step ends on the host, which waits for its tokens.
/// </summary>
public sealed class IlgpuDevice : IComputeDevice
{
    private readonly IlgpuRuntime _runtime;
    private readonly IlgpuOptions _options;
    private readonly IlgpuStep _step;
    private readonly IlgpuRows _rows;
    private readonly IlgpuMatMul _matMul;
    private readonly WeightPacking _packing;
    private readonly IlgpuGather _gather;
    private readonly IlgpuAttention _attention;
    private readonly IlgpuExperts _experts;
    private readonly IlgpuHead _head;
    private readonly Dictionary<int, IlgpuTensor> _gateUp = [];     // by width
    private int _reserved;

    internal IlgpuDevice(IlgpuRuntime runtime, IlgpuOptions options)
    {
        (_runtime, _options) = (runtime, options);
        _step = new IlgpuStep(runtime);
        _rows = new IlgpuRows(runtime, options.Epsilon);
        _matMul = new IlgpuMatMul(runtime, options.Activations, options.BatchInvariant);
        _packing = new WeightPacking(runtime, exact: options.Activations != ActivationType.BF16);
        _gather = new IlgpuGather(runtime, _step, _matMul, _rows);
        _attention = new IlgpuAttention(runtime, _step, options.Epsilon);
        _experts = new IlgpuExperts(runtime, _step, _matMul, _rows);
        _head = new IlgpuHead(runtime, _step, _matMul, _rows);
    }

    /// <inheritdoc/>
    public string Name => $"ilgpu:{_runtime.Backend.ToString().ToLowerInvariant()} ({_runtime.Accelerator.Name}, ILGPU {typeof(ILGPU.Context).Assembly.GetName().Version?.ToString(3)}, {_options.Activations} activations)";

    /// <inheritdoc/>
    public bool IsAsynchronous => false;

    /// <inheritdoc/>
    public long WeightBytes { get; private set; }

    /// <inheritdoc/>
    public DeviceTensor CreateTensor(int rows, int columns) => new IlgpuTensor(_runtime, rows, columns);

    /// <inheritdoc/>
    public DeviceMatrix LoadMatrix(params ReadOnlySpan<TensorSource> parts)
    {
        IlgpuMatrix matrix = _packing.Load(parts);
        _matMul.Prepare(matrix);
        foreach (WeightPart part in matrix.Parts) WeightBytes += part.Bytes;
        return matrix;
    }

    /// <inheritdoc/>
    public DeviceMatrix LoadTable(TensorSource source)
    {
        CpuWeights mapped = new([source]);
        return new IlgpuMatrix(mapped.Rows, mapped.Columns, [], mapped);
    }

    /// <inheritdoc/>
    public DeviceVector LoadVector(TensorSource source, float scale = 1f)
    {
        CpuWeights weights = new([source]);
        float[] values = new float[weights.Columns * weights.Rows];
        for (int r = 0; r < weights.Rows; r++) weights.DecodeRow(r, values.AsSpan(r * weights.Columns, weights.Columns));
        for (int i = 0; i < values.Length; i++) values[i] *= scale;
        return new IlgpuVector(_runtime, values);
    }

    /// <inheritdoc/>
    public DeviceCentroids LoadCentroids(TensorSource vectors, ReadOnlySpan<int> tokenOrdering, int used) =>
        new IlgpuCentroids(_runtime, _matMul, (IlgpuMatrix)LoadMatrix([vectors]), tokenOrdering.ToArray(), used);

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
        _reserved = maxBatchTokens;
        _step.Reserve(maxBatchTokens, maxSequences);
        _attention.Reserve(maxBatchTokens, readers);
        _head.Reserve(maxBatchTokens, maxSequences, vocabularySize);
        _runtime.Finish();
    }

    /// <inheritdoc/>
    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output) =>
        _head.OpenSlot(slot, sampling, prompt, output);

    /// <inheritdoc/>
    public void CloseSlot(int slot) => _head.CloseSlot(slot);

    /// <inheritdoc/>
    public void BeginStep(StepBatch batch)
    {
        _step.Begin(batch, _head.LastSampled);
        _attention.Begin();
    }

    /// <inheritdoc/>
    public void Embed(DeviceMatrix table, float scale, DeviceTensor x) => _gather.Embed(Matrix(table), scale, Tensor(x));

    /// <inheritdoc/>
    public void EmbedBeside(DeviceMatrix table, float scale, DeviceTensor x, DeviceTensor y) =>
        _gather.EmbedBeside(Matrix(table), scale, Tensor(x), Tensor(y));

    /// <inheritdoc/>
    public void PerLayerInputs(DeviceTensor ple, float contextScale, DeviceVector norm, DeviceMatrix table, float tableScale) =>
        _rows.PerLayerInputs(_step.RowCount, Tensor(ple), contextScale, Vector(norm), _gather.Rows(Matrix(table), ple.Rows), tableScale);

    /// <inheritdoc/>
    public void RmsNorm(DeviceTensor x, DeviceVector? w, DeviceTensor y) => _rows.RmsNorm(_step.RowCount, Tensor(x), (IlgpuVector?)w, Tensor(y), add: false);

    /// <inheritdoc/>
    public void RmsNormAdd(DeviceTensor x, DeviceVector w, DeviceTensor y) => _rows.RmsNorm(_step.RowCount, Tensor(x), Vector(w), Tensor(y), add: true);

    /// <inheritdoc/>
    public void AddNorm(DeviceTensor x, DeviceTensor delta, DeviceVector post, float scale, DeviceVector? next, DeviceTensor normed) =>
        _rows.AddNorm(_step.RowCount, Tensor(x), Tensor(delta), Vector(post), scale, (IlgpuVector?)next, Tensor(normed));

    /// <inheritdoc/>
    public void MatMul(DeviceTensor x, DeviceMatrix w, DeviceTensor y) => _matMul.Multiply(_step.RowCount, Tensor(x), Matrix(w), Tensor(y));

    /// <inheritdoc/>
    public void GatedMatMul(DeviceTensor x, DeviceMatrix gateUp, DeviceTensor y)
    {
        if (!_gateUp.TryGetValue(gateUp.Rows, out IlgpuTensor? both)) _gateUp[gateUp.Rows] = both = new IlgpuTensor(_runtime, Math.Max(_reserved, y.Rows), gateUp.Rows);
        _matMul.Multiply(_step.RowCount, Tensor(x), Matrix(gateUp), both);
        _rows.Gate(_step.RowCount, gateUp.Rows / 2, both, both, gateUp.Rows / 2, Tensor(y));
    }

    /// <inheritdoc/>
    public void NormRopeStore(AttentionPlan plan, DeviceVector qNorm, DeviceVector kNorm, DeviceTensor qkv, DeviceKvCache cache) =>
        _attention.NormRopeStore(plan, Vector(qNorm), Vector(kNorm), Tensor(qkv), (IlgpuKvCache)cache);

    /// <inheritdoc/>
    public void Attend(AttentionPlan plan, DeviceTensor qkv, DeviceKvCache cache, DeviceTensor heads) =>
        _attention.Attend(plan, Tensor(qkv), (IlgpuKvCache)cache, Tensor(heads));

    /// <inheritdoc/>
    public void PerLayerGate(DeviceTensor x, DeviceMatrix w, DeviceTensor ple, int layer, DeviceTensor y)
    {
        MatMul(x, w, y);
        _rows.Gate(_step.RowCount, y.Columns, Tensor(y), Tensor(ple), layer * y.Columns, Tensor(y));
    }

    /// <inheritdoc/>
    public void Route(DeviceTensor x, DeviceVector scale, DeviceMatrix proj, DeviceVector expertScale, int used) =>
        _experts.Route(Tensor(x), Vector(scale), Matrix(proj), Vector(expertScale), used);

    /// <inheritdoc/>
    public void Experts(DeviceTensor x, DeviceMatrix gate, DeviceMatrix? up, DeviceMatrix down, int expertWidth, DeviceTensor y) =>
        _experts.Run(Tensor(x), Matrix(gate), (IlgpuMatrix?)up, Matrix(down), expertWidth, Tensor(y));

    /// <inheritdoc/>
    public void Sample(DeviceTensor x, DeviceVector norm, DeviceMatrix head, float softcap, LogitsTap? tap, DeviceTensor? hidden = null) =>
        _head.Sample(Tensor(x), Vector(norm), Matrix(head), softcap, tap, (IlgpuTensor?)hidden);

    /// <inheritdoc/>
    public void Collect(StepResult result) => _head.Collect(result);

    /// <inheritdoc/>
    public bool Draft(DeviceTensor x, DeviceMatrix head, DeviceCentroids? centroids, int depth, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap) =>
        _head.Draft(Tensor(x), Matrix(head), (IlgpuCentroids?)centroids, depth, sequences, result, tap);

    /// <inheritdoc/>
    public void Dispose()
    {
        _runtime.Finish();
        foreach (IlgpuTensor both in _gateUp.Values) both.Dispose();
        foreach (IDisposable d in (IDisposable[])[_head, _experts, _attention, _gather, _matMul, _rows, _step, _runtime]) d.Dispose();
    }

    private static IlgpuTensor Tensor(DeviceTensor tensor) => (IlgpuTensor)tensor;

    private static IlgpuMatrix Matrix(DeviceMatrix matrix) => (IlgpuMatrix)matrix;

    private static IlgpuVector Vector(DeviceVector vector) => (IlgpuVector)vector;
}
