namespace GemmaServer.Compute;

/// <summary>Rows of f32 activations on a device, row-major: <c>[rows, columns]</c>. Made by the device that reads it.</summary>
public abstract class DeviceTensor(int rows, int columns) : IDisposable
{
    /// <summary>Capacity in rows; a step uses the first ones.</summary>
    public int Rows { get; } = rows;

    /// <summary>Elements of a row.</summary>
    public int Columns { get; } = columns;

    /// <summary>Copies the first rows out, after everything queued. For tests.</summary>
    /// <param name="values"><c>[rows, columns]</c>.</param>
    public abstract void Read(Span<float> values);

    /// <summary>Copies rows in, from the first on. For tests.</summary>
    /// <param name="values"><c>[rows, columns]</c>.</param>
    public abstract void Write(ReadOnlySpan<float> values);

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>A weight matrix in a device's own form: <c>[rows, columns]</c>, so y = W·x; experts are stacked along the rows.</summary>
public abstract class DeviceMatrix(int rows, int columns) : IDisposable
{
    /// <summary>Output dimension.</summary>
    public int Rows { get; } = rows;

    /// <summary>Input dimension.</summary>
    public int Columns { get; } = columns;

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>A short f32 vector on a device: norm weights, scales, inverse frequencies.</summary>
public abstract class DeviceVector(int length) : IDisposable
{
    /// <summary>Elements.</summary>
    public int Length { get; } = length;

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>A drafter's centroids on a device: vectors that stand for clusters of tokens, so that a head scores the best clusters' tokens only.</summary>
/// <param name="count">Clusters, all of one size.</param>
/// <param name="used">Clusters whose tokens get logits.</param>
public abstract class DeviceCentroids(int count, int used) : IDisposable
{
    /// <summary>Clusters.</summary>
    public int Count { get; } = count;

    /// <summary>Clusters whose tokens get logits.</summary>
    public int Used { get; } = used;

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>The KV pool of a device.</summary>
public abstract class DeviceKvCache(KvCachePlan plan) : IDisposable
{
    /// <summary>Its groups and pages.</summary>
    public KvCachePlan Plan { get; } = plan;

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>Attention of one layer, resolved at load: shapes, window, where its keys and values lie.</summary>
/// <param name="HeadCount">Query heads.</param>
/// <param name="KvHeadCount">Key/value heads; query head n reads head n / (HeadCount / KvHeadCount).</param>
/// <param name="HeadDim">Elements of a head.</param>
/// <param name="Window">Keys a query sees, itself included; 0 sees all.</param>
/// <param name="Rope">Which of the step's rotation tables applies: index given to <see cref="IComputeDevice.AddRope"/>.</param>
/// <param name="KvGroup">Group of the layer whose cache is read.</param>
/// <param name="KvIndex">Place of that layer in its group.</param>
/// <param name="OwnsKv">Whether this layer computes and stores keys and values.</param>
/// <param name="ValueIsKey">Whether values are the raw keys (no v projection).</param>
/// <param name="KeyDim">Elements of a key in the cache that is read: all, or those that rotate; see <see cref="KvLayout.KeyDim"/>.</param>
/// <param name="PastOnly">Whether a query sees only keys before its own position: a drafter's rows have none in the cache.</param>
public sealed record AttentionPlan(
    int HeadCount, int KvHeadCount, int HeadDim, int Window, int Rope, int KvGroup, int KvIndex, bool OwnsKv, bool ValueIsKey, int KeyDim,
    bool PastOnly = false)
{
    /// <summary>Whether the cache holds values and the rotated part of the keys only, so that queries take the key norm on.</summary>
    public bool IsCompact => KeyDim < HeadDim;

    /// <summary>Elements of the query part of a QKV row.</summary>
    public int QueryWidth => HeadCount * HeadDim;

    /// <summary>Elements of the key (and of the value) part.</summary>
    public int KvWidth => KvHeadCount * HeadDim;

    /// <summary>Elements of a QKV row: q, then k and v where the layer has them.</summary>
    public int QkvWidth => QueryWidth + (OwnsKv ? (ValueIsKey ? KvWidth : 2 * KvWidth) : 0);
}

/// <summary>Sees logits as they are before sampling; for reference tests.</summary>
/// <param name="slot">Slot of the sequence.</param>
/// <param name="position">Position of the row whose next token the logits predict.</param>
/// <param name="logits">After the soft-cap, one per token id.</param>
public delegate void LogitsTap(int slot, int position, ReadOnlySpan<float> logits);
