using System.Globalization;

namespace GemmaServer.Model;

/// <summary>Reads the hyper-parameters of a config.json, in the spellings of transformers before and after per_layer_config.</summary>
/// <remarks>Source: huggingface/transformers, <c>models/gemma4/configuration_gemma4.py</c> and <c>models/gemma4_unified</c>.</remarks>
internal static class HuggingFaceConfigReader
{
    /// <param name="root">The file.</param>
    /// <param name="layersInFile">Layers that the tensors show, for a config that leaves the number out.</param>
    /// <param name="notes">Receives what was assumed.</param>
    /// <param name="kind">What is asked for.</param>
    /// <exception cref="CheckpointException">Another model, or a setting that is not implemented.</exception>
    public static ConfigFacts Read(JsonFields root, int layersInFile, List<string> notes, CheckpointKind kind = CheckpointKind.Model)
    {
        JsonFields text = FindTextConfig(root, kind, out bool isDrafter);
        RefuseUnsupported(root, text);

        int layers = text.Int("num_hidden_layers") ?? (layersInFile > 0 ? layersInFile : 30);
        if (layers is < 1 or > 1000) throw text.Problem("num_hidden_layers", $"expected 1 … 1000, found {layers}");
        bool[] sliding = ReadLayerTypes(text, layers);
        bool? valueIsKey = text.Flag("attention_k_eq_v");
        (int?[] dims, int?[] kvHeads) = ReadHeads(text, sliding, valueIsKey);
        bool? experts = text.Flag("enable_moe_block");
        JsonFields? rope = text.Object("rope_parameters");
        float? cap = text.Real("final_logit_softcapping");
        if (!isDrafter && cap is null && text.Has("final_logit_softcapping"))
        {
            notes.Add("config.json says that logits are not soft-capped (final_logit_softcapping is null); released models cap at 30");
            cap = 0;
        }

        return new ConfigFacts
        {
            File = root.File,
            Drafter = isDrafter ? new DrafterFacts(root.Int("backbone_hidden_size"), root.Flag("use_ordered_embeddings"), root.Int("centroid_intermediate_top_k")) : null,
            LayerCount = layers,
            HiddenSize = text.Int("hidden_size"),
            HeadCount = text.Int("num_attention_heads"),
            VocabularySize = text.Int("vocab_size"),
            ContextLength = text.Int("max_position_embeddings"),
            SlidingWindow = text.Int("sliding_window"),
            PerLayerInputSize = text.Int("hidden_size_per_layer_input"),
            SharedKvLayers = text.Int("num_kv_shared_layers"),
            RmsEpsilon = text.Real("rms_norm_eps"),
            LogitSoftcap = cap,
            RopeBaseSliding = ReadSlidingRope(rope),
            RopeBaseGlobal = rope?.Object("full_attention")?.Real("rope_theta"),
            PartialRotaryFactor = ReadRotaryFactor(rope),
            ExpertCount = experts == false ? 0 : text.Int("num_experts"),
            ExpertsUsed = text.Int("top_k_experts"),
            ExpertWidth = text.Int("moe_intermediate_size") ?? text.Int("expert_intermediate_size"),
            ValueIsKeyOnGlobal = valueIsKey,
            IsSliding = sliding,
            HeadDim = dims,
            KvHeadCount = kvHeads,
            FeedForwardWidth = ReadFeedForward(text, layers),
        };
    }

    private static JsonFields FindTextConfig(JsonFields root, CheckpointKind kind, out bool isDrafter)
    {
        string? type = root.Text("model_type");
        isDrafter = type is "gemma4_assistant" or "gemma4_unified_assistant";
        if (isDrafter && kind == CheckpointKind.Model)
            throw root.Problem("model_type",
                $"'{type}' is a drafter (multi-token prediction) for a Gemma 4 model; it cannot be served by itself: name the model with --model and this with --speculative-model");
        if (!isDrafter && type is not ("gemma4" or "gemma4_text" or "gemma4_unified" or "gemma4_unified_text"))
            throw root.Problem("model_type", $"expected 'gemma4', 'gemma4_unified' or their '_text' forms, found '{type}': only Gemma 4 models can be served");
        if (!isDrafter && kind == CheckpointKind.Drafter)
            throw root.Problem("model_type", $"expected a drafter ('gemma4_assistant' or 'gemma4_unified_assistant'), found '{type}': this is a whole model, for --model");
        if (root.Object("text_config") is not JsonFields text) return root;
        if (text.Text("model_type") is string inner && inner is not ("gemma4_text" or "gemma4_unified_text"))
            throw text.Problem("model_type", $"expected 'gemma4_text' or 'gemma4_unified_text', found '{inner}'");
        return text;
    }

