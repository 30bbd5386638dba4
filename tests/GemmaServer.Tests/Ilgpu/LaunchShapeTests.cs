#if ILGPU
using GemmaServer.Compute;
using GemmaServer.Compute.Ilgpu;
using GemmaServer.Tests.Device;

namespace GemmaServer.Tests.Ilgpu;

/// <summary>
/// Launches as on a GPU, with slices, lanes that share a row and barriers, in the simulator; the suites of every device run there
/// without barriers, which cost a fifth of a millisecond each.
/// </summary>
[Trait("Category", "Ilgpu")]
public sealed class LaunchShapeTests : IDisposable
{
    private const int Rows = 3, MaxRows = 12;

    private static readonly LaunchShape s_likeAGpu = new(PanelLanes: 8, MostSlices: 4, RowLanes: 16, Group: 16, MostGroups: 3);

    private readonly CpuDevice _exact = new(1, ActivationType.F32);
    private readonly IComputeDevice _tested = IlgpuDevices.Make(new IlgpuRuntime(IlgpuBackend.Cpu, s_likeAGpu), new IlgpuOptions());
    private readonly List<TestWeight> _weights = [];

    [Fact]
    public void Norms()
    {
        const int Columns = 70;
        TestWeight w = Weight(TensorType.F32, 1, Columns, 1), table = Weight(TensorType.F16, 4, 3 * 20, 6), part = Weight(TensorType.F32, 1, 20, 7);
        Compare(d =>
        {
            using DeviceTensor x = Tensor(d, Columns, 2), delta = Tensor(d, Columns, 3), normed = Tensor(d, Columns, 4), ple = Tensor(d, 60, 5);
            using DeviceVector norm = d.LoadVector(w.Source), partNorm = d.LoadVector(part.Source);
            using DeviceMatrix rows = d.LoadTable(table.Source);
            Begin(d, Rows);
            d.RmsNormAdd(delta, norm, x);
            delta.Write(DevicePair.Random(MaxRows * Columns, 3));
            d.AddNorm(x, delta, norm, 0.5f, norm, normed);
            d.PerLayerInputs(ple, 0.3f, partNorm, rows, 4);
            return [.. DevicePair.Rows(x, Rows), .. DevicePair.Rows(normed, Rows), .. DevicePair.Rows(ple, Rows)];
        }, 1e-5f);
    }

    [Theory]
    [InlineData(TensorType.F32)]
    [InlineData(TensorType.BF16)]
    [InlineData(TensorType.Q8_0)]
    [InlineData(TensorType.Q4_0)]
    [InlineData(TensorType.Q4_K)]
    public void Products_cut_in_slices(TensorType type)
    {
        const int Outputs = 21;
        int columns = TestWeight.ColumnsFor(type);
        TestWeight weight = Weight(type, Outputs, columns, 1);
        foreach (int rows in (int[])[1, 11])
        {
            Compare(d =>
            {
                using DeviceMatrix w = d.LoadMatrix(weight.Source);
                using DeviceTensor x = Tensor(d, columns, 2), y = Tensor(d, Outputs, 3);
                Begin(d, rows);
                d.MatMul(x, w, y);
                return DevicePair.Rows(y, MaxRows);
            }, 1e-5f);
        }
    }

