using System.Text.Json.Nodes;
using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.Tests.Model;

/// <summary>Hugging Face folders: the spellings that exist, and what is refused with which words.</summary>
public sealed class CheckpointsHuggingFaceTests
{
    private static HfImage Image(string model) => HfImage.Read(GoldenModels.Folder(model));

    private static void OpensAsBefore(string model, HfImage image)
    {
        using TempFolder folder = new();
        using Checkpoint before = Checkpoint.Open(GoldenModels.Folder(model)), after = image.Open(folder);
        ConfigAssert.Equal(before.Config, after.Config);
        Assert.Equal(before.Tensors.Keys.Order(), after.Tensors.Keys.Order());
        Assert.All(before.Tensors, t => Assert.Equal((t.Value.Rows, t.Value.Columns), (after.Tensors[t.Key].Rows, after.Tensors[t.Key].Columns)));
    }

    [Theory, MemberData(nameof(CheckpointsGoldenTests.Models), MemberType = typeof(CheckpointsGoldenTests))]
    public void The_per_layer_config_spelling_says_the_same(string model)
    {
        HfImage image = Image(model);
        JsonObject text = image.Text, perLayer = [];
        JsonNode heads = text["num_global_key_value_heads"] ?? text["num_key_value_heads"]!;
        for (int i = 0; i < text["layer_types"]!.AsArray().Count; i++)
            if ((string)text["layer_types"]![i]! == "full_attention")
                perLayer[i.ToString()] = new JsonObject { ["head_dim"] = text["global_head_dim"]!.DeepClone(), ["num_key_value_heads"] = heads.DeepClone() };
        text.Remove("global_head_dim");
        text.Remove("num_global_key_value_heads");
        text["per_layer_config"] = perLayer;
        OpensAsBefore(model, image);
    }

    [Theory, MemberData(nameof(CheckpointsGoldenTests.Models), MemberType = typeof(CheckpointsGoldenTests))]
    public void A_text_only_export_says_the_same(string model)
    {
        HfImage nested = Image(model);
        HfImage flat = HfImage.Read(GoldenModels.Folder(model));
        JsonObject text = (JsonObject)nested.Text.DeepClone();
        flat.Config.Clear();
        foreach ((string name, JsonNode? value) in text) flat.Config[name] = value?.DeepClone();
        flat.Rename(n => n.Replace("model.language_model.", "model."));
        OpensAsBefore(model, flat);
        flat.Rename(n => "language_model." + n);
        OpensAsBefore(model, flat);
    }

    [Theory, MemberData(nameof(CheckpointsGoldenTests.Models), MemberType = typeof(CheckpointsGoldenTests))]
    public void Keys_that_an_exporter_left_out_are_read_off_the_tensors(string model)
    {
        HfImage image = Image(model);
        foreach (string key in (string[])["hidden_size", "head_dim", "global_head_dim", "num_key_value_heads", "num_global_key_value_heads",
            "intermediate_size", "use_double_wide_mlp", "hidden_size_per_layer_input", "attention_k_eq_v", "vocab_size", "num_attention_heads",
            "num_hidden_layers", "rope_parameters", "rms_norm_eps", "final_logit_softcapping", "num_experts", "enable_moe_block", "moe_intermediate_size",
            "expert_intermediate_size", "attention_bias", "tie_word_embeddings"])
            image.Text.Remove(key);
        OpensAsBefore(model, image);
    }

    [Fact]
    public void Without_layer_types_every_sixth_layer_is_global()
    {
        if (GoldenModels.IsLeftOut("tiny-12b")) return;
        HfImage image = Image("tiny-12b"); // S S S S S F
        image.Text.Remove("layer_types");
        OpensAsBefore("tiny-12b", image);
    }

