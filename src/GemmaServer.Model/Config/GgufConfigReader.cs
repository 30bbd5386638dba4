namespace GemmaServer.Model;

/// <summary>Reads the hyper-parameters of a GGUF file of architecture gemma4.</summary>
/// <remarks>Source of the keys: llama.cpp, <c>src/models/gemma4.cpp</c> and <c>conversion/gemma.py</c>.</remarks>
internal static class GgufConfigReader
{
    private const int Max = int.MaxValue;

    public static ConfigFacts Read(GgufMetadata m)
    {
        RefuseOtherModels(m);
        int layers = Required(m, "gemma4.block_count", 1, 1000);
        bool[] sliding = ReadPattern(m, layers);
        int? dimSliding = m.Int("gemma4.attention.key_length_swa", 1, 65_536);
        int? dimGlobal = m.Int("gemma4.attention.key_length", 1, 65_536);
        RequireSame(m, "gemma4.attention.value_length_swa", dimSliding);
        RequireSame(m, "gemma4.attention.value_length", dimGlobal);
        RequireSame(m, "gemma4.rope.dimension_count_swa", dimSliding);
        RequireSame(m, "gemma4.rope.dimension_count", dimGlobal);

        return new ConfigFacts
        {
            File = m.File,
            LayerCount = layers,
            HiddenSize = Required(m, "gemma4.embedding_length", 1, Max),
            HeadCount = ReadHeads(m, layers),
            ContextLength = Required(m, "gemma4.context_length", 1, Max),
            SlidingWindow = Required(m, "gemma4.attention.sliding_window", 0, Max),
            PerLayerInputSize = m.Int("gemma4.embedding_length_per_layer_input", 0, Max),
            SharedKvLayers = m.Int("gemma4.attention.shared_kv_layers", 0, Max),
            RmsEpsilon = m.Real("gemma4.attention.layer_norm_rms_epsilon"),
            LogitSoftcap = m.Real("gemma4.final_logit_softcapping"),
            RopeBaseGlobal = m.Real("gemma4.rope.freq_base"),
            RopeBaseSliding = m.Real("gemma4.rope.freq_base_swa"),
            ExpertCount = m.Int("gemma4.expert_count", 0, Max),
            ExpertsUsed = m.Int("gemma4.expert_used_count", 0, Max),
            ExpertWidth = m.Int("gemma4.expert_feed_forward_length", 0, Max),
            IsSliding = sliding,
            HeadDim = [.. sliding.Select(s => s ? dimSliding : dimGlobal)],
            KvHeadCount = Nullable(m.PerLayer("gemma4.attention.head_count_kv", layers, 1, Max), layers),
            FeedForwardWidth = Nullable(m.PerLayer("gemma4.feed_forward_length", layers, 1, Max), layers),
        };
    }

    private static void RefuseOtherModels(GgufMetadata m)
    {
        const string key = "general.architecture";
        string architecture = m.Text(key) ?? throw new CheckpointException(m.File, key, "expected 'gemma4', found no such key");
        if (architecture is "gemma4-assistant" or "gemma4_mtp" || m.Has("gemma4.assistant.type"))
            throw new CheckpointException(m.File, key,
                $"'{architecture}' is a drafter (multi-token prediction) for a Gemma 4 model; it cannot be served by itself");
        if (architecture == "clip")
            throw new CheckpointException(m.File, key, "expected 'gemma4', found 'clip': this is a vision or audio encoder (mmproj), not a text model");
        if (architecture != "gemma4")
            throw new CheckpointException(m.File, key, $"expected 'gemma4', found '{architecture}': only Gemma 4 models can be served");
        if (m.Text("gemma4.rope.scaling.type") is string scaling and not "none")
            throw new CheckpointException(m.File, "gemma4.rope.scaling.type", $"expected none, found '{scaling}'");
    }

    /// <summary>True per sliding layer. A number p means that every p-th layer is global.</summary>
    private static bool[] ReadPattern(GgufMetadata m, int layers)
    {
        const string key = "gemma4.attention.sliding_window_pattern";
        if (!m.Has(key)) throw new CheckpointException(m.File, key, "expected one bool per layer, found no such key");
        if (m.IsArray(key)) return [.. m.PerLayer(key, layers, 0, 1)!.Select(v => v != 0)];
        int period = m.Int(key, 1, layers)!.Value;
        return [.. Enumerable.Range(0, layers).Select(i => i % period != period - 1)];
    }

    private static int ReadHeads(GgufMetadata m, int layers)
    {
        const string key = "gemma4.attention.head_count";
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
