namespace GemmaServer.Compute;

/// <summary>
/// The rows of a step that get logits, as the device sees them (<c>OUT_…</c> in sampling.h) and as the host remembers them until
/// their results are collected.
/// </summary>
internal sealed class GpuOutputs : IDisposable
{
    public const int HeaderInts = 16, RowInts = 32;

    private const int Sampled = 1, First = 2, Greedy = 4, Keep = 8, Bans = 16, BansWithEnds = 32, Nucleus = 64, Weighed = 128;

    private readonly GpuContext _gpu;
    private readonly GpuSlots _slots;
    private readonly int _vocabulary, _maskInts;
    private readonly StagedInts _table;
    private StagedInts _masks;

    public GpuOutputs(GpuContext gpu, GpuSlots slots, int maxRows, int vocabularySize)
    {
        (_gpu, _slots, _vocabulary, _maskInts) = (gpu, slots, vocabularySize, (vocabularySize + 63) / 64 * 2);
        _table = new StagedInts(gpu, HeaderInts + maxRows * RowInts);
        _masks = new StagedInts(gpu, 2 * _maskInts);
    }

    public GpuBuffer Table => _table.Buffer;

    /// <summary>Bit by token id, a row after the other.</summary>
    public GpuBuffer Masks => _masks.Buffer;

    /// <summary>Rows that get logits.</summary>
    public int Count { get; private set; }

    /// <summary>Whether a row has top-p.</summary>
    public bool AnyNucleus { get; private set; }

    /// <summary>Whether a row's nucleus is sought among all tokens.</summary>
    public bool AnyWeighed { get; private set; }

    /// <summary>Pairs of token and logit that the best tokens of all rows take.</summary>
    public int Tops { get; private set; }

    /// <summary>Slices that want drafts.</summary>
    public int HiddenRows { get; private set; }

    /// <summary>
    /// Which rows need logits: in a sampling slice the row before the first guess and all guesses (the last row where there are
    /// none), every row where prompt logprobs are wanted.
    /// </summary>
    /// <param name="batch">The step.</param>
    /// <param name="facts">Receives what is needed to deliver the results.</param>
    public void Begin(StepBatch batch, StepFacts facts)
    {
        facts.Begin(batch);
        CountMasks(batch);
        Span<int> table = Clear();
        Span<int> masks = _masks.Next();
        int masked = 0;
        for (int s = 0; s < batch.SequenceCount; s++)
        {
            ref readonly SequenceSlice slice = ref batch.Slices[s];
            SamplingParams p = _slots[slice.Slot].Sampling;
            int sampled = slice.Sample ? slice.QueryLength - 1 - slice.Drafts : slice.QueryLength;
            int hiddenRow = slice.DraftsWanted > 0 ? HiddenRows++ : -1;
            for (int i = slice.PromptLogprobs >= 0 ? 0 : sampled; i < slice.QueryLength; i++)
            {
                int row = slice.QueryStart + i;
                bool last = i == slice.QueryLength - 1, samples = i >= sampled;
                int next = last ? (slice.Sample ? -1 : slice.NextPromptToken) : batch.Tokens[row + 1];
                int promptNext = slice.PromptLogprobs >= 0 ? next : -1, logprobs = samples ? p.Logprobs : -1;
                int top = Math.Min(_vocabulary, Math.Max(promptNext >= 0 ? slice.PromptLogprobs : 0, logprobs));
                facts.Add(new OutputFacts(s, slice.Slot, slice.ContextLength + i, promptNext, slice.PromptLogprobs, logprobs, 2 * Tops));

                ulong[]? allowed = samples ? batch.Allowed(row) : null;
                Span<int> about = table.Slice(HeaderInts + Count++ * RowInts, RowInts);
                Describe(about, row, slice.Slot, slice.ContextLength + i + 1, samples, allowed);
                if (samples && i == sampled) about[3] |= First;
                if (promptNext >= 0 || logprobs >= 0) about[3] |= Keep;
                (about[4], about[5], about[6], about[7], about[8]) = (last || !samples ? -1 : next, promptNext, Math.Max(0, top), 2 * Tops, hiddenRow);
                about[9] = allowed is null ? -1 : masked;
                about[10] = samples ? i - sampled : 0;
                if (allowed is not null) CopyMask(allowed, masks.Slice(masked++ * _maskInts, _maskInts));
                Tops += Math.Max(0, top);
            }
        }
        table[0] = Count;
        _table.Send(HeaderInts + Count * RowInts);
        _masks.Send(masked * _maskInts);
    }

