using System.Runtime.InteropServices;
using GemmaServer.Compute;
using GemmaServer.Model;
using GemmaServer.Text;

namespace GemmaServer.GoldenTests;

/// <summary>Random checkpoints for speed work: the dimensions of the published models, loadable and alive.</summary>
public sealed class MakeRandomTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("gemmaserver-random-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>From the specification: tensors of the real GGUF files and their text parameters in 10⁹.</summary>
    [Theory]
    [InlineData("e2b", 601, 4.647)]
    [InlineData("e4b", 720, 7.518)]
    [InlineData("12b", 667, 11.907)]
    [InlineData("26b-a4b", 658, 25.233)]
    [InlineData("31b", 833, 30.697)]
    public void A_whole_shape_has_the_tensors_and_parameters_of_the_published_file(string shape, int tensors, double billions)
    {
        PublishedSize size = RandomShape.Find(shape);
        RandomCheckpointFile file = new(size, RandomShape.Config(size, size.Layers, PublishedSize.Vocabulary), "q4_0");
        Assert.Equal(tensors, file.Tensors.Count);
        Assert.Equal(billions, file.Tensors.Sum(t => t.Elements) / 1e9, 0.0006);
        Assert.Empty(size.Differences(file.Config));
        Assert.Equal(size.Name, file.Config.SizeName);
    }

    [Fact]
    public void The_mixture_of_12B_is_that_of_the_published_file()
    {
        PublishedSize size = RandomShape.Find("12b");
        RandomCheckpointFile file = new(size, RandomShape.Config(size, size.Layers, PublishedSize.Vocabulary), "q4_k_m");
        Dictionary<TensorType, int> types = file.Tensors.GroupBy(t => t.Type).ToDictionary(g => g.Key, g => g.Count());
        Assert.Equal(new Dictionary<TensorType, int> { [TensorType.F32] = 338, [TensorType.Q4_K] = 284, [TensorType.Q6_K] = 45 }, types);
    }

    [Fact]
    public void Rows_that_are_no_whole_super_blocks_fall_back()
    {
        PublishedSize size = RandomShape.Find("26b-a4b");
        RandomCheckpointFile file = new(size, RandomShape.Config(size, size.Layers, PublishedSize.Vocabulary), "q4_k_m");
        Assert.All(file.Tensors.Where(t => t.Shape[^1] is 704 or 2112), t => Assert.True(t.Type is TensorType.Q5_0 or TensorType.Q8_0, $"{t}"));
        Assert.Contains(file.Tensors, t => t is { Type: TensorType.Q8_0, Name: "blk.0.ffn_down_exps.weight" });
        Assert.Contains(file.Tensors, t => t is { Type: TensorType.F32, Name: "blk.0.ffn_gate_inp.weight" });
    }

    [Theory]
    [InlineData("e2b", "q4_0", 6, "SSGSGG")]
    [InlineData("e2b", "q4_k_m", 4, "SGSG")]
    [InlineData("e4b", "q8_0", 6, "SSGSSG")]
    [InlineData("12b", "q4_k_m", 2, "SG")]
    [InlineData("26b-a4b", "q4_0", 2, "SG")]
    [InlineData("31b", "q4_k", 2, "SG")]
    public async Task A_cut_down_shape_opens_with_its_widths_and_generates(string shape, string type, int layers, string pattern)
    {
        const int vocabulary = 1024;
        string path = Path.Combine(_folder, "model.gguf");
        Assert.Equal(0, await CommandLine.RunAsync(["make-random", path, "--shape", shape, "--type", type, "--layers", $"{layers}", "--vocab", $"{vocabulary}"]));
        PublishedSize size = RandomShape.Find(shape);
        using (Checkpoint checkpoint = Checkpoint.Open(path))
        {
            ModelConfig c = checkpoint.Config;
            Assert.Equal(pattern, string.Concat(c.Layers.Select(l => l.IsSliding ? 'S' : 'G')));
            Assert.Equal((size.Hidden, size.Heads, vocabulary), (c.HiddenSize, c.HeadCount, c.VocabularySize));
            Assert.Equal((size.Window, size.Context, size.PerLayerInput), (c.SlidingWindow, c.ContextLength, c.PerLayerInputSize));
            Assert.Equal((size.Experts, size.ExpertsUsed, size.ExpertWidth), (c.ExpertCount, c.ExpertsUsed, c.ExpertWidth));
            Assert.Equal(64, c.GlobalRopeDivisors.Count(d => d == 1f));
            Assert.All(c.Layers, l => Assert.Equal(
                (l.IsSliding ? 256 : 512, l.IsSliding ? size.KvSliding : size.KvGlobal, l.OwnsKv ? size.FeedForward : size.FeedForwardShared),
                (l.HeadDim, l.KvHeadCount, l.FeedForwardWidth)));
            Assert.Equal(size.SharedKv > 0, c.SharedKvLayers > 0);
            CheckTokenizer(checkpoint);
        }

        using EngineHarness engine = new(path, ActivationType.Int8, KvCacheType.F16, kvMemory: 256 << 20);
        float[] logits = (await engine.LogitsAsync([2, 500, 600]))[0][2];
        Assert.All(logits, l => Assert.True(float.IsFinite(l)));
        Assert.InRange(logits.Max() - logits.Min(), 1, 60);
        Assert.Equal(4, (await engine.GreedyAsync([2, 500, 600], 4)).Length);
    }

    [Fact]
    public void The_same_seed_gives_the_same_bytes_and_another_one_others()
    {
        PublishedSize size = RandomShape.Find("e2b");
        RandomCheckpointFile file = new(size, RandomShape.Config(size, 1, 1024), "q6_k");
        byte[] Bytes(ulong seed)
        {
            string path = Path.Combine(_folder, "seeded.gguf");
            file.Write(path, seed, _ => { }, default);
            return File.ReadAllBytes(path);
        }
        byte[] first = Bytes(7);
        Assert.True(first.AsSpan().SequenceEqual(Bytes(7)));
        Assert.False(first.AsSpan().SequenceEqual(Bytes(8)));
    }

    public static TheoryData<string> Types => [.. Enum.GetNames<TensorType>()];

    /// <summary>Decoded by the blocks themselves, which stored vectors prove.</summary>
    [Theory, MemberData(nameof(Types))]
    public void Blocks_of_every_type_have_mean_zero_and_the_wanted_spread(string name)
    {
        TensorType type = Enum.Parse<TensorType>(name);
        byte[] pool = RandomBlocks.Make(type, 0.02, new RandomBits(3), 1 << 20);
        double[] values = Decode(type, pool);
        double deviation = Math.Sqrt(values.Average(v => v * v));
        Assert.InRange(deviation, type == TensorType.MXFP4 ? 0.014 : 0.0194, type == TensorType.MXFP4 ? 0.029 : 0.0206);
        Assert.InRange(values.Average(), -0.0004, 0.0004);
        Assert.All(values, v => Assert.InRange(Math.Abs(v), 0, 0.25));
    }

    [Theory]
    [InlineData("--layers", "36")]
    [InlineData("--layers", "0")]
    [InlineData("--vocab", "100")]
    [InlineData("--type", "q9_9")]
    public async Task A_wrong_setting_is_refused_before_anything_is_written(string flag, string value)
    {
        string path = Path.Combine(_folder, "none.gguf");
        Assert.Equal(CommandLine.UsageError, await CommandLine.RunAsync(["make-random", path, "--shape", "e2b", flag, value]));
        Assert.Empty(Directory.GetFiles(_folder));
    }

    private static void CheckTokenizer(Checkpoint checkpoint)
    {
        Tokenizer tokenizer = ModelLoader.ReadTokenizer(checkpoint);
        Assert.Equal((1, 2, 105, 106, 50), (tokenizer.Special.Eos, tokenizer.Special.Bos, tokenizer.Special.TurnStart, tokenizer.Special.TurnEnd, tokenizer.Special.ToolResponseStart));
        Assert.True(tokenizer.Special.ImagePlaceholder > 0 && tokenizer.Special.VideoPlaceholder > 0);
        const string text = "Hello there,\n\n  GRÜSSE 日本 \t~";
        Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text, parseSpecial: false), skipSpecial: false));
    }

    private static double[] Decode(TensorType type, byte[] pool) => type switch
    {
        TensorType.F32 => [.. MemoryMarshal.Cast<byte, float>(pool).ToArray().Select(v => (double)v)],
        TensorType.F16 => [.. MemoryMarshal.Cast<byte, Half>(pool).ToArray().Select(v => (double)v)],
        TensorType.BF16 => [.. MemoryMarshal.Cast<byte, ushort>(pool).ToArray().Select(v => (double)BitConverter.UInt32BitsToSingle((uint)v << 16))],
        TensorType.Q4_0 => Decode<Q4_0Block>(pool),
        TensorType.Q4_1 => Decode<Q4_1Block>(pool),
        TensorType.Q5_0 => Decode<Q5_0Block>(pool),
        TensorType.Q5_1 => Decode<Q5_1Block>(pool),
        TensorType.Q8_0 => Decode<Q8_0Block>(pool),
        TensorType.Q2_K => Decode<Q2_KBlock>(pool),
        TensorType.Q3_K => Decode<Q3_KBlock>(pool),
        TensorType.Q4_K => Decode<Q4_KBlock>(pool),
        TensorType.Q5_K => Decode<Q5_KBlock>(pool),
        TensorType.Q6_K => Decode<Q6_KBlock>(pool),
        TensorType.IQ4_NL => Decode<IQ4_NLBlock>(pool),
        TensorType.IQ4_XS => Decode<IQ4_XSBlock>(pool),
        TensorType.MXFP4 => Decode<MXFP4Block>(pool),
        _ => throw new ArgumentOutOfRangeException(nameof(type)),
    };

    private static double[] Decode<TBlock>(byte[] pool) where TBlock : unmanaged, IQuantBlock<TBlock>
    {
        List<double> values = [];
        float[] row = new float[TBlock.Length];
        foreach (TBlock block in MemoryMarshal.Cast<byte, TBlock>(pool).ToArray().Take(4096))
        {
            TBlock.Dequantize(block, row);
            values.AddRange(row.Select(v => (double)v));
        }
        return [.. values];
    }
}
