using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>
/// Gemma 4's drafter (MTP assistant) as a recipe over a device: a few layers that have no keys of their own, read the target's
/// pages and are applied again and again at one position, each time to the token and hidden row they gave before.
/// </summary>
/// <remarks>
/// Source: huggingface/transformers, <c>models/gemma4_assistant</c>; the spec's section numbers stand beside the steps.
/// All guesses of a sequence are made at position p = N − 1 of the last fixed token, which the target has not computed yet: the
/// keys are those of positions below p, and of a window those above p − W.
/// </remarks>
public sealed class DrafterModel : IDisposable
{
    private readonly IComputeDevice _device;
    private readonly ModelConfig _config;
    private readonly DrafterWeights _weights;
    private readonly DeviceMatrix _embedding;
    private readonly float _embeddingScale;
    private readonly DeviceKvCache _cache;
    private readonly AttentionPlan[] _plans;
    private readonly DeviceVector[] _keyNorms;
    private readonly StepBatch _batch;
    private readonly int[] _sequences;
    private readonly DeviceTensor _input, _x, _normed, _delta;
    private readonly DeviceTensor[] _query, _heads, _activation;

    /// <summary>Allocates activations of one row for each of <paramref name="maxSequences"/>.</summary>
    /// <param name="device">The target's.</param>
    /// <param name="drafter">Opened, and checked by <see cref="DrafterFit"/>.</param>
    /// <param name="weights">Of the drafter.</param>
    /// <param name="target">The model whose cache is read.</param>
    /// <param name="maxSequences">Slots.</param>
    public DrafterModel(IComputeDevice device, Checkpoint drafter, DrafterWeights weights, Gemma4Model target, int maxSequences)
    {
        (_device, _config, _weights, _cache) = (device, drafter.Config, weights, target.Cache);
        _embedding = target.Weights.Embedding;
        int backbone = drafter.Drafter!.BackboneSize;
        _embeddingScale = MathF.Sqrt(backbone);
        int[] sources = [.. _config.Layers.Select(l => DrafterFit.SourceLayer(target.Config, l.IsSliding))];
        _plans = [.. _config.Layers.Select((l, i) => target.AttentionOf(sources[i]) with
        {
            HeadCount = _config.HeadCount,
            Window = l.IsSliding ? _config.SlidingWindow : 0,
            Rope = device.AddRope(RopeFrequencies.For(_config, l)),
            OwnsKv = false,
            PastOnly = true,
        })];
        _keyNorms = [.. sources.Select(s => target.Weights.Layers[s].KeyNorm!)];

        _batch = new StepBatch(maxSequences, maxSequences);
        _sequences = new int[maxSequences];
        Hidden = device.CreateTensor(maxSequences, backbone);
        _input = device.CreateTensor(maxSequences, 2 * backbone);
        _x = device.CreateTensor(maxSequences, _config.HiddenSize);
        _normed = device.CreateTensor(maxSequences, _config.HiddenSize);
        _delta = device.CreateTensor(maxSequences, _config.HiddenSize);
        // A tensor's row stride is its width, so one for each.
        _query = [.. _plans.Select(p => device.CreateTensor(maxSequences, p.QueryWidth))];
        _heads = [.. _plans.Select(p => device.CreateTensor(maxSequences, p.QueryWidth))];
        _activation = [.. _config.Layers.Select(l => device.CreateTensor(maxSequences, l.FeedForwardWidth))];
    }

    /// <summary>The hidden rows that guesses start from, filled by the target's <see cref="IComputeDevice.Sample"/>; then those of the last guess.</summary>
    public DeviceTensor Hidden { get; }

    /// <summary>How its layers read the target's cache, for <see cref="IComputeDevice.Reserve"/>.</summary>
    public ReadOnlySpan<AttentionPlan> Attention => _plans;

    /// <summary>Bytes of its buffers, about.</summary>
    public static long BufferBytes(Checkpoint drafter, int maxSequences)
    {
        ModelConfig c = drafter.Config;
        long widths = 3L * drafter.Drafter!.BackboneSize + 3L * c.HiddenSize + drafter.Drafter.CentroidCount;
        widths += c.Layers.Sum(l => 2L * c.HeadCount * l.HeadDim + l.FeedForwardWidth);
        return widths * maxSequences * sizeof(float) + 4L * drafter.Drafter.TokenOrdering.Count;
    }