    /// <summary>The rows of a drafter's step: a guess for each that is not done, <paramref name="depth"/> + 1 positions on.</summary>
    public void BeginGuesses(ReadOnlySpan<SequenceSlice> slices, ReadOnlySpan<bool> isDone, int depth)
    {
        Span<int> table = Clear();
        for (int s = 0; s < slices.Length; s++)
        {
            Span<int> about = table.Slice(HeaderInts + Count++ * RowInts, RowInts);
            Describe(about, slices[s].QueryStart, slices[s].Slot, slices[s].ContextLength + 1 + depth, !isDone[s], allowed: null);
            (about[4], about[5], about[8], about[9]) = (-1, -1, -1, -1);
        }
        table[0] = Count;
        _table.Send(HeaderInts + Count * RowInts);
    }

    public void Dispose()
    {
        _table.Dispose();
        _masks.Dispose();
    }

    private Span<int> Clear()
    {
        (Count, AnyNucleus, AnyWeighed, Tops, HiddenRows) = (0, false, false, 0, 0);
        return _table.Next();
    }

    /// <summary>The numbers that the row's slot gives.</summary>
    private void Describe(Span<int> about, int row, int slot, int position, bool samples, ulong[]? allowed)
    {
        SlotFacts facts = _slots[slot];
        SamplingParams p = facts.Sampling;
        about.Clear();
        int flags = 0;
        if (samples)
        {
            bool isWhole = p.TopK <= 0 || p.TopK >= _vocabulary;
            flags = Sampled;
            if (p.Temperature == 0) flags |= Greedy;
            else if (p.TopP < 1f) flags |= isWhole ? Nucleus | Weighed : Nucleus;
            if (allowed is null || LogitMask.LeavesAny(allowed, p, mayNotEnd: false)) flags |= Bans;
            if (allowed is null || LogitMask.LeavesAny(allowed, p, mayNotEnd: true)) flags |= BansWithEnds;
            AnyNucleus |= (flags & Nucleus) != 0;
            AnyWeighed |= (flags & Weighed) != 0;
            // A temperature so small that its inverse is no float chooses the best all the same.
            about[12] = Bits(p.Temperature == 0 ? 1f : (float)Math.Min(1.0 / p.Temperature, 1e30));
            about[13] = isWhole ? 0 : p.TopK;
            about[14] = (int)(uint)Math.Clamp(Math.Round(p.TopP * 4294967296.0), 0, uint.MaxValue);
            about[15] = Bits(p.Temperature != 0 && p.MinP > 0 ? (float)Math.Log(p.MinP) : float.NegativeInfinity);
        }
        (about[0], about[1], about[2], about[3], about[11]) = (row, slot, position, flags, facts.Place);
        (about[16], about[17], about[18]) = (Bits(p.RepetitionPenalty), Bits(p.FrequencyPenalty), Bits(p.PresencePenalty));
        (about[19], about[20], about[21]) = ((int)(uint)p.Seed, (int)(uint)(p.Seed >> 32), p.MinTokens);
        (about[22], about[23], about[24]) = (facts.Biases, p.BannedTokens.Count, p.EndTokens.Count);
    }

    private static int Bits(float value) => BitConverter.SingleToInt32Bits(value);

    private void CountMasks(StepBatch batch)
    {
        int needed = 0;
        for (int row = 0; row < batch.TokenCount; row++)
            if (batch.Allowed(row) is not null) needed++;
        if (needed * _maskInts <= _masks.Capacity) return;
        // Queued kernels may still read the old one.
        _gpu.Finish();
        _masks.Dispose();
        _masks = new StagedInts(_gpu, Math.Max(needed * _maskInts, 2 * _masks.Capacity));
    }

    /// <summary>Tokens beyond the bits are barred.</summary>
    private static void CopyMask(ulong[] allowed, Span<int> mask)
    {
        Span<ulong> words = System.Runtime.InteropServices.MemoryMarshal.Cast<int, ulong>(mask);
        int known = Math.Min(words.Length, allowed.Length);
        allowed.AsSpan(0, known).CopyTo(words);
        words[known..].Clear();
    }
}