    [Theory]
    [InlineData(KvCacheType.F32)]
    [InlineData(KvCacheType.Q8_0)]
    public void Attention(KvCacheType type)
    {
        // Compact pages: the longest way through the kernels.
        const int Heads = 4, Dim = 64, Pairs = 16, TokensPerPage = 4;
        AttentionPlan shape = new(Heads, 2, Dim, 0, 0, 0, 0, OwnsKv: true, ValueIsKey: true, 2 * Pairs);
        TestWeight q = Weight(TensorType.F32, 1, Dim, 1), k = Weight(TensorType.F32, 1, Dim, 2);
        long bytes = KvLayout.BytesPerToken(type, 2, Dim, 2 * Pairs);
        Compare(d =>
        {
            d.AddRope([.. Enumerable.Range(0, Dim / 2).Select(i => i < Pairs ? 1f / (1 + i) : 0)]);
            using DeviceKvCache cache = d.CreateKvCache(new KvCachePlan([new KvGroup([0], 0, TokensPerPage, bytes)], bytes * TokensPerPage, 4, type), _ => shape);
            using DeviceVector qNorm = d.LoadVector(q.Source), kNorm = d.LoadVector(k.Source);
            using DeviceTensor qkv = Tensor(d, shape.QkvWidth, 3), heads = Tensor(d, shape.QueryWidth, 4);
            BlockTable table = new(1);
            foreach (int page in (int[])[2, 0, 3]) table.Add(0, page);
            Begin(d, 10, table);
            d.NormRopeStore(shape, qNorm, kNorm, qkv, cache);
            d.Attend(shape, qkv, cache, heads);
            return DevicePair.Rows(heads, MaxRows);
        }, (float)AttentionCase.Tolerance(type));
    }

    [Fact]
    public void Choices()
    {
        const int Hidden = 32, Vocabulary = 301;
        TestWeight head = Weight(TensorType.F32, Vocabulary, Hidden, 1), norm = Weight(TensorType.F32, 1, Hidden, 2);
        SamplingParams[] sampling =
        [
            new() { Temperature = 1, TopK = 7, TopP = 0.8f, Seed = 1, Logprobs = 4, FrequencyPenalty = 1 },
            new() { Temperature = 1.2f, TopP = 0.7f, MinP = 0.01f, Seed = 2 },
        ];
        List<string>[] results = [.. new[] { _exact, _tested }.Select(d =>
        {
            using DeviceTensor x = Tensor(d, Hidden, 3);
            using DeviceMatrix w = d.LoadMatrix(head.Source);
            using DeviceVector n = d.LoadVector(norm.Source, 3);
            d.Reserve(MaxRows, sampling.Length, Vocabulary);
            for (int s = 0; s < sampling.Length; s++) d.OpenSlot(s, sampling[s], [1, 2], [4]);
            StepBatch batch = new(MaxRows, sampling.Length);
            for (int s = 0; s < sampling.Length; s++)
                batch.Add(new SequenceSlice { Slot = s, ContextLength = 5, Sample = true, Blocks = new BlockTable(0), PromptLogprobs = -1, NextPromptToken = -1 }, [s]);
            d.BeginStep(batch);
            d.Sample(x, n, w, 30, null);
            StepResult result = new(sampling.Length);
            d.Collect(result);
            return Enumerable.Range(0, sampling.Length).Select(s =>
                $"{result.Tokens(s)[0]} {string.Join(' ', (result.TopLogprobs(s, 0) ?? []).Select(static t => $"{t.Token}={t.Logprob:0.00}"))}").ToList();
        })];
        Assert.Equal(results[0], results[1]);
    }

    public void Dispose()
    {
        _exact.Dispose();
        _tested.Dispose();
        GC.KeepAlive(_weights);
    }

    private void Compare(Func<IComputeDevice, float[]> run, float tolerance) => DevicePair.AssertClose(run(_exact), run(_tested), tolerance);

    private TestWeight Weight(TensorType type, int rows, int columns, int seed)
    {
        TestWeight weight = new(type, rows, columns, seed);
        _weights.Add(weight);
        return weight;
    }

    private static DeviceTensor Tensor(IComputeDevice d, int columns, int seed)
    {
        DeviceTensor tensor = d.CreateTensor(MaxRows, columns);
        tensor.Write(DevicePair.Random(MaxRows * columns, seed));
        return tensor;
    }

    private static void Begin(IComputeDevice d, int rows, BlockTable? table = null)
    {
        d.Reserve(MaxRows, 2, 64);
        StepBatch batch = new(MaxRows, 2);
        batch.Add(new SequenceSlice { Blocks = table ?? new BlockTable(0), PromptLogprobs = -1, NextPromptToken = -1 }, [.. Enumerable.Range(0, rows).Select(static i => i % 4)]);
        d.BeginStep(batch);
    }
}
#endif
