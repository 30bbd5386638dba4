using System.Globalization;
using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>A checkpoint's text weights on a device, under the recipe's names.</summary>
public sealed class Gemma4Weights : IDisposable
{
    private readonly IComputeDevice _device;
    private readonly IReadOnlyDictionary<string, TensorSource> _tensors;
    private readonly List<IDisposable> _owned = [];

    /// <summary>Binds every tensor; shapes were checked when the checkpoint was opened.</summary>
    /// <param name="device">Where they go.</param>
    /// <param name="checkpoint">Where they come from.</param>
    /// <param name="progress">Told after each layer which share of the layers is loaded.</param>
    public Gemma4Weights(IComputeDevice device, Checkpoint checkpoint, Action<double>? progress = null)
    {
        _device = device;
        _tensors = checkpoint.Tensors;
        ModelConfig config = checkpoint.Config;
        bool isTied = !_tensors.ContainsKey("output.weight");
        Embedding = isTied ? Matrix("token_embd.weight") : Table("token_embd.weight");
        Head = isTied ? Embedding : Matrix("output.weight");
        OutputNorm = Vector("output_norm.weight");
        if (config.PerLayerInputSize > 0)
        {
            PerLayerTable = Table("per_layer_token_embd.weight");
            PerLayerProjection = Matrix("per_layer_model_proj.weight");
            PerLayerNorm = Vector("per_layer_proj_norm.weight");
        }
        List<LayerWeights> layers = [];
        foreach (LayerConfig layer in config.Layers)
        {
            layers.Add(new LayerWeights(this, config, layer));
            progress?.Invoke(layers.Count / (double)config.LayerCount);
        }
        Layers = layers;
    }

    /// <summary>Token embedding <c>[vocabulary, hidden]</c>.</summary>
    public DeviceMatrix Embedding { get; }

    /// <summary>Output head; the embedding where tied.</summary>
    public DeviceMatrix Head { get; }

    /// <summary>Norm before the head.</summary>
    public DeviceVector OutputNorm { get; }

    /// <summary>Per-layer table <c>[vocabulary, layers · width]</c> (E2B, E4B).</summary>
    public DeviceMatrix? PerLayerTable { get; }

    /// <summary>Per-layer projection <c>[layers · width, hidden]</c>.</summary>
    public DeviceMatrix? PerLayerProjection { get; }

    /// <summary>Norm of the projection, over each layer's width.</summary>
    public DeviceVector? PerLayerNorm { get; }

    /// <summary>One entry per layer.</summary>
    public IReadOnlyList<LayerWeights> Layers { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IDisposable d in _owned) d.Dispose();
    }

    internal bool Has(string name) => _tensors.ContainsKey(name);

    internal DeviceMatrix Matrix(params string[] names)
    {
        TensorSource[] parts = [.. names.Select(n => _tensors[n])];
        return Own(_device.LoadMatrix(parts));
    }

    /// <summary>The matrices of a mixture, stacked.</summary>
    internal DeviceMatrix Experts(string name, int count) => Own(_device.LoadMatrix(_tensors[name] with { Stacks = count }));

    internal DeviceMatrix Table(string name) => Own(_device.LoadTable(_tensors[name]));

    internal DeviceVector Vector(string name, float scale = 1f) => Own(_device.LoadVector(_tensors[name], scale));

    internal float Scalar(string name)
    {
        Span<float> value = stackalloc float[1];
        new CpuWeights(_tensors[name]).DecodeRow(0, value);
        return value[0];
    }

    private T Own<T>(T memory) where T : IDisposable
    {
        _owned.Add(memory);
        return memory;
    }
}

/// <summary>Weights of one decoder layer.</summary>
public sealed class LayerWeights
{
    internal LayerWeights(Gemma4Weights w, ModelConfig config, LayerConfig layer)
    {
        string p = string.Create(CultureInfo.InvariantCulture, $"blk.{layer.Index}.");
        InputNorm = w.Vector(p + "attn_norm.weight");
        Qkv = !layer.OwnsKv ? w.Matrix(p + "attn_q.weight")
            : layer.ValueIsKey ? w.Matrix(p + "attn_q.weight", p + "attn_k.weight")
            : w.Matrix(p + "attn_q.weight", p + "attn_k.weight", p + "attn_v.weight");
        QueryNorm = w.Vector(p + "attn_q_norm.weight");
        KeyNorm = layer.OwnsKv ? w.Vector(p + "attn_k_norm.weight") : null;
        Output = w.Matrix(p + "attn_output.weight");
        PostAttentionNorm = w.Vector(p + "post_attention_norm.weight");
        PreFeedForwardNorm = w.Vector(p + "ffn_norm.weight");
        GateUp = w.Matrix(p + "ffn_gate.weight", p + "ffn_up.weight");
        Down = w.Matrix(p + "ffn_down.weight");
        PostFeedForwardNorm = w.Vector(p + "post_ffw_norm.weight");
        Scale = w.Scalar(p + "layer_output_scale.weight");
        if (config.PerLayerInputSize > 0)
        {
            PerLayerGate = w.Matrix(p + "inp_gate.weight");
            PerLayerOutput = w.Matrix(p + "proj.weight");
            PostPerLayerNorm = w.Vector(p + "post_norm.weight");
        }
        if (config.ExpertCount > 0) Experts = new ExpertWeights(w, p, config);
    }

