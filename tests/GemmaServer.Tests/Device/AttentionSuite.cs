using GemmaServer.Compute;

namespace GemmaServer.Tests.Device;

/// <summary>
/// Rotations, norms, the KV store and paged attention of every device, held against the CPU's; the CPU's are held against plain
/// loops elsewhere.
/// </summary>
[Trait("Category", "Device")]
public sealed class AttentionSuite
{
    /// <summary>Prompts in chunks beside decoding rows, decoding alone (three rows: a bucket's grid is larger), guesses to check, a drafter.</summary>
    private static readonly (int, int)[][] s_steps =
    [
        [(0, 40), (1, 5)],
        [(0, 300), (2, 9), (1, 1)],
        [(0, 1), (1, 1), (2, 1)],
        [(1, 1), (0, 190), (3, 64)],
        [(2, 0), (3, 0), (0, 0)],
        [(2, 5), (0, 4)],
        [(3, 1), (2, 1), (0, 1), (1, 1)],
        [(1, 0)],
    ];

    /// <summary>The same in short, for heads that cost much to compute: within a chunk of keys, across several windows of 40.</summary>
    private static readonly (int, int)[][] s_shortSteps =
    [
        [(0, 60), (1, 5)],
        [(0, 1), (1, 1), (2, 1)],
        [(1, 1), (0, 45), (3, 12)],
        [(2, 0), (3, 0), (0, 0)],
        [(3, 1), (2, 1), (0, 1), (1, 1)],
    ];

    public static TheoryData<string, KvCacheType> Types
    {
        get
        {
            TheoryData<string, KvCacheType> data = [];
            foreach (string device in TestDevices.Names)
                foreach (KvCacheType type in Enum.GetValues<KvCacheType>()) data.Add(device, type);
            return data;
        }
    }

    public static TheoryData<string, int, int, int, int, int, int, bool> Shapes
    {
        get
        {
            TheoryData<string, int, int, int, int, int, int, bool> data = [];
            foreach (string device in TestDevices.Names)
            {
                data.Add(device, 8, 8, 2, 16, 48, 1, false);       // a window of one: a drafter's row sees nothing
                data.Add(device, 6, 2, 1, 80, 128, 300, true);     // no power of two
                // For a simulator with a quarter of the heads: published heads, in short steps, and more heads than one group of a GPU takes.
                int part = device == TestDevices.Simulator ? 4 : 1;
                data.Add(device, 16 / part, 8 / part, 1, 256, 512, 40, true);
                data.Add(device, 40 / part, 1, 2, 32, 32, 17, false);
            }
            return data;
        }
    }

    [DeviceTheory]
    [MemberData(nameof(Types))]
    public void Every_cache_type(string device, KvCacheType type) => AssertSame(new AttentionCase(type), device);

    [DeviceTheory]
    [MemberData(nameof(Shapes))]
    public void Heads_dimensions_and_windows(string device, int heads, int slidingKvHeads, int globalKvHeads, int slidingDim, int globalDim, int window, bool valueIsKey) =>
        AssertSame(new AttentionCase(KvCacheType.F16, heads, slidingKvHeads, globalKvHeads, slidingDim, globalDim, window, globalDim / 8, valueIsKey), device,
            steps: slidingDim >= 256 ? s_shortSteps : s_steps);

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Compact_pages_of_any_number_of_pairs(string device)
    {
        AssertSame(new AttentionCase(KvCacheType.F32, Pairs: 5), device);
        AssertSame(new AttentionCase(KvCacheType.BF16, Pairs: 7), device);
        AssertSame(new AttentionCase(KvCacheType.F16, Pairs: 0), device);
        AssertSame(new AttentionCase(KvCacheType.Q8_0, Pairs: 8), device); // half a block: whole keys, values beside them
    }

    public static TheoryData<string> Rounding => [.. TestDevices.RoundingToBf16];

