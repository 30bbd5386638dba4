using System.Globalization;
using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>A tensor that the configuration asks for.</summary>
/// <param name="Name">Canonical (GGUF) name.</param>
/// <param name="Shape">Outermost first; one dimension for norms and scales.</param>
internal readonly record struct ExpectedTensor(string Name, long[] Shape)
{
    /// <summary>Norms and scales, which stay in plain numbers.</summary>
    public bool IsVector => Shape.Length == 1;
}

/// <summary>The table of tensors that a Gemma 4 text model consists of, and the check of a file against it.</summary>
internal static class ExpectedTensors
{
    /// <summary>Names after "blk.N." that mean something to this program.</summary>
    private static readonly HashSet<string> s_layerNames =
    [
        "attn_norm.weight", "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight", "attn_q_norm.weight",
        "attn_k_norm.weight", "post_attention_norm.weight", "ffn_norm.weight", "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight",
        "post_ffw_norm.weight", "layer_output_scale.weight", "inp_gate.weight", "proj.weight", "post_norm.weight",
        "ffn_gate_inp.weight", "ffn_gate_inp.scale", "ffn_gate_up_exps.weight", "ffn_gate_exps.weight", "ffn_up_exps.weight",
        "ffn_down_exps.weight", "ffn_down_exps.scale", "pre_ffw_norm_2.weight", "post_ffw_norm_1.weight", "post_ffw_norm_2.weight",
    ];

    private static readonly HashSet<string> s_globalNames =
    [
        "token_embd.weight", "output.weight", "output_norm.weight", "rope_freqs.weight", "per_layer_token_embd.weight",
        "per_layer_model_proj.weight", "per_layer_proj_norm.weight",
    ];

    /// <summary>Names of a drafter's own tensors, as llama.cpp has them; beside them those of ik_llama.cpp, with or without ".weight".</summary>
    private static readonly Dictionary<string, string> s_drafterNames = new()
    {
        ["nextn.pre_projection"] = "nextn.pre_projection.weight",
        ["nextn.post_projection"] = "nextn.post_projection.weight",
        ["masked_embd_centroids"] = "masked_embd_centroids.weight",
        ["masked_embd_ordering"] = "masked_embd_ordering",
        ["mtp.pre_projection"] = "nextn.pre_projection.weight",
        ["mtp.post_projection"] = "nextn.post_projection.weight",
        ["mtp.centroids"] = "masked_embd_centroids.weight",
        ["mtp.token_ordering"] = "masked_embd_ordering",
    };

    /// <summary>The canonical name of a tensor in a drafter's GGUF.</summary>
    public static string DrafterName(string name) => s_drafterNames.GetValueOrDefault(Bare(name), name);

    /// <summary>Whether the tensor of a GGUF is a list of token ids and no weight.</summary>
    public static bool HoldsIntegers(string name) => DrafterName(name) == "masked_embd_ordering";

    /// <summary>Whether the name belongs to the text model (or, where asked, to a drafter), in this configuration or another.</summary>
    public static bool IsKnown(string name, bool inDrafter = false)
    {
        if (inDrafter && s_drafterNames.ContainsKey(Bare(name))) return true;
        if (!name.StartsWith("blk.", StringComparison.Ordinal)) return s_globalNames.Contains(name);
        int dot = name.IndexOf('.', 4);
        return dot > 0
            && int.TryParse(name.AsSpan(4, dot - 4), NumberStyles.None, CultureInfo.InvariantCulture, out _)
            && s_layerNames.Contains(name[(dot + 1)..]);
    }

