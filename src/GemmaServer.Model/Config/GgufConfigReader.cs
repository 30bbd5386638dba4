namespace GemmaServer.Model;

/// <summary>Reads the hyper-parameters of a GGUF file of architecture gemma4, or of a drafter.</summary>
/// <remarks>Source of the keys: llama.cpp, <c>src/models/gemma4.cpp</c> and <c>conversion/gemma.py</c>.</remarks>
internal static class GgufConfigReader
{
    private const int Max = int.MaxValue;

    public static ConfigFacts Read(GgufMetadata m, CheckpointKind kind)
    {
        string p = ArchitectureOf(m, kind, out bool isDrafter);
        int layers = Required(m, p + ".block_count", 1, 1000);
        bool[] sliding = ReadPattern(m, p, layers, isDrafter);
        int? dimSliding = m.Int(p + ".attention.key_length_swa", 1, 65_536);
        int? dimGlobal = m.Int(p + ".attention.key_length", 1, 65_536);
        RequireSame(m, p + ".attention.value_length_swa", dimSliding);
        RequireSame(m, p + ".attention.value_length", dimGlobal);
        RequireSame(m, p + ".rope.dimension_count_swa", dimSliding);
        RequireSame(m, p + ".rope.dimension_count", dimGlobal);

        return new ConfigFacts
        {
            File = m.File,
            Drafter = isDrafter ? ReadDrafter(m, p) : null,
            LayerCount = layers,
            HiddenSize = Required(m, p + ".embedding_length", 1, Max),
            HeadCount = ReadHeads(m, p, layers),
            ContextLength = Required(m, p + ".context_length", 1, Max),
            SlidingWindow = Required(m, p + ".attention.sliding_window", 0, Max),
            PerLayerInputSize = m.Int(p + ".embedding_length_per_layer_input", 0, Max),
            SharedKvLayers = m.Int(p + ".attention.shared_kv_layers", 0, Max),
            RmsEpsilon = m.Real(p + ".attention.layer_norm_rms_epsilon"),
            LogitSoftcap = m.Real(p + ".final_logit_softcapping"),
            RopeBaseGlobal = m.Real(p + ".rope.freq_base"),
            RopeBaseSliding = m.Real(p + ".rope.freq_base_swa"),
            ExpertCount = m.Int(p + ".expert_count", 0, Max),
            ExpertsUsed = m.Int(p + ".expert_used_count", 0, Max),
            ExpertWidth = m.Int(p + ".expert_feed_forward_length", 0, Max),
            IsSliding = sliding,
            HeadDim = [.. sliding.Select(s => s ? dimSliding : dimGlobal)],
            KvHeadCount = Nullable(m.PerLayer(p + ".attention.head_count_kv", layers, 1, Max), layers),
            FeedForwardWidth = Nullable(m.PerLayer(p + ".feed_forward_length", layers, 1, Max), layers),
        };
    }

    /// <summary>The architecture, which is also the prefix of its keys.</summary>
    private static string ArchitectureOf(GgufMetadata m, CheckpointKind kind, out bool isDrafter)
    {
        const string key = "general.architecture";
        string architecture = m.Text(key) ?? throw new CheckpointException(m.File, key, "expected 'gemma4', found no such key");
        isDrafter = architecture is "gemma4-assistant" or "gemma4_mtp" || m.Has("gemma4.assistant.type");
        if (isDrafter && kind == CheckpointKind.Model)
            throw new CheckpointException(m.File, key,
                $"'{architecture}' is a drafter (multi-token prediction) for a Gemma 4 model; it cannot be served by itself: name the model with --model and this with --speculative-model");
        if (architecture == "clip")
            throw new CheckpointException(m.File, key, "expected 'gemma4', found 'clip': this is a vision or audio encoder (mmproj), not a text model");
        if (architecture != "gemma4" && !isDrafter)
            throw new CheckpointException(m.File, key, $"expected 'gemma4', found '{architecture}': only Gemma 4 models can be served");
        if (!isDrafter && kind == CheckpointKind.Drafter)
            throw new CheckpointException(m.File, key, $"expected a drafter ('gemma4-assistant'), found '{architecture}': this is a whole model, for --model");
        if (m.Text(architecture + ".rope.scaling.type") is string scaling and not "none")
            throw new CheckpointException(m.File, architecture + ".rope.scaling.type", $"expected none, found '{scaling}'");
        return architecture;
    }

    /// <summary>llama.cpp's keys, and those of ik_llama.cpp (gemma4_mtp) and of a fork that keeps the architecture's name.</summary>
    private static DrafterFacts ReadDrafter(GgufMetadata m, string p) => new(
        m.Int(p + ".embedding_length_out", 1, Max) ?? m.Int("gemma4.assistant.backbone_hidden_size", 1, Max),
        HasCentroids: null,
        m.Int(p + ".centroid_top_k", 1, Max));

    /// <summary>True per sliding layer. A number p means that every p-th layer is global.</summary>
    private static bool[] ReadPattern(GgufMetadata m, string p, int layers, bool isDrafter)
    {
        string key = p + ".attention.sliding_window_pattern";
        // Every drafter has sliding layers and one global layer behind them.
        if (isDrafter && !m.Has(key)) return [.. Enumerable.Range(0, layers).Select(i => i < layers - 1)];
        if (!m.Has(key)) throw new CheckpointException(m.File, key, "expected one bool per layer, found no such key");
        if (m.IsArray(key)) return [.. m.PerLayer(key, layers, 0, 1)!.Select(v => v != 0)];
        int period = m.Int(key, 1, layers)!.Value;
        return [.. Enumerable.Range(0, layers).Select(i => i % period != period - 1)];
    }

    private static int ReadHeads(GgufMetadata m, string p, int layers)
    {
        string key = p + ".attention.head_count";
        int[] heads = m.PerLayer(key, layers, 1, Max) ?? throw new CheckpointException(m.File, key, "the key is missing");
        foreach (int h in heads)
            if (h != heads[0]) throw new CheckpointException(m.File, key, $"expected the same number on all layers, found {heads[0]} and {h}");
        return heads[0];
    }

    private static int Required(GgufMetadata m, string key, int min, int max) =>
        m.Int(key, min, max) ?? throw new CheckpointException(m.File, key, "the key is missing");

    private static void RequireSame(GgufMetadata m, string key, int? expected)
    {
        int? found = m.Int(key, 0, Max);
        if (found is not null && expected is not null && found != expected)
            throw new CheckpointException(m.File, key, $"expected {expected}, the head size; found {found}");
    }

    private static int?[] Nullable(int[]? values, int layers) => values is null ? new int?[layers] : [.. values.Select(v => (int?)v)];
}
