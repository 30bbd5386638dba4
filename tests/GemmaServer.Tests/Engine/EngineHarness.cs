using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer.Tests.Engine;

/// <summary>An engine on the fake runner, driven step by step, with the books checked after every one.</summary>
internal sealed class EngineHarness : IDisposable
{
    private int _ids;

    public EngineHarness(
        bool asynchronous = false, int pages = 400, int maxLength = 120, int maxSequences = 8, int maxBatchTokens = 32, int maxQueue = 1000,
        int drafts = 0, int promptLookup = 0, TimeProvider? time = null, Action<Exception>? onError = null,
        KvCachePlan? plan = null, bool prefixCaching = true, int maxQueuePerClient = 0)
    {
        Plan = plan ?? PlanOf(pages);
        Runner = new FakeModelRunner(Plan, Math.Max(16, maxSequences), Math.Max(64, maxBatchTokens), asynchronous) { MaxDrafts = drafts };
        Engine = new InferenceEngine(Runner, new EngineOptions
        {
            MaxModelLength = maxLength,
            MaxSequences = maxSequences,
            MaxBatchTokens = maxBatchTokens,
            MaxQueue = maxQueue,
            MaxQueuePerClient = maxQueuePerClient,
            PrefixCaching = prefixCaching,
            PromptLookupDrafts = promptLookup,
            DraftCost = 0.2,
            Time = time ?? TimeProvider.System,
            OnError = e => { Errors.Add(e); onError?.Invoke(e); },
        });
    }

    public KvCachePlan Plan { get; }

    public FakeModelRunner Runner { get; }

    public InferenceEngine Engine { get; }

    public List<Exception> Errors { get; } = [];

    /// <summary>A global group and two sliding ones, all with different pages and windows.</summary>
    public static KvCachePlan PlanOf(int pages) =>
        new([new KvGroup([1, 3], 9, 4, 16), new KvGroup([0, 2], 6, 3, 16), new KvGroup([4], 0, 5, 12)], 64, pages, KvCacheType.F32);

    /// <summary>As above with pages of 4, 2 and 8 positions, so that a prefix is shared in blocks of 8. Both windows begin at the last position of a page.</summary>
    public static KvCachePlan SharingPlanOf(int pages) =>
        new([new KvGroup([1, 3], 10, 4, 16), new KvGroup([0, 2], 6, 2, 16), new KvGroup([4], 0, 8, 8)], 64, pages, KvCacheType.F32);

    public static int[] Prompt(int length, int seed = 1)
    {
        Random random = new(seed);
        int[] prompt = new int[length];
        for (int i = 0; i < length; i++) prompt[i] = random.Next(FakeModel.Vocabulary);
        return prompt;
    }

    public GenerationRequest Request(
        int[] prompt, int maxTokens, SamplingParams? sampling = null, int[]? stopTokens = null, int promptLogprobs = -1, TimeSpan? queueTimeout = null,
        string? salt = null, int? boundary = null, int priority = 0, string? client = null, TimeSpan? timeout = null, TokenConstraint? constraint = null) => new()
        {
            Id = $"request-{++_ids}",
            Prompt = prompt,
            Sampling = sampling ?? new SamplingParams { Seed = (ulong)prompt.Length },
            MaxTokens = maxTokens,
            StopTokens = stopTokens ?? [],
            PromptLogprobs = promptLogprobs,
            QueueTimeout = queueTimeout,
            CacheSalt = salt,
            CacheBoundary = boundary,
            Priority = priority,
            Client = client,
            Timeout = timeout,
            Constraint = constraint,
        };

    public Generation Submit(GenerationRequest request, Func<int, bool>? endsWith = null)
    {
        Assert.Equal(SubmitResult.Accepted, Engine.TrySubmit(request, endsWith, out Generation? generation));
        return generation!;
    }

    /// <summary>The choices of one request.</summary>
    public Generation[] SubmitAll(params GenerationRequest[] requests)
    {
        Assert.Equal(SubmitResult.Accepted, Engine.TrySubmit(requests, out Generation[]? generations));
        return generations!;
    }

    public bool Step()
    {
        bool busy = Engine.Step();
        Engine.CheckIntegrity();
        return busy;
    }

    public void Steps(int count)
    {
        for (int i = 0; i < count; i++) Step();
    }

    /// <summary>Runs until nothing is left, then checks that everything was given back and no rule was broken.</summary>
    public void RunToEnd(int maxSteps = 20_000)
    {
        while (Step()) Assert.True(--maxSteps > 0, "The engine does not come to an end.");
        AssertWhole();
    }

    public void AssertWhole()
    {
        Assert.Empty(Runner.Violations);
        Assert.Equal(Plan.PageCount, Engine.Metrics.FreePages);
        Assert.Equal(0, Engine.Metrics.Running);
        Assert.Equal(0, Engine.Metrics.Waiting);
        Assert.Equal(0, Runner.OpenSlots);
    }

    /// <summary>Everything that can be read now; checks that nothing follows the end.</summary>
    public static (int[] Tokens, FinishReason Finish) Read(Generation generation)
    {
        List<int> tokens = [];
        FinishReason finish = FinishReason.None;
        while (generation.TryRead(out TokenEvent e))
        {
            Assert.Equal(FinishReason.None, finish);
            if (e.Token >= 0) tokens.Add(e.Token);
            finish = e.Finish;
        }
        Assert.Equal(finish, generation.Finish);
        return ([.. tokens], finish);
    }

    public static void AssertEnded(Generation generation, FinishReason finish, params int[] tokens)
    {
        (int[] read, FinishReason reason) = Read(generation);
        Assert.Equal(tokens, read);
        Assert.Equal(finish, reason);
    }

    public int[] Expected(GenerationRequest request, int? count = null) =>
        FakeModel.Generate(Plan, request.Prompt, request.Sampling, count ?? request.MaxTokens, request.Constraint is null ? null : new ThirdsConstraint(FakeModel.Vocabulary));

    public void Dispose() => Engine.Dispose();
}
