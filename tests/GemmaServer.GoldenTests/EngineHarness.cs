using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Model;

namespace GemmaServer.GoldenTests;

/// <summary>A checkpoint served by the real engine, with every row of logits recorded per request.</summary>
internal sealed class EngineHarness : IDisposable
{
    private readonly Checkpoint _checkpoint;
    private readonly ModelRunner _runner;
    private readonly RecordingRunner _recorder;

    public EngineHarness(string path, ActivationType activations, KvCacheType kv, int maxBatchTokens = 512, int threads = 2, long kvMemory = 64 << 20,
        string device = GoldenDevices.Cpu, bool batchInvariant = false)
        : this(Checkpoint.Open(path), epsilon => GoldenDevices.Open(device, activations, epsilon, threads, batchInvariant), kv, maxBatchTokens, kvMemory)
    {
    }

    /// <summary>Serves on a device of one's own, made with the model's epsilon.</summary>
    public EngineHarness(Checkpoint checkpoint, Func<float, IComputeDevice> device, KvCacheType kv, int maxBatchTokens = 512, long kvMemory = 64 << 20)
    {
        _checkpoint = checkpoint;
        RunnerPlan plan = RunnerPlan.Make(
            checkpoint.Config, 0, new RunnerOptions(kv, BlockSize: 16, kvMemory, MaxModelLength: 512, MaxSequences: 16, maxBatchTokens), DeviceBudget.Cpu(4L << 30));
        _runner = new ModelRunner(device(checkpoint.Config.RmsEpsilon), checkpoint, plan);
        _recorder = new RecordingRunner(_runner);
        Engine = new InferenceEngine(_recorder, new EngineOptions { MaxModelLength = plan.MaxModelLength, MaxBatchTokens = maxBatchTokens, MaxSequences = 16, OnError = static e => Console.Error.WriteLine(e) });
        Engine.Start();
    }

    public InferenceEngine Engine { get; }

    /// <summary>Logits of every position of each prompt, all prompts submitted at once: <c>[prompt][position][vocabulary]</c>.</summary>
    public async Task<float[][][]> LogitsAsync(params int[][] prompts)
    {
        List<Generation> running = [];
        foreach (int[] prompt in prompts)
            running.Add(Submit(prompt, new SamplingParams { Temperature = 0 }, maxTokens: 1, promptLogprobs: 0));
        foreach (Generation g in running) await TokensAsync(g);
        return [.. prompts.Select(p => _recorder.Rows(p))];
    }

    public async Task<int[]> GreedyAsync(int[] prompt, int tokens) =>
        await TokensAsync(Submit(prompt, new SamplingParams { Temperature = 0 }, tokens, promptLogprobs: -1));

    public Generation Submit(int[] prompt, SamplingParams sampling, int maxTokens, int promptLogprobs = -1)
    {
        GenerationRequest request = new() { Id = "golden", Prompt = prompt, Sampling = sampling, MaxTokens = maxTokens, PromptLogprobs = promptLogprobs };
        Assert.Equal(SubmitResult.Accepted, Engine.TrySubmit(request, out Generation? generation));
        return generation!;
    }

    public static async Task<int[]> TokensAsync(Generation generation)
    {
        List<int> tokens = [];
        while (await generation.WaitToReadAsync())
        {
            while (generation.TryRead(out TokenEvent e))
            {
                if (e.Token >= 0) tokens.Add(e.Token);
                Assert.True(e.Finish is FinishReason.None or FinishReason.Length or FinishReason.Stop, $"ended with {e.Finish}");
            }
        }
        return [.. tokens];
    }

    public void Dispose()
    {
        Engine.Dispose();
        _runner.Dispose();
        _checkpoint.Dispose();
    }

    /// <summary>Passes everything through and keeps the logits under the prompt that holds the slot.</summary>
    private sealed class RecordingRunner : IModelRunner
    {
        private readonly ModelRunner _inner;
        private readonly Dictionary<int, List<(int Position, float[] Logits)>> _bySlot = [];
        private readonly List<(int[] Prompt, List<(int Position, float[] Logits)> Rows)> _byPrompt = [];

        public RecordingRunner(ModelRunner inner)
        {
            _inner = inner;
            inner.LogitsTap = (slot, position, logits) => _bySlot[slot].Add((position, logits.ToArray()));
        }

        public KvCachePlan KvCache => _inner.KvCache;

        public int VocabularySize => _inner.VocabularySize;

        public int MaxSequences => _inner.MaxSequences;

        public int MaxBatchTokens => _inner.MaxBatchTokens;

        public bool IsAsynchronous => _inner.IsAsynchronous;

        public float[][] Rows(int[] prompt)
        {
            lock (_byPrompt)
            {
                List<(int Position, float[] Logits)> rows = _byPrompt.Last(p => p.Prompt.AsSpan().SequenceEqual(prompt)).Rows;
                Assert.Equal(Enumerable.Range(0, prompt.Length), rows.Select(r => r.Position));
                return [.. rows.Select(r => r.Logits)];
            }
        }

        public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
        {
            lock (_byPrompt)
            {
                _bySlot[slot] = [];
                _byPrompt.Add((prompt.ToArray(), _bySlot[slot]));
            }
            _inner.OpenSlot(slot, sampling, prompt, output);
        }

        public void CloseSlot(int slot) => _inner.CloseSlot(slot);

        public StepTicket Launch(StepBatch batch) => _inner.Launch(batch);

        public StepResult Collect(StepTicket ticket) => _inner.Collect(ticket);

        public void Dispose()
        {
        }
    }
}
