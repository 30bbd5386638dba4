using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>
/// Steps whose results nobody wants, run before the first request: devices compile a kernel when a step first needs it, and which
/// kernels that are depends on the number of rows and on what is sampled how.
/// </summary>
internal static class WarmUp
{
    /// <summary>A decode step of more rows takes kernels that prompts of as many have taken already.</summary>
    private const int MostSequences = 64;

    /// <summary>Most rows of logits that a device computes at once.</summary>
    private const int MostLogitRows = 32;

    /// <summary>
    /// Prompts of every power of two up to the largest step, then decode steps of every power of two of sequences behind the
    /// longest prompt: greedy, with everything that sampling knows, and with a nucleus of the whole vocabulary.
    /// </summary>
    /// <param name="runner">Nothing is under way on it. Its pages hold garbage afterwards, which no sequence reads.</param>
    /// <param name="isDrafting">Whether the runner has a drafter, which then guesses too.</param>
    public static void Run(IModelRunner runner, bool isDrafting)
    {
        int mostRows = runner.MaxBatchTokens, mostSequences = Math.Min(Math.Min(runner.MaxSequences, mostRows), MostSequences);
        int context = FirstPageOnly(runner.KvCache, mostRows);
        StepBatch batch = new(mostRows, mostSequences);
        foreach (int rows in PowersUpTo(mostRows, from: 2))
        {
            Open(runner, 1, s_greedy);
            // Logprobs of a whole prompt take the head's kernels for many rows.
            Step(runner, batch, 1, rows, 0, isDrafting, rows <= MostLogitRows ? 1 : -1);
            runner.CloseSlot(0);
        }
        foreach (int sequences in PowersUpTo(mostSequences, from: 1))
        {
            foreach (SamplingParams sampling in (SamplingParams[])[s_greedy, s_topK, s_nucleus])
            {
                Open(runner, sequences, sampling);
                // Twice: a device that records a step does so the first time and runs the recording from then on.
                for (int i = 0; i < 2; i++) Step(runner, batch, sequences, 1, context, isDrafting);
                for (int slot = 0; slot < sequences; slot++) runner.CloseSlot(slot);
            }
        }
    }

    private static readonly SamplingParams s_greedy = new() { Temperature = 0 };

    private static readonly SamplingParams s_topK = new() { TopK = 64, TopP = 0.95f, MinP = 0.05f, RepetitionPenalty = 1.1f, Logprobs = 5 };

    private static readonly SamplingParams s_nucleus = new() { TopP = 0.95f };

    private static void Open(IModelRunner runner, int sequences, SamplingParams sampling)
    {
        for (int slot = 0; slot < sequences; slot++) runner.OpenSlot(slot, sampling, [0], []);
    }

    /// <summary>One step of equal slices, all of them on the pool's first page.</summary>
    private static void Step(IModelRunner runner, StepBatch batch, int sequences, int rows, int context, bool isDrafting, int promptLogprobs = -1)
    {
        BlockTable blocks = new(runner.KvCache.Groups.Count);
        for (int g = 0; g < runner.KvCache.Groups.Count; g++)
            for (int p = 0; p <= (context + rows - 1) / runner.KvCache.Groups[g].TokensPerPage; p++) blocks.Add(g, 0);
        batch.Clear();
        for (int slot = 0; slot < sequences; slot++)
        {
            batch.Add(
                new SequenceSlice
                {
                    Slot = slot, ContextLength = context, Sample = true, PromptLogprobs = promptLogprobs, NextPromptToken = -1, Blocks = blocks,
                    DraftsWanted = isDrafting ? runner.MaxDrafts : 0,
                },
                new int[rows]);
        }
        runner.Collect(runner.Launch(batch));
    }

    /// <summary>
    /// A context that decode may have: as long as the longest prompt where that wrote every position of a page, else none, because
    /// what was never written could be no number at all.
    /// </summary>
    private static int FirstPageOnly(KvCachePlan plan, int written)
    {
        foreach (KvGroup group in plan.Groups)
            if (group.TokensPerPage > written) return 0;
        return written;
    }

    private static IEnumerable<int> PowersUpTo(int most, int from)
    {
        for (int n = from; n < most; n *= 2) yield return n;
        yield return most;
    }
}