    /// <summary>Guesses for all slices that want some, after the target's step over the same batch.</summary>
    /// <param name="batch">The target's step.</param>
    /// <param name="result">What it sampled; receives the guesses.</param>
    /// <param name="tap">Sees the drafter's logits, for reference tests.</param>
    /// <param name="afterGuess">Called when <see cref="Hidden"/> holds the rows behind a guess, for reference tests.</param>
    public void Draft(StepBatch batch, StepResult result, LogitsTap? tap = null, Action? afterGuess = null)
    {
        if (!Gather(batch, result)) return;
        _device.BeginStep(_batch);
        for (int depth = 0; ; depth++)
        {
            // 4.2, z = W_pre · [e ; g]
            _device.EmbedBeside(_embedding, _embeddingScale, Hidden, _input);
            _device.MatMul(_input, _weights.PreProjection, _x);
            _device.RmsNorm(_x, _weights.Layers[0].InputNorm, _normed);
            for (int layer = 0; layer < _config.LayerCount; layer++) Layer(layer);

            // logits = E_draft · n, g' = W_post · n
            bool goesOn = _device.Draft(_normed, _weights.Head, _weights.Centroids, depth, _sequences.AsSpan(0, _batch.SequenceCount), result, tap);
            if (!goesOn && afterGuess is null) return;
            _device.MatMul(_normed, _weights.PostProjection, Hidden);
            afterGuess?.Invoke();
            if (!goesOn) return;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DeviceTensor t in (DeviceTensor[])[Hidden, _input, _x, _normed, _delta, .. _query, .. _heads, .. _activation]) t.Dispose();
    }

    /// <summary>One row for each slice that wants drafts, in the order of <see cref="Hidden"/>: the token just sampled, at its own position.</summary>
    private bool Gather(StepBatch batch, StepResult result)
    {
        _batch.Clear();
        for (int s = 0; s < batch.SequenceCount; s++)
        {
            ref readonly SequenceSlice slice = ref batch.Slices[s];
            if (slice.DraftsWanted <= 0) continue;
            // The first sample follows row QueryLength − 1 − Drafts; each token after it stood in the row of a right guess.
            int position = slice.ContextLength + slice.QueryLength - slice.Drafts + result.Tokens(s).Length - 1;
            _sequences[_batch.SequenceCount] = s;
            _batch.Add(
                new SequenceSlice { Slot = slice.Slot, ContextLength = position, DraftsWanted = slice.DraftsWanted, PromptLogprobs = -1, NextPromptToken = -1, Blocks = slice.Blocks },
                [StepBatch.LastSampled]);
        }
        return _batch.SequenceCount > 0;
    }

    /// <summary>One layer; <c>_normed</c> holds its normed input on entry and the next layer's (after the last one the head's) on return.</summary>
    private void Layer(int index)
    {
        LayerWeights w = _weights.Layers[index];
        DeviceVector nextNorm = index + 1 < _config.LayerCount ? _weights.Layers[index + 1].InputNorm : _weights.OutputNorm;

        // 2.4 attention over the target's keys and values
        _device.MatMul(_normed, w.Qkv, _query[index]);
        _device.NormRopeStore(_plans[index], w.QueryNorm, _keyNorms[index], _query[index], _cache);
        _device.Attend(_plans[index], _query[index], _cache, _heads[index]);
        _device.MatMul(_heads[index], w.Output, _delta);
        _device.AddNorm(_x, _delta, w.PostAttentionNorm, 1f, w.PreFeedForwardNorm, _normed);

        // 2.5 feed-forward, 2.7 the layer scalar
        _device.GatedMatMul(_normed, w.GateUp, _activation[index]);
        _device.MatMul(_activation[index], w.Down, _delta);
        _device.AddNorm(_x, _delta, w.PostFeedForwardNorm, w.Scale, nextNorm, _normed);
    }
}
