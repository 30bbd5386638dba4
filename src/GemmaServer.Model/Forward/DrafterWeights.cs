using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>A drafter's weights on a device: layers as a model's, and the two projections that tie it to its target.</summary>
public sealed class DrafterWeights : IDisposable
{
    private readonly Gemma4Weights _text;

    /// <summary>Binds every tensor; shapes were checked when the checkpoint was opened.</summary>
    public DrafterWeights(IComputeDevice device, Checkpoint checkpoint)
    {
        DrafterConfig drafter = checkpoint.Drafter ?? throw new ArgumentException($"{checkpoint.Path} is no drafter.", nameof(checkpoint));
        _text = new Gemma4Weights(device, checkpoint);
        PreProjection = _text.Matrix("nextn.pre_projection.weight");
        PostProjection = _text.Matrix("nextn.post_projection.weight");
        if (drafter.CentroidCount > 0)
            Centroids = device.LoadCentroids(checkpoint.Tensors["masked_embd_centroids.weight"], [.. drafter.TokenOrdering], drafter.CentroidsUsed);
    }

    /// <summary>From (embedding, hidden) of the target's width to the drafter's, <c>[drafter, 2 · target]</c>.</summary>
    public DeviceMatrix PreProjection { get; }

    /// <summary>Back to the target's width, <c>[target, drafter]</c>.</summary>
    public DeviceMatrix PostProjection { get; }

    /// <summary>Clusters of the head (E2B, E4B); null where it is dense.</summary>
    public DeviceCentroids? Centroids { get; }

    /// <summary>The drafter's own table, which is its head only.</summary>
    public DeviceMatrix Head => _text.Head;

    /// <summary>Before the head and the projection back.</summary>
    public DeviceVector OutputNorm => _text.OutputNorm;

    /// <summary>One entry per layer.</summary>
    public IReadOnlyList<LayerWeights> Layers => _text.Layers;

    /// <inheritdoc/>
    public void Dispose()
    {
        Centroids?.Dispose();
        _text.Dispose();
    }
}
