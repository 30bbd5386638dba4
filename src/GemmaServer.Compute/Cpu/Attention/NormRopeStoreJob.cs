namespace GemmaServer.Compute;

/// <summary>q/k norm, rotation and the KV store, one row of the step per item.</summary>
internal readonly unsafe struct NormRopeStoreJob<TKv>(
    AttentionPlan plan, CpuStep step, Rope rope, float[] qNorm, float[]? kNorm, float epsilon, CpuTensor qkv, CpuKvCache cache)
    : IWorkerJob where TKv : struct, IKvFormat
{
    public void Execute(int item, int worker)
    {
        float* row = qkv.Row(item);
        int dim = plan.HeadDim;
        for (int h = 0; h < plan.HeadCount; h++)
        {
            Span<float> q = new(row + h * dim, dim);
            RmsNorm.Row(q, qNorm, epsilon, q);
            rope.Apply(item, row + h * dim);
        }
        if (!plan.OwnsKv) return;

        KvGroup group = cache.Plan.Groups[plan.KvGroup];
        int position = step.Position(item);
        int page = step.Slice(item).Blocks.Pages(plan.KvGroup)[position / group.TokensPerPage];
        int rowBytes = TKv.RowBytes(dim), headBytes = group.TokensPerPage * rowBytes;
        byte* keys = cache.Layer(page, plan.KvGroup, plan.KvIndex) + position % group.TokensPerPage * rowBytes;
        byte* values = keys + (long)plan.KvHeadCount * headBytes;
        for (int h = 0; h < plan.KvHeadCount; h++)
        {
            Span<float> k = new(row + plan.QueryWidth + h * dim, dim);
            // Values come first: where they are the raw keys, the key norm below overwrites their source.
            Span<float> v = plan.ValueIsKey ? step.Scratch(worker)[..dim] : new(row + plan.QueryWidth + plan.KvWidth + h * dim, dim);
            RmsNorm.Row(plan.ValueIsKey ? k : v, [], epsilon, v);
            TKv.Store(v, values + (long)h * headBytes);

            RmsNorm.Row(k, kNorm, epsilon, k);
            fixed (float* kp = k) rope.Apply(item, kp);
            TKv.Store(k, keys + (long)h * headBytes);
        }
    }
}
