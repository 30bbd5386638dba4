using System.Text.Json;
using System.Text.Json.Nodes;
using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.Tests.Model;

/// <summary>The reference checkpoints open in both formats and say the same.</summary>
public sealed class CheckpointsGoldenTests
{
    /// <summary>Servable models at hand; drafters have tests of their own.</summary>
    public static TheoryData<string> Models => [.. GoldenModels.Names];

    [Theory, MemberData(nameof(Models))]
    public void Every_file_of_a_model_opens_with_the_same_config_and_the_same_tensors(string model)
    {
        using Checkpoint hf = Checkpoint.Open(GoldenModels.Folder(model));
        Assert.Equal("safetensors", hf.Format);
        string[] ggufs = GoldenModels.Ggufs(model);
        Assert.NotEmpty(ggufs);
        foreach (string path in ggufs)
        {
            using Checkpoint gguf = Checkpoint.Open(path);
            Assert.Equal("GGUF v3", gguf.Format);
            ConfigAssert.Equal(hf.Config, gguf.Config);
            Assert.Equal(hf.Tensors.Keys.Order(), gguf.Tensors.Keys.Order());
            foreach ((string name, TensorSource a) in hf.Tensors)
            {
                TensorSource b = gguf.Tensors[name];
                Assert.Equal((name, a.Rows, a.Columns), (name, b.Rows, b.Columns));
                Assert.Equal(b.Rows * (b.Columns / TensorTypes.BlockLength(b.Type)) * TensorTypes.BlockBytes(b.Type), b.Bytes);
            }
            Assert.Equal(hf.Generation.EosTokenIds, gguf.Generation.EosTokenIds);
            Assert.Equal(hf.Generation.SuppressTokens, gguf.Generation.SuppressTokens);
            Assert.Equal(hf.ChatTemplate, gguf.ChatTemplate);
        }
    }

    [Theory, MemberData(nameof(Models))]
    public void The_config_is_what_the_model_was_made_from(string model)
    {
        JsonNode spec = JsonNode.Parse(File.ReadAllText(GoldenData.At(model, "spec.json")))!;
        using Checkpoint checkpoint = Checkpoint.Open(GoldenModels.Folder(model));
        ModelConfig c = checkpoint.Config;
        string pattern = (string)spec["pattern"]!;
        int Number(string name, int absent = 0) => (int?)spec[name] ?? absent;

        Assert.Equal(pattern, string.Concat(c.Layers.Select(l => l.IsSliding ? 'S' : 'F')));
        Assert.Equal((pattern.Length, Number("hidden"), Number("heads")), (c.LayerCount, c.HiddenSize, c.HeadCount));
        Assert.Equal((512, 4096, Number("window"), "custom"), (c.VocabularySize, c.ContextLength, c.SlidingWindow, c.SizeName));
        Assert.Equal((Number("experts"), Number("top_k"), Number("expert_ffn")), (c.ExpertCount, c.ExpertsUsed, c.ExpertWidth));
        Assert.Equal((30f, 1e-6f, 1e4f, 1e6f, 0.25f), (c.LogitSoftcap, c.RmsEpsilon, c.RopeBaseSliding, c.RopeBaseGlobal, c.PartialRotaryFactor));
        Assert.Equal(Number("global_head_dim") / 2, c.GlobalRopeDivisors.Count);
        Assert.Equal(Enumerable.Range(0, c.GlobalRopeDivisors.Count).Select(i => i < Number("global_head_dim") / 8 ? 1f : float.PositiveInfinity), c.GlobalRopeDivisors);
        foreach (LayerConfig layer in c.Layers)
        {
            Assert.Equal(Number(layer.IsSliding ? "head_dim" : "global_head_dim"), layer.HeadDim);
            Assert.Equal(layer.IsSliding ? Number("kv_heads") : Number("global_kv_heads", Number("kv_heads")), layer.KvHeadCount);
            Assert.Equal(!layer.IsSliding && (bool?)spec["k_eq_v"] == true, layer.ValueIsKey);
        }
    }

    [Fact]
    public void Shared_layers_read_the_last_owner_of_their_kind_and_are_twice_as_wide()
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        using Checkpoint e = Checkpoint.Open(GoldenModels.Folder("tiny-e"));
        Assert.Equal([0, 1, 2, 3, 2, 2, 2, 3], e.Config.Layers.Select(l => l.KvSource));
        Assert.Equal([true, true, true, true, false, false, false, false], e.Config.Layers.Select(l => l.OwnsKv));
        Assert.Equal([128, 128, 128, 128, 256, 256, 256, 256], e.Config.Layers.Select(l => l.FeedForwardWidth));
        Assert.Equal((32, 4), (e.Config.PerLayerInputSize, e.Config.SharedKvLayers));
        Assert.DoesNotContain("blk.4.attn_k.weight", e.Tensors.Keys);
        Assert.Contains("blk.3.attn_v.weight", e.Tensors.Keys);
        Assert.Contains(e.StoredTensors, t => t.Name.EndsWith("layers.4.self_attn.k_proj.weight", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("tiny-e", "media-e", 258)]
    [InlineData("tiny-12b", "media-12b", 11)]
    public void A_multimodal_checkpoint_opens_as_its_text_model(string model, string media, int mediaTensors)
    {
        if (GoldenModels.IsLeftOut(model) || (!GoldenData.IsFull && !GoldenData.Has("media", media, "config.json"))) return;
        using TempFolder folder = new();
        folder.Write("config.json", File.ReadAllBytes(GoldenData.At("media", media, "config.json")));
        folder.Write("model-00001-of-00002.safetensors", File.ReadAllBytes(GoldenData.At(model, "hf", "model.safetensors")));
        folder.Write("model-00002-of-00002.safetensors", File.ReadAllBytes(GoldenData.At("media", media, "media.safetensors")));
        using Checkpoint text = Checkpoint.Open(GoldenModels.Folder(model)), whole = Checkpoint.Open(folder.Path);
        ConfigAssert.Equal(text.Config, whole.Config);
        Assert.Equal(text.Tensors.Keys.Order(), whole.Tensors.Keys.Order());
        Assert.Equal([$"{mediaTensors} tensors of the vision and audio encoders are not part of the text model"], whole.Notes);

        string mmproj = Directory.GetFiles(GoldenData.At("media", media), "mmproj-*.gguf").Single();
        Assert.Contains("mmproj", Assert.Throws<CheckpointException>(() => Checkpoint.Open(mmproj)).Message);
    }
}
