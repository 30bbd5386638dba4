using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;
using static GemmaServer.GoldenTests.RandomModel;

namespace GemmaServer.GoldenTests;

/// <summary>A random model on disk, as a Hugging Face folder or a GGUF file, in one of the spellings met in practice.</summary>
internal sealed class RandomCheckpoint : IDisposable
{
    private static readonly string[] s_types = ["F32", "F16", "BF16", "Q8_0", "Q4_0"];

    private readonly string _folder = Directory.CreateTempSubdirectory("gemmaserver-shapes-").FullName;

    /// <summary>Even seeds write GGUF, odd ones Hugging Face folders.</summary>
    public RandomCheckpoint(int seed)
    {
        Random random = new(seed);
        bool gguf = seed % 2 == 0;
        string type = gguf ? s_types[seed / 2 % s_types.Length] : s_types[seed / 2 % 3];
        Shape = RandomModel.Shape(random, StoredFormat.IsQuantised(type));
        bool ownHead = Chance(random, 0.15);
        List<(string Name, int[] Shape, double[] Values)> weights = Weights(random, Shape, unusedKv: Chance(random, 0.5), ownHead);

        if (gguf)
        {
            Path = System.IO.Path.Combine(_folder, "model.gguf");
            IsQuantised = StoredFormat.IsQuantised(type);
            new RandomGguf(random, Shape, type, Chance(random, 0.3)).Write(Path, weights);
        }
        else
        {
            Path = _folder;
            WriteFolder(random, type, weights, ownHead);
        }
        Model = new ReferenceModel(Shape, weights.ToDictionary(w => w.Name, w => w.Values));
        Description = $"seed {seed}: {(gguf ? "GGUF" : "HF")} {type} {Shape}";
    }

    /// <summary>A model of a given shape as a Hugging Face folder.</summary>
    public RandomCheckpoint(Random random, ReferenceShape shape)
    {
        Shape = shape;
        List<(string Name, int[] Shape, double[] Values)> weights = Weights(random, Shape, unusedKv: false, ownHead: false);
        Path = _folder;
        WriteFolder(random, "F32", weights, ownHead: false);
        Model = new ReferenceModel(Shape, weights.ToDictionary(w => w.Name, w => w.Values));
        Description = $"HF F32 {Shape}";
    }

    public string Path { get; }

    public ReferenceShape Shape { get; }

    /// <summary>The model that the files hold, roundings included.</summary>
    public ReferenceModel Model { get; }

    public bool IsQuantised { get; }

    public string Description { get; }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void WriteFolder(Random random, string type, List<(string Name, int[] Shape, double[] Values)> weights, bool ownHead)
    {
        bool nested = Chance(random, 0.6);
        string prefix = nested ? Pick(random, "model.language_model.", "language_model.model.") : "model.";
        File.WriteAllText(System.IO.Path.Combine(_folder, "config.json"), Config(random, nested, ownHead).ToJsonString());

        string vectors = Chance(random, 0.3) ? "F32" : type;
        List<(string Name, string Type, int[] Shape, byte[] Data)> tensors = [.. weights.Select(w =>
        {
            string stored = w.Shape.Length == 1 ? vectors : type;
            return (w.Name.StartsWith("lm_head", StringComparison.Ordinal) ? w.Name : prefix + w.Name, stored, w.Shape, StoredFormat.Encode(stored, w.Values));
        })];
        if (nested) tensors.Add(("model.vision_tower.patch_embedder.weight", "F32", [2, 2], new byte[16]));
        // Exporters write the tied head a second time.
        if (!ownHead && Chance(random, 0.2)) tensors.Add(tensors.First(t => t.Name.EndsWith("embed_tokens.weight", StringComparison.Ordinal)) with { Name = "lm_head.weight" });

        int shards = Chance(random, 0.5) ? 1 : random.Next(2, 5);
        if (shards == 1)
        {
            WriteSafetensors(random, System.IO.Path.Combine(_folder, "model.safetensors"), tensors);
            return;
        }
        JsonObject map = [];
        for (int s = 0; s < shards; s++)
        {
            string file = $"model-{s + 1:D5}-of-{shards:D5}.safetensors";
            List<(string Name, string Type, int[] Shape, byte[] Data)> part = [.. tensors.Where((_, i) => i % shards == s)];
            WriteSafetensors(random, System.IO.Path.Combine(_folder, file), part);
            foreach ((string name, _, _, _) in part) map[name] = file;
        }
        JsonObject index = new() { ["metadata"] = new JsonObject { ["total_size"] = tensors.Sum(t => t.Data.Length) }, ["weight_map"] = map };
        File.WriteAllText(System.IO.Path.Combine(_folder, "model.safetensors.index.json"), index.ToJsonString());
    }

