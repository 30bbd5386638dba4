using System.Text;
using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.Tests.Model;

/// <summary>
/// The published sizes, without their weights: from a config.json as Google's, the table of expected tensors must come out with
/// the tensor and parameter counts of the real files, and <c>inspect --verify</c> must accept exactly that.
/// </summary>
public sealed class CheckpointsPublishedSizesTests
{
    /// <summary>Settings of released files, written down from the specification and not from the code's table.</summary>
    public static TheoryData<string, string, int, double> Sizes => new()
    {
        {
            "E2B", """
            "hidden_size":1536,"num_hidden_layers":35,"num_attention_heads":8,"num_key_value_heads":1,"num_global_key_value_heads":null,
            "attention_k_eq_v":false,"intermediate_size":6144,"use_double_wide_mlp":true,"num_kv_shared_layers":20,
            "hidden_size_per_layer_input":256,"sliding_window":512,"max_position_embeddings":131072,"enable_moe_block":false,
            "layer_types":[PATTERN5x7]
            """, 600, 4.647
        },
        {
            "E4B", """
            "hidden_size":2560,"num_hidden_layers":42,"num_attention_heads":8,"num_key_value_heads":2,"num_global_key_value_heads":null,
            "attention_k_eq_v":false,"intermediate_size":10240,"use_double_wide_mlp":false,"num_kv_shared_layers":18,
            "hidden_size_per_layer_input":256,"sliding_window":512,"max_position_embeddings":131072,"enable_moe_block":false
            """, 719, 7.518
        },
        {
            "12B", """
            "hidden_size":3840,"num_hidden_layers":48,"num_attention_heads":16,"num_key_value_heads":8,"num_global_key_value_heads":1,
            "attention_k_eq_v":true,"intermediate_size":15360,"sliding_window":1024,"max_position_embeddings":262144,
            "use_bidirectional_attention":"vision"
            """, 666, 11.907
        },
        {
            "26B-A4B", """
            "hidden_size":2816,"num_hidden_layers":30,"num_attention_heads":16,"num_key_value_heads":8,"num_global_key_value_heads":2,
            "attention_k_eq_v":true,"intermediate_size":2112,"num_kv_shared_layers":0,"hidden_size_per_layer_input":0,
            "sliding_window":1024,"max_position_embeddings":262144,"enable_moe_block":true,"num_experts":128,"top_k_experts":8,
            "moe_intermediate_size":704,"use_bidirectional_attention":"vision"
            """, 657, 25.233
        },
        {
            "31B", """
            "hidden_size":5376,"num_hidden_layers":60,"num_attention_heads":32,"num_key_value_heads":16,"num_global_key_value_heads":4,
            "attention_k_eq_v":true,"intermediate_size":21504,"num_kv_shared_layers":0,"hidden_size_per_layer_input":0,
            "sliding_window":1024,"max_position_embeddings":262144,"enable_moe_block":false,"use_bidirectional_attention":"vision"
            """, 832, 30.697
        },
    };

    /// <summary>The resolved configuration of a published size.</summary>
    internal static ModelConfig Published(string size) => ConfigOf((string)Sizes.Single(s => (string)s[0] == size)[1]);

    private static ModelConfig ConfigOf(string settings)
    {
        string pattern = string.Join(',', Enumerable.Range(0, 35).Select(i => i % 5 == 4 ? "\"full_attention\"" : "\"sliding_attention\""));
        string json = $$$"""
            {"model_type":"gemma4","text_config":{"model_type":"gemma4_text","vocab_size":262144,"head_dim":256,"global_head_dim":512,
            "final_logit_softcapping":30.0,"rms_norm_eps":1e-06,{{{settings.Replace("PATTERN5x7", pattern)}}}}}
            """;
        ConfigFacts facts = HuggingFaceConfigReader.Read(JsonFields.Parse(Encoding.UTF8.GetBytes(json), "config.json", ""), 0, []);
        return ModelConfigBuilder.Build(facts, new Dictionary<string, StoredTensor>());
    }

