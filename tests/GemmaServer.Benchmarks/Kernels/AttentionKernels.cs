using GemmaServer.Compute;

namespace GemmaServer.Benchmarks;

/// <summary>Attention of E2B's sliding and global layers over pages of f16, for rows that decode and for a chunk of a prompt.</summary>
internal sealed class AttentionKernels(KernelTimer timer, int threads, IReadOnlyList<int> contexts)
{
    private const int Heads = 8, KvHeads = 1, Window = 512, TokensPerPage = 64, Copies = 8;

    public IEnumerable<KernelResult> Run()
    {
        foreach ((string name, int dim, int window) in ((string, int, int)[])[("sliding", 256, Window), ("global", 512, 0)])
            foreach (KernelResult result in Run(name, dim, window)) yield return result;
    }

    private List<KernelResult> Run(string name, int dim, int window)
    {
        int length = contexts.Max() + KernelStep.MaxRows, pages = (length + TokensPerPage - 1) / TokensPerPage;
        long bytesPerToken = KvLayout.BytesPerToken(KvCacheType.F16, KvHeads, dim, dim);
        // Several layers, one read after the other, so that a context does not stay in the cache from run to run.
        KvCachePlan plan = new([new KvGroup([.. Enumerable.Range(0, Copies)], window, TokensPerPage, Copies * bytesPerToken)], Copies * bytesPerToken * TokensPerPage, pages, KvCacheType.F16);
        AttentionPlan[] layers = [.. Enumerable.Range(0, Copies).Select(i => new AttentionPlan(Heads, KvHeads, dim, window, 0, 0, i, OwnsKv: true, ValueIsKey: false, KeyDim: dim))];
        using KernelStep step = new(threads, ActivationType.Int8, vocabulary: 1024, layers);
        DeviceKvCache cache = step.Own(step.Device.CreateKvCache(plan, layer => layers[layer]));
        DeviceTensor qkv = step.Random(layers[0].QkvWidth), heads = step.Empty(layers[0].QueryWidth);
        DeviceVector norm = step.Ones(dim);
        BlockTable blocks = new(1);
        for (int page = 0; page < pages; page++) blocks.Add(0, page);
        for (int at = 0; at < length; at += KernelStep.MaxRows)
        {
            step.BeginChunk(Math.Min(KernelStep.MaxRows, length - at), at, blocks);
            foreach (AttentionPlan layer in layers) step.Device.NormRopeStore(layer, norm, norm, qkv, cache);
        }

        List<KernelResult> results = [];
        void Measure(string kernel, int context, int rows, double keys, double bytes)
        {
            double seconds = timer.Best(turn => step.Device.Attend(layers[turn % Copies], qkv, cache, heads));
            results.Add(new($"{kernel}, {name}", $"{Heads} heads of {dim}, context {context}", rows, seconds, bytes, 4.0 * Heads * dim * keys, IsInteger: false));
        }

        foreach (int context in contexts)
        {
            double seen = window == 0 ? context + 1 : Math.Min(window, context + 1);
            foreach (int sequences in (ReadOnlySpan<int>)[1, 8])
            {
                step.BeginDecode(sequences, context, blocks);
                // The sequences share pages here, so only the first one's are sure to come from memory.
                Measure("attention, decode", context, sequences, sequences * seen, sequences == 1 ? seen * bytesPerToken : 0);
            }
            step.BeginChunk(KernelStep.MaxRows, context, blocks);
            double keys = Enumerable.Range(context, KernelStep.MaxRows).Sum(p => window == 0 ? p + 1.0 : Math.Min(window, p + 1));
            Measure("attention, prompt", context, KernelStep.MaxRows, keys, 0);
            double store = timer.Best(turn => step.Device.NormRopeStore(layers[turn % Copies], norm, norm, qkv, cache));
            if (context == contexts[0]) results.Add(new($"norm, rope and store, {name}", $"{layers[0].QkvWidth} columns", KernelStep.MaxRows, store, 0, 0, IsInteger: false));
        }
        return results;
    }
}