    [Fact]
    public void Defaults_ids_and_tokenizer_come_from_the_files_beside_the_weights()
    {
        if (GoldenModels.IsLeftOut("tiny-12b")) return;
        using Checkpoint checkpoint = Checkpoint.Open(GoldenModels.Folder("tiny-12b"));
        GenerationDefaults g = checkpoint.Generation;
        Assert.Equal((1f, 64, 0.95f), (g.Temperature, g.TopK, g.TopP));
        Assert.Equal([1, 9, 16], g.EosTokenIds); // config.json names 1 and 16, generation_config.json 9 as well.
        Assert.Equal([24, 25, 26, 27, 28, 29, 30], g.SuppressTokens);
        Assert.EndsWith("tokenizer.json", checkpoint.Vocabulary.TokenizerJsonPath);
        Assert.EndsWith("tokenizer_config.json", checkpoint.Vocabulary.TokenizerConfigPath);
        Assert.Equal(File.ReadAllText(Path.Combine(GoldenModels.Folder("tiny-12b"), "chat_template.jinja")), checkpoint.ChatTemplate);
    }

    [Theory]
    [InlineData("""{"chat_template": "plain"}""", "plain")]
    [InlineData("""{"chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "named"}]}""", "named")]
    [InlineData("""{"chat_template": null}""", null)]
    public void The_older_places_of_a_chat_template_are_read(string tokenizerConfig, string? expected)
    {
        if (GoldenModels.IsLeftOut("tiny-12b")) return;
        HfImage image = Image("tiny-12b");
        image.Files.Remove("chat_template.jinja");
        image.Files["tokenizer_config.json"] = System.Text.Encoding.UTF8.GetBytes(tokenizerConfig);
        using TempFolder folder = new();
        using Checkpoint checkpoint = image.Open(folder);
        Assert.Equal(expected, checkpoint.ChatTemplate);
    }

    [Fact]
    public void Early_names_of_the_experts_are_taken()
    {
        if (GoldenModels.IsLeftOut("tiny-moe")) return;
        HfImage image = Image("tiny-moe");
        image.Rename(n => n.Replace(".experts.", ".moe.").Replace(".router.per_expert_scale", ".moe.per_expert_scale"));
        OpensAsBefore("tiny-moe", image);
    }

    [Fact]
    public void Experts_in_tensors_of_their_own_are_refused_by_name()
    {
        if (GoldenModels.IsLeftOut("tiny-moe")) return;
        HfImage image = Image("tiny-moe");
        image.Tensors.Add(("model.language_model.layers.0.experts.3.gate_proj.weight", "BF16", [32, 256], new byte[32 * 256 * 2]));
        CheckpointException e = image.Refused();
        Assert.Equal("model.language_model.layers.0.experts.3.gate_proj.weight", e.Subject);
    }

