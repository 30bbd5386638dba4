using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>Gemma 4's text decoder as a recipe over a device. Which layer slides, shares or has experts was settled at load.</summary>
/// <remarks>Source: google-deepmind/gemma, <c>gm/nn/gemma4/_transformer.py</c> and <c>_modules.py</c>; the spec's section numbers stand beside the steps.</remarks>
public sealed class Gemma4Model : IDisposable
{
    private readonly IComputeDevice _device;
    private readonly ModelConfig _config;
    private readonly Gemma4Weights _weights;
    private readonly DeviceKvCache _cache;
    private readonly AttentionPlan[] _plans;
    private readonly DeviceTensor _x, _normed, _delta;
    private readonly DeviceTensor[] _qkv, _heads, _activation;
    private readonly DeviceTensor? _perLayer, _perLayerGate, _experts;

    /// <summary>Allocates activations for steps of up to <paramref name="maxBatchTokens"/> rows and the KV pool.</summary>
    public Gemma4Model(IComputeDevice device, ModelConfig config, Gemma4Weights weights, KvCachePlan kv, int maxBatchTokens)
    {
        (_device, _config, _weights) = (device, config, weights);
        _plans = AttentionPlans(device, config, kv);
        _cache = device.CreateKvCache(kv, layer => _plans[layer]);

        int rows = maxBatchTokens;
        _x = device.CreateTensor(rows, config.HiddenSize);
        _normed = device.CreateTensor(rows, config.HiddenSize);
        _delta = device.CreateTensor(rows, config.HiddenSize);
        // One buffer per distinct width: a tensor's row stride is its width.
        _qkv = PerWidth(_plans.Select(p => p.QkvWidth), rows);
        _heads = PerWidth(_plans.Select(p => p.QueryWidth), rows);
        _activation = PerWidth(config.Layers.Select(l => l.FeedForwardWidth), rows);
        if (config.PerLayerInputSize > 0)
        {
            _perLayer = device.CreateTensor(rows, config.LayerCount * config.PerLayerInputSize);
            _perLayerGate = device.CreateTensor(rows, config.PerLayerInputSize);
        }
        if (config.ExpertCount > 0) _experts = device.CreateTensor(rows, config.HiddenSize);
    }

    internal ModelConfig Config => _config;

    internal Gemma4Weights Weights => _weights;

    internal DeviceKvCache Cache => _cache;

    /// <summary>How a layer attends.</summary>
    internal AttentionPlan AttentionOf(int layer) => _plans[layer];

