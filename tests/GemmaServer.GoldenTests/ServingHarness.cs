using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Model;

namespace GemmaServer.GoldenTests;

/// <summary>
/// A checkpoint served as shipped (the device's fast arithmetic, f16 cache; on GPUs batch-invariant, because bits are compared),
/// with nothing listening in between.
/// </summary>
internal sealed class ServingHarness : IDisposable
{
    private readonly ModelRunner _runner;
    private readonly Checkpoint? _drafter;

    /// <param name="path">Checkpoint.</param>
    /// <param name="sparePages">Pages beside those of one sequence of full length; null for as many as all slots can use.</param>
    /// <param name="maxLength">Tokens of the longest sequence.</param>
    /// <param name="maxBatchTokens">Rows in a step.</param>
    /// <param name="prefixCaching">Whether sequences share what they computed.</param>
    /// <param name="promptLookup">Most tokens a step that are guessed from the text itself.</param>
    /// <param name="wrap">Puts something between engine and runner.</param>
    /// <param name="drafter">Checkpoint of an MTP assistant that guesses up to four tokens a step.</param>
    /// <param name="maxSequences">Sequences at once.</param>
    /// <param name="draftCost">What a guess costs as a share of a token; at 0 guessing always pays.</param>
    /// <param name="threads">Of the device; answers do not depend on them.</param>
    /// <param name="maxQueue">Requests that may wait.</param>
    /// <param name="maxQueuePerClient">Those of one client; 0 for no limit.</param>
    /// <param name="device">Where it runs.</param>
    /// <param name="batchInvariant">On GPUs: whether one kernel serves steps of all sizes.</param>
    public ServingHarness(
        string path, int? sparePages = null, int maxLength = 256, int maxBatchTokens = 64, bool prefixCaching = true, int promptLookup = 0,
        Func<IModelRunner, IModelRunner>? wrap = null, string? drafter = null, double draftCost = 0.2, int maxSequences = 16,
        int threads = 2, int maxQueue = 1024, int maxQueuePerClient = 0, string device = GoldenDevices.Cpu, bool batchInvariant = true)
    {
        Checkpoint checkpoint = Checkpoint.Open(path);
        KvCachePlan shape = KvCachePlanner.Plan(checkpoint.Config, KvCacheType.F16, 16);
        int one = shape.PagesForSequence(maxLength, maxBatchTokens);
        long memory = shape.PageBytes * (sparePages is int spare ? one + spare : (long)maxSequences * one);
        RunnerPlan plan = RunnerPlan.Make(
            checkpoint.Config, 0, new RunnerOptions(KvCacheType.F16, BlockSize: 16, memory, maxLength, MaxSequences: maxSequences, maxBatchTokens), DeviceBudget.Cpu(4L << 30));
        _drafter = drafter is null ? null : Checkpoint.Open(drafter, CheckpointKind.Drafter);
        ActivationType activations = device == GoldenDevices.Cpu ? ActivationType.Int8 : ActivationType.F32;
        IComputeDevice opened = GoldenDevices.Open(device, activations, checkpoint.Config.RmsEpsilon, threads, batchInvariant);
        _runner = new ModelRunner(opened, checkpoint, plan, _drafter, maxDrafts: 4);
        Engine = new InferenceEngine(wrap?.Invoke(_runner) ?? _runner, new EngineOptions
        {
            MaxModelLength = maxLength, MaxBatchTokens = maxBatchTokens, MaxSequences = maxSequences, PrefixCaching = prefixCaching, OnError = Errors.Add,
            PromptLookupDrafts = promptLookup, DraftCost = draftCost, MaxQueue = maxQueue, MaxQueuePerClient = maxQueuePerClient,
        });
    }

    public InferenceEngine Engine { get; }

    public List<Exception> Errors { get; } = [];

    /// <summary>By layer group.</summary>
    public IEnumerable<int> TokensPerPage => _runner.KvCache.Groups.Select(g => g.TokensPerPage);

    public int Vocabulary => _runner.VocabularySize;

    /// <summary>One form of every reference model: the first file, or the folder where there is none.</summary>
    public static IEnumerable<object[]> Models() =>
        GoldenModel.All().GroupBy(m => m[0]).Select(g => g.OrderBy(m => (string)m[1] == "master").First());

    /// <summary>Those models on the CPU; on other devices, which compile their kernels first, the first of them.</summary>
    public static IEnumerable<object[]> OnDevices() => GoldenDevices.With(Models(), Models().Take(1), slow: false);

    public Generation Submit(int[] prompt, SamplingParams sampling, int maxTokens)
    {
        GenerationRequest request = new() { Id = "serving", Prompt = prompt, Sampling = sampling, MaxTokens = maxTokens };
        Assert.Equal(SubmitResult.Accepted, Engine.TrySubmit(request, out Generation? generation));
        return generation!;
    }

    public int[] Prompt(int length, int seed)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, length).Select(_ => random.Next(Vocabulary))];
    }

    /// <summary>Same tokens, same logprobs to the bit, same end.</summary>
    public static void AssertSame(TokenEvent[] expected, TokenEvent[] actual)
    {
        Assert.Equal(expected.Select(e => (e.Token, e.Logprob, e.Finish)), actual.Select(e => (e.Token, e.Logprob, e.Finish)));
        for (int i = 0; i < expected.Length; i++) Assert.Equal(expected[i].TopLogprobs, actual[i].TopLogprobs);
    }

    /// <summary>Reads an answer that ends at its length.</summary>
    public static async Task<TokenEvent[]> EventsAsync(Generation generation)
    {
        List<TokenEvent> events = [];
        while (await generation.WaitToReadAsync())
            while (generation.TryRead(out TokenEvent e)) events.Add(e);
        Assert.Equal(FinishReason.Length, events[^1].Finish);
        return [.. events];
    }

    public void Dispose()
    {
        Engine.Dispose();
        _runner.Dispose();
        _drafter?.Dispose();
    }
}