    [Fact]
    public void Encoders_are_left_out_whatever_their_type()
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        HfImage image = Image("tiny-e");
        image.Tensors.Add(("model.vision_tower.encoder.layers.0.q.weight", "F8_E4M3", [4, 4], new byte[16]));
        image.Tensors.Add(("model.embed_audio.embedding_projection.weight", "I64", [1], new byte[8]));
        using TempFolder folder = new();
        using Checkpoint checkpoint = image.Open(folder);
        Assert.Contains(checkpoint.Notes, n => n.StartsWith("2 tensors of the vision and audio encoders", StringComparison.Ordinal));
    }

    [Fact]
    public void A_tied_head_is_dropped_and_another_one_used()
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        HfImage image = Image("tiny-e");
        var embedding = image.Tensors[image.Find("embed_tokens.weight")];
        image.Tensors.Add(embedding with { Name = "lm_head.weight" });
        OpensAsBefore("tiny-e", image);

        byte[] other = [.. embedding.Data];
        other[5] ^= 4;
        image.Tensors[^1] = image.Tensors[^1] with { Data = other };
        using TempFolder folder = new();
        using Checkpoint checkpoint = image.Open(folder);
        Assert.Equal((512L, 128), (checkpoint.Tensors["output.weight"].Rows, checkpoint.Tensors["output.weight"].Columns));
        Assert.Contains(checkpoint.Notes, n => n.Contains("lm_head.weight differs", StringComparison.Ordinal));
    }

    [Fact]
    public void Shards_are_read_with_and_without_an_index()
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        HfImage image = Image("tiny-e");
        using TempFolder folder = new();
        image.WriteTo(folder, tensors: false);
        JsonObject map = [];
        for (int s = 1; s <= 2; s++)
        {
            string file = $"model-0000{s}-of-00002.safetensors";
            var part = image.Tensors.Where((_, i) => i % 2 == s - 1).ToList();
            folder.Write(file, HfImage.Safetensors(part));
            foreach (var tensor in part) map[tensor.Name] = file;
        }
        using (Checkpoint bare = Checkpoint.Open(folder.Path)) Assert.Contains("blk.7.proj.weight", bare.Tensors.Keys);
        void WriteIndex() => folder.Write("model.safetensors.index.json", System.Text.Encoding.UTF8.GetBytes(new JsonObject { ["weight_map"] = map.DeepClone() }.ToJsonString()));
        WriteIndex();
        using (Checkpoint indexed = Checkpoint.Open(folder.Path)) Assert.Contains("blk.7.proj.weight", indexed.Tensors.Keys);

        string first = image.Tensors[0].Name;
        foreach (string bad in (string[])["../model-00001-of-00002.safetensors", "/etc/passwd", "..", "a\\b.safetensors", "model.bin", "none.safetensors"])
        {
            map[first] = bad;
            WriteIndex();
            Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder.Path));
        }
        map[first] = "model-00002-of-00002.safetensors"; // It is in the first.
        WriteIndex();
        CheckpointException e = Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder.Path));
        Assert.Equal(first, e.Subject);
        Assert.Contains("index says", e.Message);
    }

    [Fact]
    public void The_same_tensor_under_two_prefixes_or_in_two_files_is_refused()
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        HfImage image = Image("tiny-e");
        image.Tensors.Add(image.Tensors[^1] with { Name = image.Tensors[^1].Name.Replace("model.language_model.", "model.") });
        Assert.Contains("twice", image.Refused().Message);
    }

    [Theory]
    [InlineData("F8_E4M3", 1)]
    [InlineData("I32", 4)]
    [InlineData("F64", 8)]
    public void Other_number_types_are_refused_by_name(string dtype, int bytes)
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        HfImage image = Image("tiny-e");
        int at = image.Find("layers.2.mlp.up_proj.weight");
        var tensor = image.Tensors[at];
        image.Tensors[at] = tensor with { Dtype = dtype, Data = new byte[tensor.Data.Length / 2 * bytes] };
        CheckpointException e = image.Refused();
        Assert.Equal(tensor.Name, e.Subject);
        Assert.Contains(dtype, e.Message);
        Assert.Contains("F32, F16, BF16", e.Message);
    }

    [Fact]
    public void F32_and_F16_weights_open()
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        HfImage image = Image("tiny-e");
        for (int i = 0; i < image.Tensors.Count; i++)
        {
            var t = image.Tensors[i];
            if (i % 2 == 0) image.Tensors[i] = t with { Dtype = "F32", Data = new byte[t.Data.Length * 2] };
            else image.Tensors[i] = t with { Dtype = "F16", Data = new byte[t.Data.Length] };
        }
        using TempFolder folder = new();
        using Checkpoint checkpoint = image.Open(folder);
        Assert.Equal([TensorType.F32, TensorType.F16], checkpoint.Tensors.Values.Select(t => t.Type).Distinct().Order());
    }

    [Fact]
    public void Refused_are_settings_that_do_not_fit_by_field()
    {
        if (GoldenModels.IsLeftOut("tiny-12b") || GoldenModels.IsLeftOut("tiny-e") || GoldenModels.IsLeftOut("tiny-moe")) return;
        void Check(string subject, Action<HfImage> change, string model = "tiny-12b")
        {
            HfImage image = Image(model);
            change(image);
            CheckpointException e = image.Refused();
            Assert.Contains(subject, e.Subject);
        }

        Check("model_type", i => i.Config["model_type"] = "gemma3");
        Check("text_config.model_type", i => i.Text["model_type"] = "llama");
        Check("model_type", i => i.Config["model_type"] = 3);
        Check("quantization_config.quant_method", i => i.Config["quantization_config"] = new JsonObject { ["quant_method"] = "compressed-tensors" });
        Check("text_config.quantization_config.quant_method", i => i.Text["quantization_config"] = new JsonObject());
        Check("text_config.use_bidirectional_attention", i => i.Text["use_bidirectional_attention"] = "all");
        Check("text_config.hidden_activation", i => i.Text["hidden_activation"] = "silu");
        Check("text_config.attention_bias", i => i.Text["attention_bias"] = true);
        Check("text_config.layer_types", i => i.Text["layer_types"]!.AsArray().RemoveAt(0));
        Check("text_config.layer_types", i => i.Text["layer_types"]![0] = "linear_attention");
        Check("text_config.num_hidden_layers", i => i.Text["num_hidden_layers"] = 0);
        Check("text_config.num_hidden_layers", i => i.Text["num_hidden_layers"] = 1_000_000_000);
        Check("text_config.num_hidden_layers", i => i.Text["num_hidden_layers"] = "six");
        Check("text_config.hidden_size", i => i.Text["hidden_size"] = 256.5);
        Check("token_embd.weight", i => { i.Tensors.RemoveAt(i.Find("embed_tokens.weight")); });
        Check("embed_tokens.weight", i => i.Text["hidden_size"] = 256);
        Check("embed_tokens.weight", i => i.Text["vocab_size"] = 511);
        Check("vocabulary size", i => i.Text["vocab_size"] = -1);
        Check("sliding window", i => i.Text["sliding_window"] = 0);
        Check("head count", i => i.Text["num_attention_heads"] = 0);
        Check("KV heads of layer 0", i => i.Text["num_key_value_heads"] = 3);
        Check("head size of layer 0", i => i.Text["head_dim"] = 31);
        Check("text_config.rms_norm_eps", i => i.Text["rms_norm_eps"] = JsonNode.Parse("1e999"));
        Check("text_config.rope_parameters.full_attention.rope_type", i => i.Text["rope_parameters"]!["full_attention"]!["rope_type"] = "yarn");
        Check("text_config.rope_parameters.full_attention.rope_type", i => i.Text["rope_parameters"]!["full_attention"]!["rope_type"] = "default");
        Check("text_config.rope_parameters.sliding_attention.rope_type", i => i.Text["rope_parameters"]!["sliding_attention"]!["rope_type"] = "linear");
        Check("partial rotary factor", i => i.Text["rope_parameters"]!["full_attention"]!["partial_rotary_factor"] = 1.5);
        Check("text_config.per_layer_config.6", i => i.Text["per_layer_config"] = new JsonObject { ["6"] = new JsonObject() });
        // Values are said to be keys, or not to be, and the tensors show the opposite.
        Check("layers.5.self_attn.k_proj.weight", i => i.Text["attention_k_eq_v"] = false); // The global KV heads hold only where values are keys.
        Check("blk.5.attn_v.weight", i =>
        {
            i.Text["attention_k_eq_v"] = false;
            i.Text["per_layer_config"] = JsonNode.Parse("""{"5": {"num_key_value_heads": 1}}""");
        });
        Check("v_proj.weight", i => i.Text["attention_k_eq_v"] = true, "tiny-e");
        Check("eos_token_id", i => i.Config["eos_token_id"] = 512);
        Check("suppress_tokens", i => i.Files["generation_config.json"] = """{"suppress_tokens": [-1]}"""u8.ToArray());
        Check("temperature", i => i.Files["generation_config.json"] = """{"temperature": "hot"}"""u8.ToArray());
        Check("experts used", i => i.Text["top_k_experts"] = 9, "tiny-moe");
        Check("experts used", i => i.Text.Remove("top_k_experts"), "tiny-moe");
        Check("shared KV layers", i => i.Text["num_kv_shared_layers"] = 8, "tiny-e");
        Check("shared KV layers", i => i.Text["num_kv_shared_layers"] = 5, "tiny-e"); // No global layer would be left to borrow from.
        Check("layers.4.mlp.gate_proj.weight", i => i.Text["use_double_wide_mlp"] = false, "tiny-e");
    }

    [Fact]
    public void A_folder_that_is_incomplete_is_refused_in_words()
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        using TempFolder folder = new();
        HfImage image = Image("tiny-e");
        image.WriteTo(folder, tensors: false);
        Assert.Contains("found none", Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder.Path)).Message);
        folder.Write("config.json", "{ \"model_type\": \"gemma4\", \"model_type\": \"gemma4\" }"u8.ToArray());
        Assert.Contains("not valid JSON", Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder.Path)).Message);
        folder.Write("config.json", "[1]"u8.ToArray());
        Assert.Contains("object", Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder.Path)).Message);
    }
}