    /// <summary>All tensors of a model. K/V of layers that borrow are not among them, though files ship them.</summary>
    /// <param name="c">The configuration.</param>
    /// <param name="hasSplitExperts">By layer: gate and up of the experts lie in two tensors instead of one.</param>
    /// <param name="drafter">Not null for a drafter.</param>
    public static IEnumerable<ExpectedTensor> For(ModelConfig c, Func<int, bool> hasSplitExperts, DrafterConfig? drafter = null)
    {
        long h = c.HiddenSize;
        yield return new("token_embd.weight", [c.VocabularySize, h]);
        yield return new("output_norm.weight", [h]);
        if (c.PerLayerInputSize > 0)
        {
            long all = (long)c.LayerCount * c.PerLayerInputSize;
            yield return new("per_layer_token_embd.weight", [c.VocabularySize, all]);
            yield return new("per_layer_model_proj.weight", [all, h]);
            yield return new("per_layer_proj_norm.weight", [c.PerLayerInputSize]);
        }
        if (drafter is not null)
        {
            yield return new("nextn.pre_projection.weight", [h, 2L * drafter.BackboneSize]);
            yield return new("nextn.post_projection.weight", [drafter.BackboneSize, h]);
            if (drafter.CentroidCount > 0) yield return new("masked_embd_centroids.weight", [drafter.CentroidCount, h]);
        }
        foreach (LayerConfig layer in c.Layers)
        {
            string blk = $"blk.{layer.Index}.";
            foreach (ExpectedTensor t in Attention(c, layer)) yield return t with { Name = blk + t.Name };
            foreach (ExpectedTensor t in FeedForward(c, layer)) yield return t with { Name = blk + t.Name };
            if (c.ExpertCount > 0)
                foreach (ExpectedTensor t in Experts(c, hasSplitExperts(layer.Index))) yield return t with { Name = blk + t.Name };
        }
    }

    /// <summary>
    /// Checks a file's tensors against the table and returns those that the model uses, under canonical names.
    /// K/V of borrowing layers, rope_freqs (already in the configuration) and unknown tensors are left out.
    /// </summary>
    /// <exception cref="CheckpointException">A tensor is missing, mis-shaped, not finite, or contradicts the configuration.</exception>
    public static Dictionary<string, TensorSource> Select(
        string file, ModelConfig config, DrafterConfig? drafter, IReadOnlyDictionary<string, StoredTensor> stored, List<string> notes)
    {
        Dictionary<string, TensorSource> used = new();
        foreach (ExpectedTensor expected in For(config, i => stored.ContainsKey($"blk.{i}.ffn_gate_exps.weight"), drafter))
        {
            if (!stored.TryGetValue(expected.Name, out StoredTensor? tensor))
                throw new CheckpointException(file, expected.Name, $"expected a tensor {StoredTensor.Describe(expected.Shape)}, found none");
            Check(expected, tensor);
            used.Add(expected.Name, tensor.ToSource());
        }
        if (stored.TryGetValue("output.weight", out StoredTensor? head) && UseHead(head, stored["token_embd.weight"], config, notes))
            used.Add("output.weight", head.ToSource());
        Leftovers(config, drafter, stored, used, notes);
        return used;
    }

    private static IEnumerable<ExpectedTensor> Attention(ModelConfig c, LayerConfig layer)
    {
        long h = c.HiddenSize, q = (long)c.HeadCount * layer.HeadDim, kv = (long)layer.KvHeadCount * layer.HeadDim;
        yield return new("attn_norm.weight", [h]);
        yield return new("attn_q.weight", [q, h]);
        yield return new("attn_q_norm.weight", [layer.HeadDim]);
        if (layer.OwnsKv)
        {
            yield return new("attn_k.weight", [kv, h]);
            yield return new("attn_k_norm.weight", [layer.HeadDim]);
            if (!layer.ValueIsKey) yield return new("attn_v.weight", [kv, h]);
        }
        yield return new("attn_output.weight", [h, q]);
        yield return new("post_attention_norm.weight", [h]);
    }

    private static IEnumerable<ExpectedTensor> FeedForward(ModelConfig c, LayerConfig layer)
    {
        long h = c.HiddenSize, ff = layer.FeedForwardWidth, p = c.PerLayerInputSize;
        yield return new("ffn_norm.weight", [h]);
        yield return new("ffn_gate.weight", [ff, h]);
        yield return new("ffn_up.weight", [ff, h]);
        yield return new("ffn_down.weight", [h, ff]);
        yield return new("post_ffw_norm.weight", [h]);
        if (p > 0)
        {
            yield return new("inp_gate.weight", [p, h]);
            yield return new("proj.weight", [h, p]);
            yield return new("post_norm.weight", [h]);
        }
        yield return new("layer_output_scale.weight", [1]);
    }