    internal static void WriteSafetensors(Random random, string file, List<(string Name, string Type, int[] Shape, byte[] Data)> tensors)
    {
        JsonObject header = new() { ["__metadata__"] = new JsonObject { ["format"] = "pt" } };
        int offset = 0;
        foreach ((string name, string type, int[] shape, byte[] data) in tensors)
        {
            header[name] = new JsonObject
            {
                ["dtype"] = type,
                ["shape"] = Array(shape),
                ["data_offsets"] = Array([offset, offset + data.Length]),
            };
            offset += data.Length;
        }
        // Some writers do not align the data, and nothing in the format says that they must.
        byte[] json = Encoding.UTF8.GetBytes(header.ToJsonString() + new string(' ', random.Next(8)));
        using FileStream stream = File.Create(file);
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        stream.Write(length);
        stream.Write(json);
        foreach ((_, _, _, byte[] data) in tensors) stream.Write(data);
    }

    private JsonObject Config(Random random, bool nested, bool ownHead)
    {
        ReferenceShape s = Shape;
        bool unified = s.PerLayerWidth == 0 && s.Experts == 0 && Chance(random, 0.5);
        string model = unified ? "gemma4_unified" : "gemma4";
        JsonObject text = new()
        {
            ["model_type"] = model + "_text",
            ["num_hidden_layers"] = s.Layers,
            ["num_attention_heads"] = s.Heads,
            ["attention_k_eq_v"] = s.ValueIsKey,
            ["final_logit_softcapping"] = s.Softcap == 0 ? null : s.Softcap,
            ["hidden_activation"] = "gelu_pytorch_tanh",
            ["layer_types"] = new JsonArray([.. s.Pattern.Select(c => (JsonNode)(c == 'S' ? "sliding_attention" : "full_attention"))]),
            ["max_position_embeddings"] = 4096,
            ["num_kv_shared_layers"] = s.SharedLayers,
            ["rms_norm_eps"] = 1e-6,
            ["rope_parameters"] = new JsonObject
            {
                ["full_attention"] = new JsonObject { ["partial_rotary_factor"] = s.RotaryFactor, ["rope_theta"] = s.FullBase, ["rope_type"] = "proportional" },
                ["sliding_attention"] = new JsonObject { ["rope_theta"] = s.SlidingBase, ["rope_type"] = "default" },
            },
            ["sliding_window"] = s.Window,
            ["use_bidirectional_attention"] = Chance(random, 0.5) ? "vision" : null,
            ["use_double_wide_mlp"] = s.DoubleWide,
            ["tie_word_embeddings"] = !ownHead,
        };
        AddHeads(random, text);
        if (!unified)
        {
            text["enable_moe_block"] = s.Experts > 0;
            text["num_experts"] = s.Experts > 0 ? s.Experts : null;
            text["top_k_experts"] = s.Experts > 0 ? s.TopExperts : null;
            text["moe_intermediate_size"] = s.Experts > 0 ? s.ExpertWidth : null;
        }
        // Keys that the tensors' shapes tell too; a file may leave them out.
        if (Chance(random, 0.8)) text["hidden_size"] = s.Hidden;
        if (Chance(random, 0.8)) text["vocab_size"] = s.Vocabulary;
        if (Chance(random, 0.8)) text["intermediate_size"] = s.FeedForward;
        if (!unified && Chance(random, 0.8)) text["hidden_size_per_layer_input"] = s.PerLayerWidth;
        if (nested) return new JsonObject { ["model_type"] = model, ["text_config"] = text, ["vision_config"] = null, ["eos_token_id"] = Array([1, 16]) };
        text["eos_token_id"] = 1;
        return text;
    }

    /// <summary>The "global" keys, or per_layer_config. Only the latter can say another number of KV heads beside a value projection.</summary>
    private void AddHeads(Random random, JsonObject text)
    {
        ReferenceShape s = Shape;
        text["head_dim"] = s.SlidingHeadDim;
        text["num_key_value_heads"] = s.SlidingKvHeads;
        if (Chance(random, 0.5) && (s.ValueIsKey || s.FullKvHeads == s.SlidingKvHeads))
        {
            text["global_head_dim"] = s.FullHeadDim;
            text["num_global_key_value_heads"] = s.ValueIsKey ? s.FullKvHeads : null;
            return;
        }
        JsonObject perLayer = [];
        for (int layer = 0; layer < s.Layers; layer++)
            if (!s.Slides(layer))
                perLayer[$"{layer}"] = new JsonObject { ["head_dim"] = s.FullHeadDim, ["num_key_value_heads"] = s.FullKvHeads };
        text["per_layer_config"] = perLayer;
    }

    private static JsonArray Array(int[] values) => new([.. values.Select(v => (JsonNode)v)]);
}