    /// <summary>A checkpoint of that shape without data, with the K/V that files ship for layers that borrow.</summary>
    private static Checkpoint Hollow(ModelConfig config, string format = "safetensors")
    {
        static TensorSource Source(string name, params long[] shape)
        {
            long rows = shape[..^1].Aggregate(1L, (a, b) => a * b);
            return new TensorSource(name, TensorType.BF16, rows, (int)shape[^1], 0, rows * shape[^1] * 2);
        }

        Dictionary<string, TensorSource> used = ExpectedTensors.For(config, _ => false).ToDictionary(t => t.Name, t => Source(t.Name, t.Shape));
        List<TensorSource> stored = [.. used.Values];
        foreach (LayerConfig layer in config.Layers.Where(l => !l.OwnsKv))
        {
            stored.Add(Source($"blk.{layer.Index}.attn_k.weight", layer.KvHeadCount * layer.HeadDim, config.HiddenSize));
            stored.Add(Source($"blk.{layer.Index}.attn_v.weight", layer.KvHeadCount * layer.HeadDim, config.HiddenSize));
            stored.Add(Source($"blk.{layer.Index}.attn_k_norm.weight", layer.HeadDim));
        }
        if (format != "safetensors") stored.Add(Source("rope_freqs.weight", 256));
        return new Checkpoint([])
        {
            Path = "hollow", Format = format, Config = config, Tensors = used, StoredTensors = stored,
            Generation = new GenerationDefaults { EosTokenIds = [1, 50, 106] },
            Vocabulary = new VocabularySource { TokenizerJsonPath = "tokenizer.json" }, ChatTemplate = "x", Notes = [],
        };
    }

    [Theory, MemberData(nameof(Sizes))]
    public void A_published_config_gives_the_tensor_and_parameter_counts_of_the_real_files(string name, string settings, int tensors, double billions)
    {
        ModelConfig config = ConfigOf(settings);
        Assert.Equal(name, config.SizeName);
        using Checkpoint checkpoint = Hollow(config);
        Assert.Equal(tensors, checkpoint.StoredTensors.Count);
        Assert.Equal(billions, checkpoint.StoredTensors.Sum(t => (double)t.Rows * t.Columns) / 1e9, 0.0006);
        Assert.Equal(64, config.GlobalRopeDivisors.Count(d => d == 1f));
        Assert.Equal(192, config.GlobalRopeDivisors.Count(float.IsPositiveInfinity));
    }

    [Theory]
    [InlineData(35, 5, 20, 13, 14)]
    [InlineData(42, 6, 18, 22, 23)]
    public void The_donors_of_E2B_and_E4B_are_those_of_the_specification(int layers, int period, int shared, int sliding, int global)
    {
        string types = string.Join(',', Enumerable.Range(0, layers).Select(i => i % period == period - 1 ? "\"full_attention\"" : "\"sliding_attention\""));
        ModelConfig config = ConfigOf($"\"num_hidden_layers\":{layers},\"num_kv_shared_layers\":{shared},\"layer_types\":[{types}]");
        Assert.Equal(layers - shared, config.Layers.Count(l => l.OwnsKv && l.KvSource == l.Index));
        Assert.All(config.Layers.Skip(layers - shared), l => Assert.Equal((l.IsSliding ? sliding : global, false), (l.KvSource, l.OwnsKv)));
    }

