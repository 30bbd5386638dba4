using System.Text;
using static GemmaServer.GoldenTests.RandomModel;

namespace GemmaServer.GoldenTests;

/// <summary>A small GGUF writer, made from the format's description and not from the product's reader.</summary>
/// <param name="random">Decides between equal spellings.</param>
/// <param name="shape">The model.</param>
/// <param name="type">Of the matrices.</param>
/// <param name="mixed">Every matrix in a type of its own, as the k-quant mixtures do.</param>
internal sealed class RandomGguf(Random random, ReferenceShape shape, string type, bool mixed)
{
    private static readonly Dictionary<string, string> s_names = new()
    {
        ["embed_tokens.weight"] = "token_embd.weight",
        ["lm_head.weight"] = "output.weight",
        ["norm.weight"] = "output_norm.weight",
        ["embed_tokens_per_layer.weight"] = "per_layer_token_embd.weight",
        ["per_layer_model_projection.weight"] = "per_layer_model_proj.weight",
        ["per_layer_projection_norm.weight"] = "per_layer_proj_norm.weight",
        ["input_layernorm.weight"] = "attn_norm.weight",
        ["self_attn.q_proj.weight"] = "attn_q.weight",
        ["self_attn.k_proj.weight"] = "attn_k.weight",
        ["self_attn.v_proj.weight"] = "attn_v.weight",
        ["self_attn.q_norm.weight"] = "attn_q_norm.weight",
        ["self_attn.k_norm.weight"] = "attn_k_norm.weight",
        ["self_attn.o_proj.weight"] = "attn_output.weight",
        ["post_attention_layernorm.weight"] = "post_attention_norm.weight",
        ["pre_feedforward_layernorm.weight"] = "ffn_norm.weight",
        ["post_feedforward_layernorm.weight"] = "post_ffw_norm.weight",
        ["mlp.gate_proj.weight"] = "ffn_gate.weight",
        ["mlp.up_proj.weight"] = "ffn_up.weight",
        ["mlp.down_proj.weight"] = "ffn_down.weight",
        ["layer_scalar"] = "layer_output_scale.weight",
        ["per_layer_input_gate.weight"] = "inp_gate.weight",
        ["per_layer_projection.weight"] = "proj.weight",
        ["post_per_layer_input_norm.weight"] = "post_norm.weight",
        ["router.proj.weight"] = "ffn_gate_inp.weight",
        ["router.scale"] = "ffn_gate_inp.scale",
        ["router.per_expert_scale"] = "ffn_down_exps.scale",
        ["experts.gate_up_proj"] = "ffn_gate_up_exps.weight",
        ["experts.down_proj"] = "ffn_down_exps.weight",
        ["pre_feedforward_layernorm_2.weight"] = "pre_ffw_norm_2.weight",
        ["post_feedforward_layernorm_1.weight"] = "post_ffw_norm_1.weight",
        ["post_feedforward_layernorm_2.weight"] = "post_ffw_norm_2.weight",
    };

    private readonly List<(string Name, string Type, int[] Shape, byte[] Data)> _tensors = [];
    private readonly List<Action<BinaryWriter>> _metadata = [];
    private readonly bool _splitExperts = random.Next(2) == 0;

    /// <summary>Writes the file and leaves in the weights what it holds.</summary>
    public void Write(string path, List<(string Name, int[] Shape, double[] Values)> weights)
    {
        int alignment = Pick(random, 32, 64);
        AddMetadata(alignment);
        foreach ((string name, int[] size, double[] values) in weights) AddTensor(name, size, values);
        double[] divisors = [.. Enumerable.Range(0, shape.FullHeadDim / 2).Select(i => i < (int)Math.Floor(shape.RotaryFactor * shape.FullHeadDim / 2) ? 1.0 : 1e30)];
        _tensors.Add(("rope_freqs.weight", "F32", [divisors.Length], StoredFormat.Encode("F32", divisors)));

        using BinaryWriter writer = new(File.Create(path));
        writer.Write("GGUF"u8);
        writer.Write(3u);
        writer.Write((ulong)_tensors.Count);
        writer.Write((ulong)_metadata.Count);
        foreach (Action<BinaryWriter> write in _metadata) write(writer);
        ulong offset = 0;
        foreach ((string name, string stored, int[] size, byte[] data) in _tensors)
        {
            Text(writer, name);
            writer.Write((uint)size.Length);
            foreach (int d in size.Reverse()) writer.Write((ulong)d);
            writer.Write(StoredFormat.GgmlId(stored));
            writer.Write(offset);
            offset += (ulong)((data.Length + alignment - 1) / alignment * alignment);
        }
        foreach ((_, _, _, byte[] data) in _tensors)
        {
            Pad(writer, alignment);
            writer.Write(data);
        }
        Pad(writer, alignment);
    }

