using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>
/// Turns what a file says into a complete configuration. A stated value stands (tensors that contradict it are refused later);
/// an unstated one is taken from the tensor shapes, and only then from the class defaults, because exporters leave keys out.
/// </summary>
/// <remarks>Source of the defaults: huggingface/transformers, <c>models/gemma4/configuration_gemma4.py</c>.</remarks>
internal sealed class ModelConfigBuilder
{
    private const int MaxWidth = 1 << 20;
    private readonly ConfigFacts _facts;
    private readonly IReadOnlyDictionary<string, StoredTensor> _tensors;

    private ModelConfigBuilder(ConfigFacts facts, IReadOnlyDictionary<string, StoredTensor> tensors)
    {
        _facts = facts;
        _tensors = tensors;
    }

    /// <param name="facts">What the file states.</param>
    /// <param name="tensors">The stored tensors under their canonical names.</param>
    /// <exception cref="CheckpointException">A value is out of range or contradicts another.</exception>
    public static ModelConfig Build(ConfigFacts facts, IReadOnlyDictionary<string, StoredTensor> tensors) =>
        new ModelConfigBuilder(facts, tensors).Build();

    private bool IsDrafter => _facts.Drafter is not null;

    private ModelConfig Build()
    {
        int layers = Range("layer count", _facts.LayerCount, 1, 1000);
        int hidden = Range("hidden size", _facts.HiddenSize ?? Columns("token_embd.weight") ?? 2304, 1, MaxWidth);
        int perLayer = Range("per-layer input size", _facts.PerLayerInputSize ?? Columns("per_layer_proj_norm.weight") ?? 0, 0, 65_536);
        int shared = IsDrafter ? layers : Range("shared KV layers", _facts.SharedKvLayers ?? 0, 0, layers - 1);
        int experts = Range("expert count", _facts.ExpertCount ?? Rows("blk.0.ffn_gate_inp.weight") ?? 0, 0, 4096);
        LayerConfig[] resolved = ResolveLayers(layers, shared, out int heads);
        float partial = ResolveRotary(resolved, out float[] divisors);

        return new ModelConfig
        {
            Architecture = "gemma4",
            SizeName = PublishedSize.NameOf(layers, hidden, experts),
            HiddenSize = hidden,
            LayerCount = layers,
            HeadCount = heads,
            VocabularySize = Range("vocabulary size", _facts.VocabularySize ?? Rows("token_embd.weight") ?? 262_144, 1, 1 << 24),
            ContextLength = Range("context length", _facts.ContextLength ?? 131_072, 1, 1 << 28),
            SlidingWindow = Range("sliding window", _facts.SlidingWindow ?? 512, 1, 1 << 24),
            PerLayerInputSize = perLayer,
            SharedKvLayers = shared,
            RmsEpsilon = Range("RMS epsilon", _facts.RmsEpsilon ?? 1e-6f, 1e-12f, 1e-1f),
            // Every released model caps at 30; a file without the key was stripped of it.
            LogitSoftcap = IsDrafter ? 0f : Range("logit soft-cap", _facts.LogitSoftcap ?? 30f, 0f, 1e6f),
            RopeBaseSliding = Range("RoPE base of sliding layers", _facts.RopeBaseSliding ?? 10_000f, 1f, 1e12f),
            RopeBaseGlobal = Range("RoPE base of global layers", _facts.RopeBaseGlobal ?? 1_000_000f, 1f, 1e12f),
            PartialRotaryFactor = partial,
            GlobalRopeDivisors = divisors,
            ExpertCount = experts,
            ExpertsUsed = experts == 0 ? 0 : Range("experts used", _facts.ExpertsUsed ?? throw Missing("experts used per token"), 1, experts),
            ExpertWidth = experts == 0 ? 0 : Range("expert width", _facts.ExpertWidth ?? Columns("blk.0.ffn_down_exps.weight") ?? throw Missing("expert width"), 1, MaxWidth),
            Layers = resolved,
        };
    }

    private LayerConfig[] ResolveLayers(int count, int shared, out int heads)
    {
        int firstShared = count - shared;
        bool? valueIsKey = _facts.ValueIsKeyOnGlobal ?? GlobalLayersLackValue(firstShared);
        heads = Range("head count", _facts.HeadCount ?? HeadsFromShape() ?? 8, 1, 1024);
        LayerConfig[] layers = new LayerConfig[count];
        for (int i = 0; i < count; i++)
        {
            bool sliding = _facts.IsSliding[i];
            int source = i < firstShared ? i : IsDrafter ? -1 : Donor(firstShared, sliding, i);
            int dim = Range($"head size of layer {i}", HeadDim(i), 2, 4096);
            if (dim % 2 != 0) throw new CheckpointException(_facts.File, $"head size of layer {i}", $"expected an even number, found {dim}");
            int? kv = _facts.KvHeadCount[i] ?? (source == i ? DivideRows($"blk.{i}.attn_k.weight", dim) : source >= 0 ? layers[source].KvHeadCount : 0);
            int kvHeads = Range($"KV heads of layer {i}", kv ?? 4, IsDrafter ? 0 : 1, heads);
            if (kvHeads > 0 && heads % kvHeads != 0)
                throw new CheckpointException(_facts.File, $"KV heads of layer {i}", $"expected a divisor of the {heads} query heads, found {kvHeads}");
            int width = Range($"feed-forward width of layer {i}", _facts.FeedForwardWidth[i] ?? Rows($"blk.{i}.ffn_gate.weight") ?? 9216, 1, MaxWidth);
            layers[i] = new LayerConfig(i, sliding, dim, kvHeads, width, source == i, source, !sliding && valueIsKey == true && !IsDrafter);
        }
        for (int i = firstShared; i < count && !IsDrafter; i++) CheckDonor(layers[i], layers[layers[i].KvSource]);
        CheckGlobalHeads(layers);
        return layers;
    }