    private static void RefuseUnsupported(JsonFields root, JsonFields text)
    {
        foreach (JsonFields place in (JsonFields[])[root, text])
            if (place.Object("quantization_config") is JsonFields quantization)
                throw quantization.Problem("quant_method",
                    $"weights quantised with '{(quantization.IsText("quant_method") ? quantization.Text("quant_method") : "?")}' cannot be loaded; supported in safetensors are F32, F16, BF16 (quantised models: as GGUF)");
        if (text.Text("use_bidirectional_attention") is "all")
            throw text.Problem("use_bidirectional_attention", "expected null or 'vision', found 'all': encoder-style attention is not implemented");
        if (text.Flag("attention_bias") == true) throw text.Problem("attention_bias", "expected false, found true");
        if (text.Text("hidden_activation") is string activation and not "gelu_pytorch_tanh")
            throw text.Problem("hidden_activation", $"expected 'gelu_pytorch_tanh', found '{activation}'");
    }

    private static bool[] ReadLayerTypes(JsonFields text, int layers)
    {
        string[]? types = text.Texts("layer_types");
        if (types is null) return [.. Enumerable.Range(0, layers).Select(i => i % 6 != 5 && i != layers - 1)];
        if (types.Length != layers) throw text.Problem("layer_types", $"expected {layers} elements, one per layer; found {types.Length}");
        return [.. types.Select(t => t switch
        {
            "sliding_attention" => true,
            "full_attention" => false,
            _ => throw text.Problem("layer_types", $"expected 'sliding_attention' or 'full_attention', found '{t}'"),
        })];
    }

    /// <summary>Head sizes and KV heads by layer: the base values, then the "global" keys, then per_layer_config.</summary>
    private static (int?[] Dims, int?[] KvHeads) ReadHeads(JsonFields text, bool[] sliding, bool? valueIsKey)
    {
        int? dim = text.Int("head_dim"), globalDim = text.Int("global_head_dim");
        int? kv = text.Int("num_key_value_heads"), globalKv = text.Int("num_global_key_value_heads");
        JsonFields? perLayer = text.Object("per_layer_config");
        int?[] dims = new int?[sliding.Length], kvHeads = new int?[sliding.Length];
        for (int i = 0; i < sliding.Length; i++)
        {
            // With per_layer_config the base value holds wherever nothing overrides it.
            dims[i] = sliding[i] || (perLayer is not null && globalDim is null) ? dim : globalDim;
            // transformers looks at the global number only where values are keys.
            kvHeads[i] = !sliding[i] && valueIsKey != false ? globalKv ?? kv : kv;
        }
        if (perLayer is not JsonFields overrides) return (dims, kvHeads);
        foreach ((string key, JsonFields entry) in overrides.ObjectMembers())
        {
            if (!int.TryParse(key, NumberStyles.None, CultureInfo.InvariantCulture, out int layer) || layer >= sliding.Length)
                throw overrides.Problem(key, $"expected a layer index below {sliding.Length}");
            dims[layer] = entry.Int("head_dim") ?? dims[layer];
            kvHeads[layer] = entry.Int("num_key_value_heads") ?? kvHeads[layer];
        }
        return (dims, kvHeads);
    }

    private static int?[] ReadFeedForward(JsonFields text, int layers)
    {
        int? width = text.Int("intermediate_size");
        bool? doubled = text.Flag("use_double_wide_mlp");
        int first = layers - Math.Clamp(text.Int("num_kv_shared_layers") ?? 0, 0, layers);
        int?[] widths = new int?[layers];
        for (int i = 0; i < layers; i++)
        {
            // Where the flag is left out the tensors tell whether the shared layers are twice as wide.
            widths[i] = i < first || doubled == false ? width : doubled == true && width <= int.MaxValue / 2 ? width * 2 : null;
        }
        return widths;
    }

    private static float? ReadSlidingRope(JsonFields? rope)
    {
        if (rope?.Object("sliding_attention") is not JsonFields sliding) return null;
        if (sliding.Text("rope_type") is string type and not "default")
            throw sliding.Problem("rope_type", $"expected 'default', found '{type}'");
        if (sliding.Real("partial_rotary_factor") is float factor and not 1f)
            throw sliding.Problem("partial_rotary_factor", $"expected 1, found {factor}");
        return sliding.Real("rope_theta");
    }

    private static float? ReadRotaryFactor(JsonFields? rope)
    {
        if (rope?.Object("full_attention") is not JsonFields full) return null;
        float? factor = full.Real("partial_rotary_factor");
        string? type = full.Text("rope_type");
        // "default" with a factor would be ordinary partial rotary: other pairs, other exponents.
        if (type == "default" && factor is null or 1f) return 1f;
        if (type is not (null or "proportional")) throw full.Problem("rope_type", $"expected 'proportional', found '{type}'");
        return factor;
    }
}