    /// <summary>Before attention.</summary>
    public DeviceVector InputNorm { get; }

    /// <summary>q, then k and v where the layer has them, stacked.</summary>
    public DeviceMatrix Qkv { get; }

    /// <summary>Per query head.</summary>
    public DeviceVector QueryNorm { get; }

    /// <summary>Per key head; null where the layer reads another's cache.</summary>
    public DeviceVector? KeyNorm { get; }

    /// <summary>Attention output projection.</summary>
    public DeviceMatrix Output { get; }

    /// <summary>After attention.</summary>
    public DeviceVector PostAttentionNorm { get; }

    /// <summary>Before the (dense) feed-forward.</summary>
    public DeviceVector PreFeedForwardNorm { get; }

    /// <summary>gate, then up.</summary>
    public DeviceMatrix GateUp { get; }

    /// <summary>Feed-forward output projection.</summary>
    public DeviceMatrix Down { get; }

    /// <summary>After the feed-forward.</summary>
    public DeviceVector PostFeedForwardNorm { get; }

    /// <summary>Multiplies the residual at the layer's end.</summary>
    public float Scale { get; }

    /// <summary>Per-layer input gate (E2B, E4B).</summary>
    public DeviceMatrix? PerLayerGate { get; }

    /// <summary>Back to the hidden size.</summary>
    public DeviceMatrix? PerLayerOutput { get; }

    /// <summary>After the per-layer input.</summary>
    public DeviceVector? PostPerLayerNorm { get; }

    /// <summary>Experts beside the dense feed-forward (26B-A4B).</summary>
    public ExpertWeights? Experts { get; }
}

/// <summary>Router and experts of one layer.</summary>
public sealed class ExpertWeights
{
    internal ExpertWeights(Gemma4Weights w, string p, ModelConfig config)
    {
        Router = w.Matrix(p + "ffn_gate_inp.weight");
        // The router reads RMS(x) ⊙ scale · h^(−1/2); both factors are one vector here.
        RouterScale = w.Vector(p + "ffn_gate_inp.scale", 1f / MathF.Sqrt(config.HiddenSize));
        ExpertScale = w.Vector(p + "ffn_down_exps.scale");
        if (w.Has(p + "ffn_gate_up_exps.weight"))
        {
            Gate = w.Experts(p + "ffn_gate_up_exps.weight", config.ExpertCount);
        }
        else
        {
            Gate = w.Experts(p + "ffn_gate_exps.weight", config.ExpertCount);
            Up = w.Experts(p + "ffn_up_exps.weight", config.ExpertCount);
        }
        Down = w.Experts(p + "ffn_down_exps.weight", config.ExpertCount);
        PreNorm = w.Vector(p + "pre_ffw_norm_2.weight");
        PostDenseNorm = w.Vector(p + "post_ffw_norm_1.weight");
        PostExpertsNorm = w.Vector(p + "post_ffw_norm_2.weight");
    }

    /// <summary><c>[experts, hidden]</c>.</summary>
    public DeviceMatrix Router { get; }

    /// <summary>On the router's input.</summary>
    public DeviceVector RouterScale { get; }

    /// <summary>On each chosen expert's weight.</summary>
    public DeviceVector ExpertScale { get; }

    /// <summary>Experts' gate rows; gate then up per expert where <see cref="Up"/> is null.</summary>
    public DeviceMatrix Gate { get; }

    /// <summary>Experts' up rows where the file keeps them apart.</summary>
    public DeviceMatrix? Up { get; }

    /// <summary>Experts' output rows.</summary>
    public DeviceMatrix Down { get; }

    /// <summary>Before the experts.</summary>
    public DeviceVector PreNorm { get; }

    /// <summary>After the dense path.</summary>
    public DeviceVector PostDenseNorm { get; }

    /// <summary>After the experts.</summary>
    public DeviceVector PostExpertsNorm { get; }
}