    [Theory, MemberData(nameof(Sizes))]
    public void Verification_passes_on_a_published_model_and_names_what_differs(string name, string settings, int tensors, double billions)
    {
        Assert.True(tensors > 0 && billions > 0);
        using Checkpoint good = Hollow(ConfigOf(settings)), gguf = Hollow(ConfigOf(settings), "GGUF v3");
        Dictionary<string, int[]> vectors = CheckpointVerifier.TokenVectors.ToDictionary(v => v.Text, v => v.Ids);
        int[] Tokenize(string text) => vectors.TryGetValue(text, out int[]? ids) ? ids : [7, 8, 9];
        foreach (Checkpoint checkpoint in (Checkpoint[])[good, gguf])
        {
            IReadOnlyList<VerificationLine> lines = CheckpointVerifier.Verify(checkpoint, Tokenize, ids => ids.SequenceEqual([2, 7, 8, 9]) ? 3.5 : 99);
            Assert.All(lines, l => Assert.True(l.Passed, l.Text));
            Assert.Contains(lines, l => l.Text == $"size: {name}");
            Assert.Equal(1, lines.Count(l => l.Text.StartsWith("perplexity", StringComparison.Ordinal)));
        }

        ModelConfig other = good.Config with { SlidingWindow = 2048, Layers = [.. good.Config.Layers.Select(l => l.Index == 3 ? l with { KvHeadCount = 64 } : l)] };
        using Checkpoint bad = Hollow(other);
        string[] failures = [.. CheckpointVerifier.Verify(bad, _ => [1], _ => double.NaN).Where(l => !l.Passed).Select(l => l.Text)];
        Assert.Contains(failures, f => f.Contains("window", StringComparison.Ordinal) && f.Contains("2048", StringComparison.Ordinal));
        Assert.Contains(failures, f => f.Contains("layer 3:", StringComparison.Ordinal));
        Assert.Contains(failures, f => f.StartsWith("parameters", StringComparison.Ordinal));
        Assert.Contains(failures, f => f.Contains("[9259 1902]", StringComparison.Ordinal));
        Assert.Contains(failures, f => f.StartsWith("perplexity", StringComparison.Ordinal));
        Assert.DoesNotContain(failures, f => f.StartsWith("tensor count", StringComparison.Ordinal));
    }

    [Fact]
    public void A_small_random_model_is_none_of_the_published_sizes()
    {
        using Checkpoint checkpoint = Checkpoint.Open(GoldenModels.Folder(GoldenModels.Names[0]));
        VerificationLine line = Assert.Single(CheckpointVerifier.Verify(checkpoint));
        Assert.False(line.Passed);
        Assert.Contains("none of the published sizes", line.ToString());
    }

    [Fact]
    public void The_report_tells_layers_types_tokenizer_and_memory()
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        string path = GoldenModels.Ggufs("tiny-e").First(p => p.Contains("Q4_0", StringComparison.Ordinal));
        using Checkpoint checkpoint = Checkpoint.Open(path);
        string report = CheckpointInspector.Describe(checkpoint, ["KV cache 3 MiB"]);
        string[] lines = report.Split('\n');
        void Has(string label, string words) =>
            Assert.Contains(lines, l => l.TrimStart().StartsWith(label, StringComparison.Ordinal) && l.Contains(words, StringComparison.Ordinal));
        Has("Checkpoint", "(GGUF v3)");
        Has("Layers", "SSSG × 2");
        Has("sliding", "4 heads of 32, 1 KV heads");
        Has("global", "4 heads of 64, 1 KV heads");
        Has("KV sharing", "the last 4 layers read layers 2 and 3");
        Has("MLP", "width 128 and 256; per-layer input of 32");
        Has("Q4_0", "tensors");
        Has("F32", "tensors");
        Has("Tokenizer", "gemma4, 512 pieces, 138 merges");
        Has("Template", "SHA-256");
        Has("Defaults", "end tokens [1, 9, 16]");
        Has("Memory", "KV cache 3 MiB");
        Assert.Equal(checkpoint.Tensors.Count, checkpoint.Tensors.Values.GroupBy(t => t.Type).Sum(g =>
            int.Parse(lines.Single(l => l.StartsWith($"  {g.Key} ", StringComparison.Ordinal))[13..].Split(' ')[0])));
    }
}
