using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.GoldenTests;

/// <summary>A target and its drafter on one device, stepped by hand: the engine's part (slots, pages, windows) is played here.</summary>
internal sealed class DrafterHarness : IDisposable
{
    public const int MaxSequences = 48;

    private readonly Checkpoint _target, _drafter;
    private readonly IComputeDevice _device;
    private readonly Gemma4Weights _weights;
    private readonly DrafterWeights _drafterWeights;
    private readonly Gemma4Model _model;
    private readonly DrafterModel _draft;
    private readonly KvCachePlan _plan;
    private readonly StepBatch _batch = new(MaxBatchTokens, MaxSequences);
    private readonly StepResult _result = new(MaxSequences, maxDrafts: 8);
    private readonly Stack<int> _free;
    private int _slots;

    private const int MaxBatchTokens = 512;

    public DrafterHarness(string target, string drafter, ActivationType activations = ActivationType.F32, KvCacheType kv = KvCacheType.F32, int threads = 2,
        string device = GoldenDevices.Cpu)
    {
        (_target, _drafter) = (Checkpoint.Open(target), Checkpoint.Open(drafter, CheckpointKind.Drafter));
        DrafterFit.Check(_drafter, _target);
        _plan = KvCachePlanner.Plan(_target.Config, kv, 16) with { PageCount = 1500 };
        // Pages in no order.
        int[] pages = [.. Enumerable.Range(0, _plan.PageCount)];
        new Random(1).Shuffle(pages);
        _free = new Stack<int>(pages);
        _device = GoldenDevices.Open(device, activations, _target.Config.RmsEpsilon, threads, batchInvariant: true);
        _weights = new Gemma4Weights(_device, _target);
        _drafterWeights = new DrafterWeights(_device, _drafter);
        _model = new Gemma4Model(_device, _target.Config, _weights, _plan, MaxBatchTokens);
        _draft = new DrafterModel(_device, _drafter, _drafterWeights, _model, MaxSequences);
        _device.Reserve(MaxBatchTokens, MaxSequences, _target.Config.VocabularySize, _draft.Attention);
    }

    /// <summary>A sequence with what it is fed next.</summary>
    public sealed class Sequence
    {
        public required int Slot { get; init; }

        public required BlockTable Blocks { get; init; }

        /// <summary>Positions computed and kept.</summary>
        public int Length { get; set; }
    }

    /// <summary>What one step gave one sequence.</summary>
    /// <param name="Tokens">Sampled.</param>
    /// <param name="Drafts">Guessed behind them.</param>
    /// <param name="Logits">The drafter's, one row per guess, in the slot's order.</param>
    /// <param name="Positions">Position of the token before each guess.</param>
    /// <param name="Hidden">The hidden row behind each guess.</param>
    public sealed record Outcome(int[] Tokens, int[] Drafts, float[][] Logits, int[] Positions, float[][] Hidden);

    public Sequence Open(SamplingParams sampling)
    {
        _device.OpenSlot(_slots, sampling, [], []);
        return new Sequence { Slot = _slots++, Blocks = new BlockTable(_plan.Groups.Count) };
    }

    /// <summary>One step of the target and its drafter.</summary>
    /// <param name="hidden">Replaces the first sequence's hidden row before drafting.</param>
    /// <param name="rows">Per sequence: tokens, how many of the last are guesses, whether it samples, guesses wanted.</param>
    public Outcome[] Step(float[]? hidden, params (Sequence Sequence, int[] Tokens, int Drafts, bool Sample, int Wanted)[] rows)
    {
        _batch.Clear();
        foreach ((Sequence s, int[] tokens, int drafts, bool sample, int wanted) in rows)
        {
            MakeRoom(s, tokens.Length);
            _batch.Add(
                new SequenceSlice
                {
                    Slot = s.Slot, ContextLength = s.Length, Sample = sample, Drafts = drafts, DraftsWanted = wanted,
                    PromptLogprobs = -1, NextPromptToken = -1, Blocks = s.Blocks,
                },
                tokens);
        }
        _model.Forward(_batch, null, _draft.Hidden);
        _device.Collect(_result);
        if (hidden is not null) _draft.Hidden.Write(hidden);

        List<(int Slot, int Position, float[] Logits)> seen = [];
        List<float[][]> after = [];
        int wanting = rows.Count(r => r.Wanted > 0);
        _draft.Draft(_batch, _result, (slot, position, logits) => seen.Add((slot, position, logits.ToArray())),
            () =>
            {
                float[] all = new float[wanting * _draft.Hidden.Columns];
                _draft.Hidden.Read(all);
                after.Add([.. all.Chunk(_draft.Hidden.Columns)]);
            });

        Outcome[] outcomes = new Outcome[rows.Length];
        int place = 0;
        for (int i = 0; i < rows.Length; i++)
        {
            (Sequence s, int[] tokens, int drafts, bool sample, int wanted) = rows[i];
            int[] sampled = _result.Tokens(i).ToArray(), guesses = _result.Drafts(i).ToArray();
            s.Length += sample ? tokens.Length - drafts + sampled.Length - 1 : tokens.Length;
            int row = wanted > 0 ? place++ : -1;
            var own = seen.Where(x => x.Slot == s.Slot).Take(guesses.Length).ToArray();
            outcomes[i] = new(sampled, guesses, [.. own.Select(x => x.Logits)], [.. own.Select(x => x.Position)],
                row < 0 ? [] : [.. after.Take(guesses.Length).Select(a => a[row])]);
        }
        return outcomes;
    }

    /// <summary>The whole prompt in chunks; the last one samples and drafts.</summary>
    public Outcome Prefill(Sequence sequence, int[] prompt, int wanted, int chunk = MaxBatchTokens, float[]? hidden = null)
    {
        int at = 0;
        for (; prompt.Length - at > chunk; at += chunk) Step(null, (sequence, prompt[at..(at + chunk)], 0, false, 0));
        return Step(hidden, (sequence, prompt[at..], 0, true, wanted))[0];
    }

    /// <summary>Bytes that drafting alone allocates on this thread, for the batch of the last step.</summary>
    public long DraftAllocations()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        _draft.Draft(_batch, _result);
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    public void Forward()
    {
        _model.Forward(_batch, null, _draft.Hidden);
        _device.Collect(_result);
    }

    public void Dispose()
    {
        _draft.Dispose();
        _model.Dispose();
        _drafterWeights.Dispose();
        _weights.Dispose();
        _device.Dispose();
        _drafter.Dispose();
        _target.Dispose();
    }

    /// <summary>Pages for the rows to come; those that no window reaches any more go back and are written over by others.</summary>
    private void MakeRoom(Sequence s, int rows)
    {
        for (int g = 0; g < _plan.Groups.Count; g++)
        {
            KvGroup group = _plan.Groups[g];
            for (int page = 0; group.Window > 0 && page < s.Blocks.Count(g) && (page + 1) * group.TokensPerPage <= s.Length - group.Window + 1; page++)
                if (s.Blocks.Pages(g)[page] != BlockTable.Released) _free.Push(s.Blocks.Release(g, page));
            while (s.Blocks.Count(g) * group.TokensPerPage < s.Length + rows) s.Blocks.Add(g, _free.Pop());
        }
    }
}
