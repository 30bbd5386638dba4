namespace GemmaServer.Compute;

/// <summary>
/// The row of a head whose values are its raw keys (see <see cref="KvLayout"/>), r of its d elements rotated:
/// <code>
/// | rotated keys [r] | values that did not rotate [d − r] | values that did [r] |
/// |&lt;------------------ key [d] --------------------&gt;|
///                    |&lt;-------------------- value [d] --------------------&gt;|
/// </code>
/// Key and value overlap in what they share, each whole and contiguous, only in another order than the model's. A dot product
/// and a sum do not mind the order: queries are brought into the key's once, outputs back from the value's once.
/// </summary>
/// <param name="dim">d.</param>
/// <param name="rotated">r: the elements i and i + d/2 for i &lt; r/2.</param>
internal readonly struct CompactRow(int dim, int rotated)
{
    private int Half => dim / 2;

    private int Pairs => rotated / 2;

    /// <summary>Elements of a row.</summary>
    public int Length => dim + rotated;

    /// <summary>Joins a rotated key and its value to a row.</summary>
    public void Join(ReadOnlySpan<float> k, ReadOnlySpan<float> v, Span<float> row)
    {
        TakeRotated(k, row);
        TakeStill(v, row[rotated..]);
        TakeRotated(v, row[dim..]);
    }

    /// <summary>Brings a rotated query into the key's order; where values stand for keys it takes the key norm on.</summary>
    /// <param name="q">A head's query, in place.</param>
    /// <param name="keyNorm">k_norm of the layer that filled the cache, <c>[d]</c>.</param>
    /// <param name="scratch">At least d elements.</param>
    public void FoldQuery(Span<float> q, ReadOnlySpan<float> keyNorm, Span<float> scratch)
    {
        TakeRotated(q, scratch);
        for (int i = Pairs; i < Half; i++)
        {
            scratch[Pairs + i] = q[i] * keyNorm[i];
            scratch[Half + i] = q[Half + i] * keyNorm[Half + i];
        }
        scratch[..dim].CopyTo(q);
    }

    /// <summary>Brings a weighted sum of values back into the model's order.</summary>
    public void RestoreOutput(ReadOnlySpan<float> ordered, Span<float> y)
    {
        int still = Half - Pairs;
        ordered.Slice(0, still).CopyTo(y[Pairs..]);
        ordered.Slice(still, still).CopyTo(y[(Half + Pairs)..]);
        ordered.Slice(2 * still, Pairs).CopyTo(y);
        ordered.Slice(2 * still + Pairs, Pairs).CopyTo(y[Half..]);
    }

    private void TakeRotated(ReadOnlySpan<float> x, Span<float> to)
    {
        x[..Pairs].CopyTo(to);
        x.Slice(Half, Pairs).CopyTo(to[Pairs..]);
    }

    private void TakeStill(ReadOnlySpan<float> x, Span<float> to)
    {
        x[Pairs..Half].CopyTo(to);
        x[(Half + Pairs)..dim].CopyTo(to[(Half - Pairs)..]);
    }
}
