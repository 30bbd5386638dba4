using GemmaServer.Compute;
using GemmaServer.Model;
using GemmaServer.Tests;

namespace GemmaServer.GoldenTests;

/// <summary>Weights that a device makes up itself: what benchmarks of published sizes run on.</summary>
[Trait("Category", "Device")]
public sealed class RandomWeightsTests
{
    private const int Rows = 24, Columns = 1536;

    public static TheoryData<string> Types => [.. Enum.GetNames<TensorType>()];

    [OpenClTheory]
    [MemberData(nameof(Types))]
    public void Values_have_the_wanted_spread_and_no_row_or_tensor_repeats_another(string name)
    {
        TensorType type = Enum.Parse<TensorType>(name);
        RandomWeights random = new(static (_, columns) => 20.0 / columns, seed: 3);
        using GpuDevice device = new(new OpenClContext(0), random.On(new GpuOptions()));
        device.Reserve(Rows, 1, 64);
        // Rows of odd length go up one by one.
        int columns = WeightRows.IsQuantised(type) ? Columns : Columns - 1;
        float[] one = Decoded(device, "one", type, columns), other = Decoded(device, "other", type, columns), again = Decoded(device, "one", type, columns);
        double wanted = 20.0 / columns, deviation = Math.Sqrt(one.Average(static v => (double)v * v));
        // MXFP4's scales are powers of two.
        Assert.InRange(deviation, wanted * (type == TensorType.MXFP4 ? 0.7 : 0.95), wanted * (type == TensorType.MXFP4 ? 1.45 : 1.05));
        Assert.All(one, v => Assert.InRange(Math.Abs(v), 0, 13 * wanted));
        Assert.Equal(one, again);
        HashSet<string> starts = [];
        foreach (float[] tensor in (float[][])[one, other])
            for (int r = 0; r < Rows; r++) Assert.True(starts.Add(string.Join(' ', tensor.Skip(r * columns).Take(32))), $"row {r} begins as one before");
    }

    /// <summary>The pieces of a tensor, and its parts, continue it and do not begin again.</summary>
    [DeviceTheory]
    [MemberData(nameof(TestDevices.Gpus), MemberType = typeof(TestDevices))]
    public void A_tensor_in_parts_does_not_repeat_itself(string device)
    {
        RandomWeights random = new(static (_, _) => 1, seed: 3);
        using IComputeDevice opened = TestDevices.Open(device, adjust: o => random.On(o) with { LargestPart = 8 << 10 });
        opened.Reserve(Rows, 1, 64);
        float[] values = Decoded(opened, "one", TensorType.Q8_0, Columns);
        Assert.Equal(Rows, Enumerable.Range(0, Rows).Select(r => string.Join(' ', values.Skip(r * Columns).Take(32))).Distinct().Count());
    }

    /// <summary>Two layers have more matrices than there are types: each type is that of one at least.</summary>
    [OpenClFact]
    public async Task A_model_without_bytes_in_all_types_gives_finite_logits()
    {
        PublishedSize size = RandomShape.Find("e2b");
        TensorType[] types = Enum.GetValues<TensorType>();
        int next = 0;
        RandomCheckpointFile file = new(
            size, RandomShape.Config(size, 2, RandomShape.LeastVocabulary), "mixed", (_, shape) => shape.Length == 1 ? TensorType.F32 : types[next++ % types.Length]);
        Assert.Equal(types.Order(), file.Tensors.Where(static t => t.Shape.Length > 1).Select(static t => t.Type).Distinct().Order());
        await CheckAsync(file);
    }

    [OpenClFact]
    public async Task A_mixture_without_bytes_gives_finite_logits()
    {
        PublishedSize size = RandomShape.Find("26b-a4b") with { Experts = 16 };
        await CheckAsync(new RandomCheckpointFile(size, RandomShape.Config(size, 1, RandomShape.LeastVocabulary), "q4_0"));
    }

    private static async Task CheckAsync(RandomCheckpointFile file)
    {
        Checkpoint checkpoint = file.OpenWithoutMatrices();
        RandomWeights random = new(file.Deviation, seed: 1);
        using EngineHarness engine = new(
            checkpoint, epsilon => new GpuDevice(new OpenClContext(0), random.On(new GpuOptions(Epsilon: epsilon))), KvCacheType.F16, maxBatchTokens: 16);
        float[] logits = (await engine.LogitsAsync([2, 500, 600]))[0][2];
        Assert.All(logits, static l => Assert.True(float.IsFinite(l)));
        Assert.InRange(logits.Max() - logits.Min(), 1, 60);
    }

    private static float[] Decoded(IComputeDevice device, string name, TensorType type, int columns)
    {
        long bytes = (long)Rows * columns / TensorTypes.BlockLength(type) * TensorTypes.BlockBytes(type);
        // Nothing stands at its address.
        using DeviceMatrix table = device.LoadTable(new TensorSource(name, type, Rows, columns, 0, bytes));
        using DeviceTensor x = device.CreateTensor(Rows, columns);
        StepBatch batch = new(Rows, 1);
        batch.Add(new SequenceSlice { Blocks = new BlockTable(0), PromptLogprobs = -1, NextPromptToken = -1 }, [.. Enumerable.Range(0, Rows)]);
        device.BeginStep(batch);
        device.Embed(table, 1, x);
        float[] values = new float[Rows * columns];
        x.Read(values);
        return values;
    }
}