    private static IEnumerable<ExpectedTensor> Experts(ModelConfig c, bool split)
    {
        long h = c.HiddenSize, e = c.ExpertCount, ff = c.ExpertWidth;
        yield return new("ffn_gate_inp.weight", [e, h]);
        yield return new("ffn_gate_inp.scale", [h]);
        if (split)
        {
            yield return new("ffn_gate_exps.weight", [e, ff, h]);
            yield return new("ffn_up_exps.weight", [e, ff, h]);
        }
        else
        {
            yield return new("ffn_gate_up_exps.weight", [e, 2 * ff, h]);
        }
        yield return new("ffn_down_exps.weight", [e, h, ff]);
        yield return new("ffn_down_exps.scale", [e]);
        yield return new("pre_ffw_norm_2.weight", [h]);
        yield return new("post_ffw_norm_1.weight", [h]);
        yield return new("post_ffw_norm_2.weight", [h]);
    }

    private static string Bare(string name) => name.EndsWith(".weight", StringComparison.Ordinal) ? name[..^".weight".Length] : name;

    private static void Check(ExpectedTensor expected, StoredTensor found)
    {
        if (!Squeeze(expected.Shape).SequenceEqual(Squeeze(found.Shape)))
            throw new CheckpointException(found.File, found.Name,
                $"expected shape {StoredTensor.Describe(expected.Shape)}, found {StoredTensor.Describe(found.Shape)}");
        if (!expected.IsVector) return;
        if (!SmallTensors.CanRead(found.Type))
            throw new CheckpointException(found.File, found.Name, $"expected plain numbers (F32, F16 or BF16), found {found.Type}");
        SmallTensors.RequireFinite(found);
    }

    /// <summary>Without outer dimensions of 1: ggml does not write them.</summary>
    private static IEnumerable<long> Squeeze(long[] shape) => shape.SkipWhile(d => d == 1);

    /// <summary>A head that repeats the embedding (exporters write it although it is tied) is dropped, any other is used.</summary>
    private static bool UseHead(StoredTensor head, StoredTensor embedding, ModelConfig c, List<string> notes)
    {
        Check(new ExpectedTensor("output.weight", [c.VocabularySize, c.HiddenSize]), head);
        if (head.Type == embedding.Type && SameSample(head, embedding))
        {
            notes.Add($"{head.Name} repeats the embedding table and is not used");
            return false;
        }
        notes.Add($"{head.Name} differs from the embedding table and is used as the output head");
        return true;
    }

    /// <summary>Compares up to 1024 rows spread over the table: reading gigabytes at start-up would prove little more.</summary>
    private static unsafe bool SameSample(StoredTensor a, StoredTensor b)
    {
        long rows = a.Rows, rowBytes = a.Bytes / rows, samples = Math.Min(rows, 1024);
        for (long s = 0; s < samples; s++)
        {
            long offset = (samples == 1 ? 0 : s * (rows - 1) / (samples - 1)) * rowBytes;
            ReadOnlySpan<byte> x = new((byte*)a.Data + offset, (int)rowBytes), y = new((byte*)b.Data + offset, (int)rowBytes);
            if (!x.SequenceEqual(y)) return false;
        }
        return true;
    }

    private static void Leftovers(
        ModelConfig config, DrafterConfig? drafter, IReadOnlyDictionary<string, StoredTensor> stored, Dictionary<string, TensorSource> used, List<string> notes)
    {
        List<string> unknown = [];
        foreach ((string name, StoredTensor tensor) in stored)
        {
            if (used.ContainsKey(name) || name is "rope_freqs.weight" or "output.weight" || IsUnusedKv(name, config)) continue;
            // The ordering is in the configuration; centroids that it switches off stay unused.
            if (drafter is not null && s_drafterNames.ContainsValue(name)) continue;
            // A tensor that means something elsewhere but not here shows a wrong configuration; leaving it out would give garbage.
            if (IsKnown(name))
                throw new CheckpointException(tensor.File, tensor.Name, "the configuration has no place for this tensor");
            unknown.Add(tensor.Name);
        }
        if (unknown.Count > 0) notes.Add($"{unknown.Count} unknown tensors are not used: {string.Join(", ", unknown.Take(5))}{(unknown.Count > 5 ? ", …" : "")}");
    }

    private static bool IsUnusedKv(string name, ModelConfig config)
    {
        foreach (string suffix in (ReadOnlySpan<string>)[".attn_k.weight", ".attn_v.weight", ".attn_k_norm.weight"])
            if (name.StartsWith("blk.", StringComparison.Ordinal) && name.EndsWith(suffix, StringComparison.Ordinal)
                && int.TryParse(name.AsSpan(4, name.Length - 4 - suffix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int layer))
                return layer < config.LayerCount && !config.Layers[layer].OwnsKv;
        return false;
    }
}
