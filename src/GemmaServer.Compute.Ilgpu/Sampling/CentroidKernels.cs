using ILGPU;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>A drafter's clustered head: which tokens get logits, and where these go.</summary>
internal static class CentroidKernels
{
    /// <summary>
    /// A lane for each row and cluster: it counts who is better (equals by lower index), and where few enough are its tokens take
    /// their place among the picks. A few thousand clusters need neither order nor barriers.
    /// </summary>
    /// <param name="rows">Rows.</param>
    /// <param name="clusters">Clusters.</param>
    /// <param name="used">Clusters whose tokens get logits.</param>
    /// <param name="size">Tokens of a cluster.</param>
    /// <param name="stride">Floats from one row of scores to the next.</param>
    /// <param name="scores">Of rows and clusters.</param>
    /// <param name="ordering">Token ids, cluster by cluster.</param>
    /// <param name="picks">[rows][used][size]: token ids.</param>
    public static void Rank(int rows, int clusters, int used, int size, int stride, ArrayView<float> scores, ArrayView<int> ordering, ArrayView<int> picks)
    {
        for (int i = Lanes.Global; i < rows * clusters; i += Lanes.Count)
        {
            int row = i / clusters, cluster = i % clusters, at = row * stride, better = 0;
            float own = scores[at + cluster];
            for (int c = 0; c < clusters; c++)
                if (scores[at + c] > own || (scores[at + c] == own && c < cluster)) better++;
            if (better < used)
                for (int t = 0; t < size; t++) picks[(row * used + better) * size + t] = ordering[cluster * size + t];
        }
    }

    /// <summary>−∞ everywhere: a lane for each logit.</summary>
    public static void Bar(int rows, int columns, int stride, ArrayView<float> logits)
    {
        for (int i = Lanes.Global; i < rows * columns; i += Lanes.Count) logits[i / columns * stride + i % columns] = float.NegativeInfinity;
    }

    /// <summary>logits[pick] = the pick's value: a lane for each.</summary>
    public static void Spread(int rows, int count, int stride, ArrayView<int> picks, ArrayView<float> values, ArrayView<float> logits)
    {
        for (int i = Lanes.Global; i < rows * count; i += Lanes.Count) logits[i / count * stride + picks[i]] = values[i];
    }
}