    /// <summary>One step: all rows through all layers, then logits and tokens for the rows that want them.</summary>
    /// <param name="batch">The rows.</param>
    /// <param name="tap">Sees the logits.</param>
    /// <param name="hidden">Receives the rows that a drafter starts from; see <see cref="IComputeDevice.Sample"/>.</param>
    public void Forward(StepBatch batch, LogitsTap? tap, DeviceTensor? hidden = null)
    {
        _device.BeginStep(batch);
        Embed();
        _device.RmsNorm(_x, _weights.Layers[0].InputNorm, _normed);
        for (int layer = 0; layer < _config.LayerCount; layer++) Layer(layer);
        _device.Sample(_x, _weights.OutputNorm, _weights.Head, _config.LogitSoftcap, tap, hidden);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DeviceTensor? t in (DeviceTensor?[])[_x, _normed, _delta, .. _qkv.Distinct(), .. _heads.Distinct(), .. _activation.Distinct(), _perLayer, _perLayerGate, _experts])
            t?.Dispose();
        _cache.Dispose();
    }

    private void Embed()
    {
        // 2.2 token embedding, 2.3 per-layer inputs
        _device.Embed(_weights.Embedding, MathF.Sqrt(_config.HiddenSize), _x);
        if (_perLayer is null) return;
        _device.MatMul(_x, _weights.PerLayerProjection!, _perLayer);
        _device.PerLayerInputs(
            _perLayer, 1f / MathF.Sqrt(_config.HiddenSize), _weights.PerLayerNorm!, _weights.PerLayerTable!, MathF.Sqrt(_config.PerLayerInputSize));
    }

    /// <summary>One decoder layer; <c>_normed</c> holds its normed input on entry and the next layer's on return.</summary>
    private void Layer(int index)
    {
        AttentionPlan plan = _plans[index];
        LayerWeights w = _weights.Layers[index];
        DeviceVector? nextNorm = index + 1 < _config.LayerCount ? _weights.Layers[index + 1].InputNorm : null;

        // 2.4 attention
        _device.MatMul(_normed, w.Qkv, _qkv[index]);
        _device.NormRopeStore(plan, w.QueryNorm, _weights.Layers[_config.Layers[index].KvSource].KeyNorm!, _qkv[index], _cache);
        _device.Attend(plan, _qkv[index], _cache, _heads[index]);
        _device.MatMul(_heads[index], w.Output, _delta);
        _device.AddNorm(_x, _delta, w.PostAttentionNorm, 1f, w.PreFeedForwardNorm, _normed);

        // 2.5 dense feed-forward, 2.6 experts beside it
        _device.GatedMatMul(_normed, w.GateUp, _activation[index]);
        _device.MatMul(_activation[index], w.Down, _delta);
        if (w.Experts is not null) AddExperts(w.Experts);

        if (_perLayer is null)
        {
            // 2.7 the layer scalar
            _device.AddNorm(_x, _delta, w.PostFeedForwardNorm, w.Scale, nextNorm, _normed);
            return;
        }
        _device.AddNorm(_x, _delta, w.PostFeedForwardNorm, 1f, null, _normed);

        // 2.3 per-layer input, 2.7 the layer scalar
        _device.PerLayerGate(_x, w.PerLayerGate!, _perLayer, index, _perLayerGate!);
        _device.MatMul(_perLayerGate!, w.PerLayerOutput!, _delta);
        _device.AddNorm(_x, _delta, w.PostPerLayerNorm!, w.Scale, nextNorm, _normed);
    }

    /// <summary>_delta = RMS(dense; post 1) + RMS(experts; post 2).</summary>
    private void AddExperts(ExpertWeights w)
    {
        _device.RmsNorm(_delta, w.PostDenseNorm, _delta);
        _device.Route(_x, w.RouterScale, w.Router, w.ExpertScale, _config.ExpertsUsed);
        _device.RmsNorm(_x, w.PreNorm, _normed);
        _device.Experts(_normed, w.Gate, w.Up, w.Down, _config.ExpertWidth, _experts!);
        _device.RmsNormAdd(_experts!, w.PostExpertsNorm, _delta);
    }

    private DeviceTensor[] PerWidth(IEnumerable<int> widths, int rows)
    {
        Dictionary<int, DeviceTensor> byWidth = [];
        return [.. widths.Select(w => byWidth.TryGetValue(w, out DeviceTensor? t) ? t : byWidth[w] = _device.CreateTensor(rows, w))];
    }

    private static AttentionPlan[] AttentionPlans(IComputeDevice device, ModelConfig config, KvCachePlan kv)
    {
        Dictionary<(bool, int), int> ropes = [];
        int Rope(LayerConfig l) => ropes.TryGetValue((l.IsSliding, l.HeadDim), out int r) ? r
            : ropes[(l.IsSliding, l.HeadDim)] = device.AddRope(RopeFrequencies.For(config, l));

        return [.. config.Layers.Select(l =>
        {
            int group = kv.Groups.TakeWhile(g => !g.Layers.Contains(l.KvSource)).Count();
            int place = kv.Groups[group].Layers.TakeWhile(i => i != l.KvSource).Count();
            return new AttentionPlan(
                config.HeadCount, config.Layers[l.KvSource].KvHeadCount, l.HeadDim, l.IsSliding ? config.SlidingWindow : 0,
                Rope(l), group, place, l.OwnsKv, l.ValueIsKey, KvCachePlanner.KeyDim(config, config.Layers[l.KvSource], kv.Type));
        })];
    }
}
