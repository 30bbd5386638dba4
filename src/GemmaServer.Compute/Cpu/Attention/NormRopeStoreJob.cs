namespace GemmaServer.Compute;

/// <summary>q/k norm, rotation and the KV store, one row of the step per item.</summary>
internal readonly unsafe struct NormRopeStoreJob<TKv>(
    AttentionPlan plan, CpuStep step, Rope rope, float[] qNorm, float[] kNorm, float epsilon, CpuTensor qkv, CpuKvCache cache)
    : IWorkerJob where TKv : struct, IKvFormat
{
    /// <summary>Room a worker needs: a value and a <see cref="CompactRow"/>, at most two heads long.</summary>
    public static int ScratchFloats(int headDim) => 3 * headDim;

    public void Execute(int item, int worker)
    {
        float* row = qkv.Row(item);
        int dim = plan.HeadDim;
        CompactRow compact = new(dim, plan.KeyDim);
        for (int h = 0; h < plan.HeadCount; h++)
        {
            Span<float> q = new(row + h * dim, dim);
            RmsNorm.Row(q, qNorm, epsilon, q);
            rope.Apply(item, row + h * dim);
            if (plan.IsCompact) compact.FoldQuery(q, kNorm, step.Scratch(worker));
        }
        if (!plan.OwnsKv) return;

        KvGroup group = cache.Plan.Groups[plan.KvGroup];
        int position = step.Position(item);
        int page = step.Slice(item).Blocks.Pages(plan.KvGroup)[position / group.TokensPerPage];
        int rowBytes = TKv.RowBytes(plan.IsCompact ? compact.Length : dim), headBytes = group.TokensPerPage * rowBytes;
        byte* keys = cache.Layer(page, plan.KvGroup, plan.KvIndex) + position % group.TokensPerPage * rowBytes;
        byte* values = keys + (long)plan.KvHeadCount * headBytes;
        for (int h = 0; h < plan.KvHeadCount; h++, keys += headBytes, values += headBytes)
        {
            Span<float> k = new(row + plan.QueryWidth + h * dim, dim);
            // Values come first: where they are the raw keys, the key norm below overwrites their source.
            Span<float> v = plan.ValueIsKey ? step.Scratch(worker)[..dim] : new(row + plan.QueryWidth + plan.KvWidth + h * dim, dim);
            RmsNorm.Row(plan.ValueIsKey ? k : v, [], epsilon, v);
            RmsNorm.Row(k, kNorm, epsilon, k);
            fixed (float* kp = k) rope.Apply(item, kp);
            if (plan.IsCompact)
            {
                Span<float> joined = step.Scratch(worker).Slice(dim, compact.Length);
                compact.Join(k, v, joined);
                TKv.Store(joined, keys);
                continue;
            }
            TKv.Store(k, keys);
            TKv.Store(v, values);
        }
    }
}