    private void AddTensor(string name, int[] size, double[] values)
    {
        string[] parts = name.Split('.', 3);
        string inBlock = parts[0] == "layers" ? parts[2] : name, blk = parts[0] == "layers" ? $"blk.{parts[1]}." : "";
        // Vectors and the router stay plain numbers in every file.
        string stored = size.Length == 1 || inBlock == "router.proj.weight" ? "F32"
            : StoredFormat.For(mixed ? Pick(random, "F32", "F16", "BF16", "Q8_0", "Q4_0") : type, size[^1]);
        byte[] data = StoredFormat.Encode(stored, values);
        if (inBlock != "experts.gate_up_proj" || !_splitExperts)
        {
            _tensors.Add((blk + s_names[inBlock], stored, size, data));
            return;
        }
        int expert = data.Length / size[0];
        byte[] Half(int which) => [.. Enumerable.Range(0, size[0]).SelectMany(e => data.AsSpan(e * expert + which * expert / 2, expert / 2).ToArray())];
        int[] half = [size[0], size[1] / 2, size[2]];
        _tensors.Add((blk + "ffn_gate_exps.weight", stored, half, Half(0)));
        _tensors.Add((blk + "ffn_up_exps.weight", stored, half, Half(1)));
    }

    private void AddMetadata(int alignment)
    {
        ReferenceShape s = shape;
        Add("general.architecture", 8, w => Text(w, "gemma4"));
        Add("general.alignment", 4, w => w.Write((uint)alignment));
        UInt("block_count", s.Layers);
        UInt("context_length", 4096);
        UInt("embedding_length", s.Hidden);
        UInt("attention.head_count", s.Heads);
        PerLayer("attention.head_count_kv", s.KvHeads);
        PerLayer("feed_forward_length", s.FeedForwardOf);
        UInt("attention.key_length", s.FullHeadDim);
        UInt("attention.value_length", s.FullHeadDim);
        UInt("attention.key_length_swa", s.SlidingHeadDim);
        UInt("attention.value_length_swa", s.SlidingHeadDim);
        UInt("attention.sliding_window", s.Window);
        Add("gemma4.attention.sliding_window_pattern", 9, w =>
        {
            w.Write(7u);
            w.Write((ulong)s.Layers);
            foreach (char c in s.Pattern) w.Write(c == 'S');
        });
        UInt("attention.shared_kv_layers", s.SharedLayers);
        Float("attention.layer_norm_rms_epsilon", 1e-6);
        Float("rope.freq_base", s.FullBase);
        Float("rope.freq_base_swa", s.SlidingBase);
        UInt("rope.dimension_count", s.FullHeadDim);
        UInt("rope.dimension_count_swa", s.SlidingHeadDim);
        Float("final_logit_softcapping", s.Softcap);
        if (s.PerLayerWidth > 0 || random.Next(2) == 0) UInt("embedding_length_per_layer_input", s.PerLayerWidth);
        if (s.Experts == 0) return;
        UInt("expert_count", s.Experts);
        UInt("expert_used_count", s.TopExperts);
        UInt("expert_feed_forward_length", s.ExpertWidth);
    }

    /// <summary>One number where all layers agree (or an array all the same), an i32 array where they do not.</summary>
    private void PerLayer(string key, Func<int, int> of)
    {
        int[] values = [.. Enumerable.Range(0, shape.Layers).Select(of)];
        if (values.All(v => v == values[0]) && random.Next(2) == 0)
        {
            UInt(key, values[0]);
            return;
        }
        Add("gemma4." + key, 9, w =>
        {
            w.Write(5u);
            w.Write((ulong)values.Length);
            foreach (int v in values) w.Write(v);
        });
    }

    private void UInt(string key, int value) => Add("gemma4." + key, 4, w => w.Write((uint)value));

    private void Float(string key, double value) => Add("gemma4." + key, 6, w => w.Write((float)value));

    private void Add(string key, uint valueType, Action<BinaryWriter> value) => _metadata.Add(w =>
    {
        Text(w, key);
        w.Write(valueType);
        value(w);
    });

    private static void Text(BinaryWriter writer, string text)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        writer.Write((ulong)utf8.Length);
        writer.Write(utf8);
    }

    private static void Pad(BinaryWriter writer, int alignment)
    {
        while (writer.BaseStream.Position % alignment != 0) writer.Write((byte)0);
    }
}