    /// <summary>The last layer with keys of its own and the same kind of attention.</summary>
    private int Donor(int firstShared, bool sliding, int layer)
    {
        for (int j = firstShared - 1; j >= 0; j--)
            if (_facts.IsSliding[j] == sliding) return j;
        throw new CheckpointException(_facts.File, "shared KV layers",
            $"layer {layer} is to borrow the keys of a {(sliding ? "sliding" : "global")} layer below {firstShared}, and there is none");
    }

    private void CheckDonor(LayerConfig layer, LayerConfig donor)
    {
        if (layer.HeadDim == donor.HeadDim && layer.KvHeadCount == donor.KvHeadCount) return;
        throw new CheckpointException(_facts.File, $"layer {layer.Index}",
            $"it borrows the keys of layer {donor.Index}: expected {donor.KvHeadCount} KV heads of {donor.HeadDim}, found {layer.KvHeadCount} of {layer.HeadDim}");
    }

    private void CheckGlobalHeads(LayerConfig[] layers)
    {
        // One rope table per kind of layer; no file has ever needed more.
        foreach (LayerConfig layer in layers)
        {
            LayerConfig first = layers.First(l => l.IsSliding == layer.IsSliding);
            if (layer.HeadDim != first.HeadDim)
                throw new CheckpointException(_facts.File, $"head size of layer {layer.Index}",
                    $"expected {first.HeadDim} as on layer {first.Index}, found {layer.HeadDim}");
        }
    }

    private int HeadDim(int layer) =>
        _facts.HeadDim[layer] ?? Columns($"blk.{layer}.attn_q_norm.weight") ?? (_facts.IsSliding[layer] ? 256 : 512);

    private int? HeadsFromShape() => _facts.IsSliding.Length == 0 ? null : DivideRows("blk.0.attn_q.weight", HeadDim(0));

    /// <summary>True or false when all global layers agree, null when there are none; the missing ones of a mixed file are reported later.</summary>
    private bool? GlobalLayersLackValue(int firstShared)
    {
        bool anyGlobal = false;
        for (int i = 0; i < firstShared; i++)
        {
            if (_facts.IsSliding[i]) continue;
            anyGlobal = true;
            if (_tensors.ContainsKey($"blk.{i}.attn_v.weight")) return false;
        }
        return anyGlobal ? true : null;
    }

    /// <summary>The divisors that a GGUF stores, or those that follow from the rotary factor; and the factor itself.</summary>
    private float ResolveRotary(LayerConfig[] layers, out float[] divisors)
    {
        LayerConfig? global = layers.FirstOrDefault(l => !l.IsSliding);
        int pairs = (global?.HeadDim ?? 0) / 2;
        divisors = new float[pairs];
        if (!_tensors.TryGetValue("rope_freqs.weight", out StoredTensor? stored))
        {
            float factor = Range("partial rotary factor", _facts.PartialRotaryFactor ?? 0.25f, 0f, 1f);
            int rotating = (int)(factor * pairs);
            Array.Fill(divisors, float.PositiveInfinity);
            Array.Fill(divisors, 1f, 0, rotating);
            return factor;
        }
        if (stored.Type != TensorType.F32 || stored.Elements != pairs)
            throw new CheckpointException(stored.File, stored.Name,
                $"expected F32 [{pairs}], half the global head size; found {stored.Type} {StoredTensor.Describe(stored.Shape)}");
        int turning = 0;
        for (int i = 0; i < pairs; i++)
        {
            float d = SmallTensors.Read(stored, i);
            if (!(d > 0)) throw new CheckpointException(stored.File, stored.Name, $"expected positive divisors, found {d} at {i}");
            // Converters write 1e30 where a pair stands still; saying so exactly keeps both formats equal.
            divisors[i] = d >= 1e20f ? float.PositiveInfinity : d;
            if (!float.IsInfinity(divisors[i])) turning++;
        }
        return pairs == 0 ? 0.25f : (float)turning / pairs;
    }

    private int? Rows(string name) => _tensors.TryGetValue(name, out StoredTensor? t) ? Clamp(t.Rows) : null;

    private int? Columns(string name) => _tensors.TryGetValue(name, out StoredTensor? t) ? Clamp(t.Columns) : null;

    private int? DivideRows(string name, int by) => Rows(name) is int rows && by > 0 && rows % by == 0 ? rows / by : null;

    private static int Clamp(long n) => (int)Math.Min(n, int.MaxValue);

    private int Range(string what, int value, int min, int max) =>
        value >= min && value <= max ? value : throw new CheckpointException(_facts.File, what, $"expected {min} … {max}, found {value}");

    private float Range(string what, float value, float min, float max) =>
        value >= min && value <= max ? value : throw new CheckpointException(_facts.File, what, $"expected {min} … {max}, found {value}");

    private CheckpointException Missing(string what) => new(_facts.File, what, "the file does not say, and there is no default");
}
