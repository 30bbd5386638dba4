using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.GoldenTests;

/// <summary>A real runner beside someone who knows the answers and guesses the next tokens: right or wrong as a test wants it.</summary>
/// <param name="inner">Computes.</param>
/// <param name="answer">The tokens that follow a prompt under a seed.</param>
/// <param name="accuracy">How many of a hundred guesses are right.</param>
internal sealed class GuessingRunner(IModelRunner inner, Func<int[], ulong, int[]> answer, int accuracy) : IModelRunner
{
    private readonly StepResult _result = new(inner.MaxSequences, 8);
    private readonly (int PromptLength, int[] Answer)[] _slots = new (int, int[])[inner.MaxSequences];
    private SequenceSlice[] _slices = [];

    public KvCachePlan KvCache => inner.KvCache;

    public int VocabularySize => inner.VocabularySize;

    public int MaxSequences => inner.MaxSequences;

    public int MaxBatchTokens => inner.MaxBatchTokens;

    public int MaxDrafts => 8;

    public bool IsAsynchronous => inner.IsAsynchronous;

    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        _slots[slot] = (prompt.Length, answer(prompt.ToArray(), sampling.Seed));
        inner.OpenSlot(slot, sampling, prompt, output);
    }

    public void CloseSlot(int slot) => inner.CloseSlot(slot);

    public StepTicket Launch(StepBatch batch)
    {
        _slices = batch.Slices.ToArray();
        return inner.Launch(batch);
    }

    public StepResult Collect(StepTicket ticket)
    {
        StepResult real = inner.Collect(ticket);
        _result.Begin();
        for (int s = 0; s < _slices.Length; s++)
        {
            for (int i = 0; i < real.Tokens(s).Length; i++) _result.AddToken(real.Tokens(s)[i], real.Logprob(s, i), real.TopLogprobs(s, i));
            _result.EndSequence(real.PromptLogprobs(s)?.ToList());
            (int promptLength, int[] tokens) = _slots[_slices[s].Slot];
            int known = _slices[s].ContextLength + _slices[s].QueryLength - _slices[s].Drafts + real.Tokens(s).Length - promptLength;
            for (int i = known; i < Math.Min(tokens.Length, known + _slices[s].DraftsWanted); i++)
            {
                bool right = (uint)HashCode.Combine(i, promptLength, tokens[0]) % 100 < accuracy;
                _result.AddDraft(s, right ? tokens[i] : (tokens[i] + 1) % VocabularySize);
            }
        }
        return _result;
    }

    public void Dispose()
    {
    }
}
