using System.Globalization;

namespace GemmaServer.Model;

/// <summary>What a tensor of a Hugging Face checkpoint is to the text model.</summary>
internal enum TensorRole
{
    /// <summary>Part of the text model.</summary>
    Text,

    /// <summary>Part of the vision or audio encoders.</summary>
    Media,

    /// <summary>One expert's matrix in a tensor of its own, which cannot be used where it lies.</summary>
    SplitExpert,

    /// <summary>Nothing we know.</summary>
    Unknown,
}

/// <summary>Translates the tensor names of Hugging Face checkpoints into GGUF's.</summary>
/// <remarks>Source: huggingface/transformers, <c>models/gemma4/modeling_gemma4.py</c>; llama.cpp, <c>gguf-py/gguf/tensor_mapping.py</c>.</remarks>
internal static class HuggingFaceNames
{
    /// <summary>Official multimodal files, MLX tools, text-only exports. The longest that fits is taken off.</summary>
    private static readonly string[] s_prefixes = ["model.language_model.", "language_model.model.", "language_model.", "model."];

    private static readonly string[] s_mediaParts =
        ["vision_tower.", "vision_model.", "vision_embedder.", "embed_vision.", "audio_tower.", "audio_model.", "audio_embedder.", "embed_audio.", "multi_modal_projector."];

    private const string TokenOrdering = "masked_embedding.token_ordering";

    private static readonly Dictionary<string, string> s_global = new()
    {
        ["embed_tokens.weight"] = "token_embd.weight",
        ["norm.weight"] = "output_norm.weight",
        ["lm_head.weight"] = "output.weight",
        ["embed_tokens_per_layer.weight"] = "per_layer_token_embd.weight",
        ["per_layer_model_projection.weight"] = "per_layer_model_proj.weight",
        ["per_layer_projection_norm.weight"] = "per_layer_proj_norm.weight",
        // Drafters.
        ["pre_projection.weight"] = "nextn.pre_projection.weight",
        ["post_projection.weight"] = "nextn.post_projection.weight",
        ["masked_embedding.centroids.weight"] = "masked_embd_centroids.weight",
        [TokenOrdering] = "masked_embd_ordering",
    };

    private static readonly Dictionary<string, string> s_layer = new()
    {
        ["input_layernorm.weight"] = "attn_norm.weight",
        ["self_attn.q_proj.weight"] = "attn_q.weight",
        ["self_attn.k_proj.weight"] = "attn_k.weight",
        ["self_attn.v_proj.weight"] = "attn_v.weight",
        ["self_attn.o_proj.weight"] = "attn_output.weight",
        ["self_attn.q_norm.weight"] = "attn_q_norm.weight",
        ["self_attn.k_norm.weight"] = "attn_k_norm.weight",
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
        // Early 26B files.
        ["moe.gate_up_proj"] = "ffn_gate_up_exps.weight",
        ["moe.down_proj"] = "ffn_down_exps.weight",
        ["moe.per_expert_scale"] = "ffn_down_exps.scale",
        ["pre_feedforward_layernorm_2.weight"] = "pre_ffw_norm_2.weight",
        ["post_feedforward_layernorm_1.weight"] = "post_ffw_norm_1.weight",
        ["post_feedforward_layernorm_2.weight"] = "post_ffw_norm_2.weight",
    };

    /// <summary>What the tensor is, and its canonical name when it is part of the text model.</summary>
    public static TensorRole Classify(string name, out string canonical)
    {
        canonical = "";
        string inner = WithoutPrefix(name);
        if (s_mediaParts.Any(part => inner.StartsWith(part, StringComparison.Ordinal))) return TensorRole.Media;
        if (s_global.TryGetValue(inner, out string? global))
        {
            canonical = global;
            return TensorRole.Text;
        }
        if (!SplitLayer(inner, out int layer, out string rest)) return TensorRole.Unknown;
        if (s_layer.TryGetValue(rest, out string? suffix))
        {
            canonical = $"blk.{layer}.{suffix}";
            return TensorRole.Text;
        }
        return IsSplitExpert(rest) ? TensorRole.SplitExpert : TensorRole.Unknown;
    }

    /// <summary>Whether the tensor is a list of token ids and no weight.</summary>
    public static bool HoldsIntegers(string name) => WithoutPrefix(name) == TokenOrdering;

    private static string WithoutPrefix(string name)
    {
        foreach (string prefix in s_prefixes)
            if (name.StartsWith(prefix, StringComparison.Ordinal)) return name[prefix.Length..];
        return name;
    }

    private static bool SplitLayer(string inner, out int layer, out string rest)
    {
        const string start = "layers.";
        layer = 0;
        rest = "";
        if (!inner.StartsWith(start, StringComparison.Ordinal)) return false;
        int dot = inner.IndexOf('.', start.Length);
        if (dot < 0) return false;
        rest = inner[(dot + 1)..];
        return int.TryParse(inner.AsSpan(start.Length, dot - start.Length), NumberStyles.None, CultureInfo.InvariantCulture, out layer);
    }

    /// <summary>experts.17.gate_proj.weight, with or without moe. in front.</summary>
    private static bool IsSplitExpert(string rest)
    {
        const string marker = "experts.";
        int at = rest.IndexOf(marker, StringComparison.Ordinal);
        return at >= 0 && rest.Length > at + marker.Length && char.IsAsciiDigit(rest[at + marker.Length]);
    }
}
