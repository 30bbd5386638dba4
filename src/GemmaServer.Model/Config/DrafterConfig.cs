namespace GemmaServer.Model;

/// <summary>What makes a checkpoint a drafter (MTP assistant): a few layers without keys of their own, beside the cache of a target.</summary>
public sealed record DrafterConfig
{
    /// <summary>Width of the target's residual stream: of its embeddings and of the hidden rows that go in and come out.</summary>
    public required int BackboneSize { get; init; }

    /// <summary>Clusters of the head, all of one size; 0 for a dense head.</summary>
    public int CentroidCount { get; init; }

    /// <summary>Clusters whose tokens get logits.</summary>
    public int CentroidsUsed { get; init; }

    /// <summary>Token ids cluster by cluster, each once; empty for a dense head.</summary>
    public IReadOnlyList<int> TokenOrdering { get; init; } = [];

    /// <summary>The published size with a stream of that width, or "custom".</summary>
    public string TargetSize => PublishedSize.All.FirstOrDefault(s => s.Hidden == BackboneSize)?.Name ?? "custom";
}

/// <summary>What a drafter's file says beside the layers; null means that it does not say.</summary>
internal sealed record DrafterFacts(int? BackboneSize, bool? HasCentroids, int? CentroidsUsed);
