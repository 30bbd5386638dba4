namespace GemmaServer.Model;

/// <summary>Completes and checks what a drafter's file says, from the shapes of its tensors.</summary>
internal static class DrafterConfigBuilder
{
    private const string Post = "nextn.post_projection.weight", Centroids = "masked_embd_centroids.weight", Ordering = "masked_embd_ordering";
    private const int DefaultCentroidsUsed = 32;

    /// <param name="file">For messages.</param>
    /// <param name="facts">What the file states.</param>
    /// <param name="config">The drafter's own layers.</param>
    /// <param name="stored">The stored tensors under their canonical names.</param>
    /// <param name="notes">Receives what was assumed.</param>
    /// <exception cref="CheckpointException">A value is out of range, or the token ordering is none.</exception>
    public static DrafterConfig Build(
        string file, DrafterFacts facts, ModelConfig config, IReadOnlyDictionary<string, StoredTensor> stored, List<string> notes)
    {
        if (config.ExpertCount > 0 || config.PerLayerInputSize > 0)
            throw new CheckpointException(file, "layers", "a drafter with experts or per-layer inputs is not implemented");
        int backbone = facts.BackboneSize ?? (stored.TryGetValue(Post, out StoredTensor? post) ? (int)Math.Min(post.Rows, int.MaxValue)
            : throw new CheckpointException(file, "backbone width", "the file does not say it"));
        if (backbone is < 1 or > 1 << 20) throw new CheckpointException(file, "backbone width", $"expected 1 … {1 << 20}, found {backbone}");
        DrafterConfig dense = new() { BackboneSize = backbone };

        bool vectors = stored.TryGetValue(Centroids, out StoredTensor? centroids), order = stored.TryGetValue(Ordering, out StoredTensor? ordering);
        if (facts.HasCentroids == false || !vectors && !order)
        {
            // llama.cpp's converter drops them.
            if (facts.HasCentroids == true) notes.Add("the drafter's centroids are not in the file; its head scores every token");
            return dense;
        }
        if (!vectors || !order)
            throw new CheckpointException(file, vectors ? Ordering : Centroids, "expected both centroids and token ordering, or neither; found one");
        int count = (int)Math.Min(centroids!.Rows, int.MaxValue);
        if (config.VocabularySize % count != 0)
            throw new CheckpointException(centroids.File, centroids.Name, $"expected a divisor of the {config.VocabularySize} tokens as number of clusters, found {count}");
        int used = facts.CentroidsUsed ?? Math.Min(DefaultCentroidsUsed, count);
        if (used < 1 || used > count) throw new CheckpointException(file, "centroids used", $"expected 1 … {count}, found {used}");
        return dense with { CentroidCount = count, CentroidsUsed = used, TokenOrdering = ReadOrdering(ordering!, config.VocabularySize) };
    }

    private static int[] ReadOrdering(StoredTensor tensor, int vocabulary)
    {
        if (tensor.IntegerBytes == 0) throw new CheckpointException(tensor.File, tensor.Name, $"expected integers, found {tensor.Type}");
        if (tensor.Elements != vocabulary)
            throw new CheckpointException(tensor.File, tensor.Name, $"expected one token id for each of {vocabulary} tokens, found shape {StoredTensor.Describe(tensor.Shape)}");
        int[] ordering = new int[vocabulary];
        bool[] seen = new bool[vocabulary];
        for (int i = 0; i < vocabulary; i++)
        {
            long token = SmallTensors.ReadInteger(tensor, i);
            if (token < 0 || token >= vocabulary || seen[token])
                throw new CheckpointException(tensor.File, tensor.Name, $"expected every token id 0 … {vocabulary - 1} once, found {token} at {i}");
            seen[token] = true;
            ordering[i] = (int)token;
        }
        return ordering;
    }
}
