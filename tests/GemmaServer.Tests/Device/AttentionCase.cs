using GemmaServer.Compute;

namespace GemmaServer.Tests.Device;

/// <summary>
/// Layers over two groups of pages: sliding layers 0 and 1, global layer 2 (its values its raw keys where so asked), then two that
/// own no cache and read those of 1 and 2. Sequences take shuffled pages; a sliding group's go back as soon as no row sees them.
/// </summary>
internal sealed record AttentionCase(
    KvCacheType Type, int Heads = 4, int SlidingKvHeads = 2, int GlobalKvHeads = 1, int SlidingDim = 32, int GlobalDim = 64, int Window = 40, int Pairs = 16, bool ValueIsKey = true)
{
    private const int Sequences = 4, MaxRows = 400, Pages = 120, Layers = 5;

    private static readonly int[] s_tokensPerPage = [16, 32];

    public int KeyDim => KvLayout.KeyDim(Type, GlobalDim, ValueIsKey, Pairs);

    private AttentionPlan Plan(int layer)
    {
        bool sliding = layer is 0 or 1 or 3;
        return sliding
            ? new(Heads, SlidingKvHeads, SlidingDim, Window, Rope: 0, KvGroup: 0, KvIndex: layer == 0 ? 0 : 1, OwnsKv: layer < 3, ValueIsKey: false, SlidingDim)
            : new(Heads, GlobalKvHeads, GlobalDim, 0, Rope: 1, KvGroup: 1, KvIndex: 0, OwnsKv: layer < 3, ValueIsKey, KeyDim);
    }

    private AttentionPlan Reader(int layer) => Plan(layer) with { OwnsKv = false, PastOnly = true };

    /// <summary>Outputs of every layer of every step, one array for each.</summary>
    /// <param name="device">A fresh one.</param>
    /// <param name="weights">Where norms live.</param>
    /// <param name="steps">By step: sequences and their rows; 0 rows: a drafter's row at the position that comes next.</param>
    public List<float[]> Run(IComputeDevice device, DevicePair weights, (int Sequence, int Rows)[][] steps)
    {
        AttentionPlan[] plans = [.. Enumerable.Range(0, Layers).Select(Plan)], readers = [Reader(1), Reader(2)];
        device.AddRope([.. Enumerable.Range(0, SlidingDim / 2).Select(i => (float)Math.Pow(1e4, -2.0 * i / SlidingDim))]);
        device.AddRope([.. Enumerable.Range(0, GlobalDim / 2).Select(i => i < Pairs ? (float)Math.Pow(1e6, -2.0 * i / GlobalDim) : 0f)]);
        long[] bytes = [2 * KvLayout.BytesPerToken(Type, SlidingKvHeads, SlidingDim, SlidingDim), KvLayout.BytesPerToken(Type, GlobalKvHeads, GlobalDim, KeyDim)];
        long pageBytes = (Math.Max(bytes[0] * s_tokensPerPage[0], bytes[1] * s_tokensPerPage[1]) + 63) / 64 * 64;
        KvCachePlan plan = new([new KvGroup([0, 1], Window, s_tokensPerPage[0], bytes[0]), new KvGroup([2], 0, s_tokensPerPage[1], bytes[1])], pageBytes, Pages, Type);
        using DeviceKvCache cache = device.CreateKvCache(plan, l => plans[l]);
        device.Reserve(MaxRows, Sequences, 64, readers);

        DeviceVector[] qNorms = [.. plans.Select((p, l) => device.LoadVector(weights.Weight(TensorType.F32, 1, p.HeadDim, 100 + l).Source, 2))];
        DeviceVector[] kNorms = [.. plans.Select((p, l) => device.LoadVector(weights.Weight(TensorType.F32, 1, p.HeadDim, 200 + Owner(l)).Source, 2))];
        Stack<int> free = new(Shuffled(Pages));
        BlockTable[] tables = [.. Enumerable.Range(0, Sequences).Select(_ => new BlockTable(2))];
        int[] done = new int[Sequences];
        StepBatch batch = new(MaxRows, Sequences);
        List<float[]> results = [];
        for (int s = 0; s < steps.Length; s++)
        {
            batch.Clear();
            bool drafts = steps[s][0].Rows == 0;
            foreach ((int sequence, int rows) in steps[s])
            {
                Provide(tables[sequence], free, done[sequence], rows);
                batch.Add(new SequenceSlice { Slot = sequence, ContextLength = done[sequence], Blocks = tables[sequence], PromptLogprobs = -1, NextPromptToken = -1 }, new int[Math.Max(rows, 1)]);
                done[sequence] += rows;
            }
            device.BeginStep(batch);
            for (int l = 0; l < (drafts ? readers.Length : Layers); l++)
            {
                AttentionPlan layer = drafts ? readers[l] : plans[l];
                int norms = drafts ? l + 1 : l;
                // Wider than what is used: a row's stride is its tensor's.
                using DeviceTensor qkv = device.CreateTensor(MaxRows, layer.QkvWidth + 16), heads = device.CreateTensor(MaxRows, layer.QueryWidth + 16);
                qkv.Write(DevicePair.Random(batch.TokenCount * qkv.Columns, 1000 * s + l));
                heads.Write(new float[MaxRows * heads.Columns]);
                device.NormRopeStore(layer, qNorms[norms], kNorms[norms], qkv, cache);
                device.Attend(layer, qkv, cache, heads);
                // All rows: those behind the step's stay as they were.
                results.Add(DevicePair.Rows(heads, MaxRows));
            }
        }
        foreach (DeviceVector norm in (DeviceVector[])[.. qNorms, .. kNorms]) norm.Dispose();
        return results;
    }

    public static double Tolerance(KvCacheType type) => type switch
    {
        // A sum in another order may round a stored element the other way.
        KvCacheType.F32 => 2e-5,
        KvCacheType.F16 => 1e-3,
        KvCacheType.BF16 => 6e-3,
        _ => 8e-3,
    };

    private static int Owner(int layer) => layer switch { 3 => 1, 4 => 2, _ => layer };

    private static int[] Shuffled(int count)
    {
        int[] pages = [.. Enumerable.Range(0, count)];
        new Random(3).Shuffle(pages);
        return pages;
    }

    private void Provide(BlockTable table, Stack<int> free, int context, int rows)
    {
        for (int g = 0; g < 2; g++)
        {
            int perPage = s_tokensPerPage[g];
            while (table.Count(g) * perPage < context + rows) table.Add(g, free.Pop());
            for (int p = 0; g == 0 && (p + 1) * perPage <= context - Window + 1; p++)
                if (table.Pages(g)[p] != BlockTable.Released) free.Push(table.Release(g, p));
        }
    }
}