    /// <summary>With bf16 activations a device may round a prompt's queries and weights to the pages' type, and no more.</summary>
    [RoundingTheory]
    [MemberData(nameof(Rounding))]
    public void Rounded_queries_and_weights(string device)
    {
        AssertSame(new AttentionCase(KvCacheType.F16), device, ActivationType.BF16, 3e-3);
        AssertSame(new AttentionCase(KvCacheType.BF16), device, ActivationType.BF16, 2e-2);
        // A published shape, whose scores are larger; minutes on the stand-in driver.
        if (device == "cuda" && !CudaDriver.IsStandIn) AssertSame(new AttentionCase(KvCacheType.F16, 16, 8, 1, 256, 512, 512, 64), device, ActivationType.BF16, 6e-3);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Batch_invariant_rows_are_right(string device) => AssertSame(new AttentionCase(KvCacheType.F16), device, batchInvariant: true);

    /// <summary>One long context beside short ones: chunks for all of them need more room than there is, those of the long one alone do not.</summary>
    [DeviceTheory]
    [MemberData(nameof(TestDevices.Gpus), MemberType = typeof(TestDevices))]
    public void Without_room_for_the_chunks_sums_rows_go_through_their_chunks(string device)
    {
        // Two chunks of the global layer's four heads: 2 KiB a row.
        foreach (long scratch in (long[])[64, 5000])
            AssertSame(new AttentionCase(KvCacheType.F16), device, adjust: o => o with { AttentionScratch = scratch });
    }

    /// <summary>Steps of one layer's rows cut in other ways: the sequence alone, in other chunks, beside others.</summary>
    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Batch_invariant_rows_do_not_depend_on_how_a_prompt_is_cut(string device)
    {
        foreach (int window in new[] { 0, 40 })
        {
            float[] whole = Chunked(device, window, [330]);
            Assert.Equal(whole, Chunked(device, window, [1, 1, 7, 201, 1, 115, 4]));
            Assert.Equal(whole, Chunked(device, window, [300, .. Enumerable.Repeat(1, 30)]));
        }
    }

    private static void AssertSame(
        AttentionCase c, string device, ActivationType activations = ActivationType.F32, double? tolerance = null, bool batchInvariant = false,
        (int, int)[][]? steps = null, Func<GpuOptions, GpuOptions>? adjust = null)
    {
        using DevicePair pair = new(device, activations, batchInvariant, adjust);
        List<float[]>[] results = pair.Both(d => c.Run(d, pair, steps ?? s_steps));
        Assert.Equal(results[0].Count, results[1].Count);
        for (int i = 0; i < results[0].Count; i++) DevicePair.AssertClose(results[0][i], results[1][i], (float)(tolerance ?? AttentionCase.Tolerance(c.Type)));
    }

    private static float[] Chunked(string device, int window, int[] chunks)
    {
        const int Heads = 6, KvHeads = 3, Dim = 32, TokensPerPage = 16, Length = 330;
        using DevicePair pair = new(device, batchInvariant: true);
        IComputeDevice d = pair.Tested;
        AttentionPlan shape = new(Heads, KvHeads, Dim, window, 0, 0, 0, OwnsKv: true, ValueIsKey: false, Dim);
        long bytes = KvLayout.BytesPerToken(KvCacheType.F16, KvHeads, Dim, Dim);
        KvCachePlan plan = new([new KvGroup([0], window, TokensPerPage, bytes)], bytes * TokensPerPage, 40, KvCacheType.F16);
        d.AddRope([.. Enumerable.Range(0, Dim / 2).Select(i => (float)Math.Pow(1e4, -2.0 * i / Dim))]);
        using DeviceKvCache cache = d.CreateKvCache(plan, _ => shape);
        d.Reserve(Length + 3, 2, 64);
        using DeviceVector norm = d.LoadVector(pair.Weight(TensorType.F32, 1, Dim, 1).Source, 3);
        using DeviceTensor qkv = d.CreateTensor(Length + 3, shape.QkvWidth), heads = d.CreateTensor(Length + 3, shape.QueryWidth);
        float[] rows = DevicePair.Random(Length * shape.QkvWidth, 2), beside = DevicePair.Random(2 * shape.QkvWidth, 3);
        BlockTable table = new(1), other = new(1);
        for (int i = 0; i < 21; i++) table.Add(0, (i * 8 + 3) % 21);
        for (int i = 21; i < 40; i++) other.Add(0, i);
        StepBatch batch = new(Length + 3, 2);
        List<float> result = [];
        int done = 0;
        foreach (int chunk in chunks)
        {
            batch.Clear();
            // Another sequence comes first, so that rows stand in other places.
            batch.Add(new SequenceSlice { Slot = 1, ContextLength = result.Count % 3, Blocks = other, PromptLogprobs = -1, NextPromptToken = -1 }, new int[2]);
            batch.Add(new SequenceSlice { ContextLength = done, Blocks = table, PromptLogprobs = -1, NextPromptToken = -1 }, new int[chunk]);
            d.BeginStep(batch);
            qkv.Write([.. beside, .. rows.AsSpan(done * shape.QkvWidth, chunk * shape.QkvWidth)]);
            d.NormRopeStore(shape, norm, norm, qkv, cache);
            d.Attend(shape, qkv, cache, heads);
            result.AddRange(DevicePair.Rows(heads, chunk + 2)[(2 * shape.QueryWidth)..]);
            done += chunk;
        }
        return [.. result];
    }
}
