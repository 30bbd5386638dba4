namespace GemmaServer.Model;

/// <summary>What one decoder layer looks like, everything resolved.</summary>
/// <param name="Index">0 … LayerCount − 1.</param>
/// <param name="IsSliding">Sliding-window attention; otherwise the layer sees the whole context.</param>
/// <param name="HeadDim">Elements of one query, key or value head.</param>
/// <param name="KvHeadCount">Key/value heads; on a layer that borrows, those of its donor; 0 in a drafter that does not say.</param>
/// <param name="FeedForwardWidth">Width of the dense MLP.</param>
/// <param name="OwnsKv">Whether the layer computes and stores keys and values of its own.</param>
/// <param name="KvSource">The layer whose keys and values are read: its own index when it owns some, −1 in a drafter, which reads its target's.</param>
/// <param name="ValueIsKey">There is no value projection: V is the raw key projection, normalised without a weight.</param>
public sealed record LayerConfig(
    int Index, bool IsSliding, int HeadDim, int KvHeadCount, int FeedForwardWidth, bool OwnsKv, int KvSource, bool ValueIsKey);
