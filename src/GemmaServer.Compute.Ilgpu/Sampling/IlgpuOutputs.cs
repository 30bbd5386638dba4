using System.Runtime.InteropServices;
using ILGPU;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>A row that gets logits, as the host remembers it.</summary>
internal struct OutputFacts
{
    public int Row, Slice, Slot, Position, PromptTop, HiddenRow;

    /// <summary>The prompt token whose logprob is wanted; −1 for none.</summary>
    public int PromptNext;

    /// <summary>The guess in the next row; −1 without one.</summary>
    public int Guess;

    /// <summary>As <see cref="SamplingParams.Logprobs"/>; −1 where nothing is sampled.</summary>
    public int Logprobs;

    /// <summary>Where its best tokens begin.</summary>
    public int TopAt;

    public bool Sample, IsFirstSample;
}

/// <summary>The rows of a step that get logits: which, and what kernels know of them (<see cref="OutputRow"/>).</summary>
internal sealed class IlgpuOutputs(IlgpuRuntime runtime, IlgpuSlots slots, int maxRows, int vocabulary) : IDisposable
{
    private readonly OutputFacts[] _facts = new OutputFacts[maxRows];
    private readonly StepNumbers _map = new(runtime, maxRows), _table = new(runtime, maxRows * OutputRow.Ints);
    private readonly StepNumbers _masks = new(runtime, 2 * ((vocabulary + 31) / 32)), _patches = new(runtime, 3 * 64);
    private readonly List<(int Row, int Token, float Bias)> _biases = [];
    private readonly List<(int Row, int Token)> _bans = [];

    public int Count { get; private set; }

    public ReadOnlySpan<OutputFacts> Facts => _facts.AsSpan(0, Count);

    /// <summary>Rows of the step, by output row.</summary>
    public ArrayView<int> Map => _map.View;

    public ArrayView<int> Table => _table.View;

    public ArrayView<int> Masks => _masks.View;

    /// <summary>Output row, token and bias: first what is added, then what is barred.</summary>
    public ArrayView<int> Patches => _patches.View;

    public int Biases => _biases.Count;

    public int Bans => _bans.Count;

    /// <summary>Whether untouched logits are asked for.</summary>
    public bool Keeps { get; private set; }

    /// <summary>Whether a row is drawn rather than the best taken.</summary>
    public bool Draws { get; private set; }

    /// <summary>Whether a row has penalties or a mask.</summary>
    public bool Penalises { get; private set; }

    /// <summary>Pairs of token and logit that the best tokens of all rows take.</summary>
    public int Tops { get; private set; }

    /// <summary>Slices that want drafts.</summary>
    public int HiddenRows { get; private set; }

    /// <summary>
    /// In a sampling slice the row before the first guess and all guesses (the last row where there are none), every row where
    /// prompt logprobs are wanted.
    /// </summary>
    public void Begin(CpuStep step)
    {
        Clear(CountMasks(step));
        int masked = 0;
        for (int s = 0; s < step.SliceCount; s++)
        {
            ref readonly SequenceSlice slice = ref step.Slices[s];
            SamplingParams p = slots[slice.Slot].Sampling;
            int sampled = slice.Sample ? slice.QueryLength - 1 - slice.Drafts : slice.QueryLength;
            int hiddenRow = slice.DraftsWanted > 0 ? HiddenRows++ : -1;
            for (int i = slice.PromptLogprobs >= 0 ? 0 : sampled; i < slice.QueryLength; i++)
            {
                int row = slice.QueryStart + i;
                bool isLast = i == slice.QueryLength - 1, samples = i >= sampled;
                int next = isLast ? (slice.Sample ? -1 : slice.NextPromptToken) : step.Tokens[row + 1];
                int promptNext = slice.PromptLogprobs >= 0 ? next : -1, logprobs = samples ? p.Logprobs : -1;
                int top = Math.Min(vocabulary, Math.Max(promptNext >= 0 ? slice.PromptLogprobs : 0, logprobs));
                ulong[]? allowed = samples ? step.Allowed(row) : null;
                Span<int> about = Describe(row, slice.Slot, slice.ContextLength + i + 1, samples, samples ? i - sampled : 0, allowed);
                int guess = isLast || !samples ? -1 : next;
                (about[OutputRow.Guess], about[OutputRow.PromptNext], about[OutputRow.Top], about[OutputRow.Top + 1]) = (guess, promptNext, Math.Max(0, top), 2 * Tops);
                if (allowed is not null) about[OutputRow.Mask] = CopyMask(allowed, masked++);
                Penalises |= allowed is not null;
                Keeps |= promptNext >= 0 || logprobs >= 0;
                _facts[Count++] = new OutputFacts
                {
                    Row = row, Slice = s, Slot = slice.Slot, Position = slice.ContextLength + i, PromptNext = promptNext, PromptTop = slice.PromptLogprobs,
                    Guess = guess, Logprobs = logprobs, TopAt = 2 * Tops, Sample = samples, IsFirstSample = i == sampled, HiddenRow = hiddenRow,
                };
                Tops += Math.Max(0, top);
            }
        }
        Send(masked);
    }

    /// <summary>The rows of a drafter's step: a guess for each that is not done, <paramref name="depth"/> + 1 positions on.</summary>
    public void BeginGuesses(CpuStep step, ReadOnlySpan<bool> isDone, int depth)
    {
        Clear(masks: 0);
        for (int row = 0; row < step.RowCount; row++)
        {
            int slot = step.Slot(row), position = step.Position(row) + depth;
            Describe(row, slot, position + 1, !isDone[row], run: 0, allowed: null);
            _facts[Count++] = new OutputFacts { Row = row, Slot = slot, Position = position, Sample = !isDone[row] };
        }
        Send(0);
    }

    public void Dispose()
    {
        foreach (StepNumbers numbers in (StepNumbers[])[_map, _table, _masks, _patches]) numbers.Dispose();
    }

    private void Clear(int masks)
    {
        _masks.Ensure(masks * ((vocabulary + 31) / 32));
        _biases.Clear();
        _bans.Clear();
        (Count, Tops, HiddenRows, Keeps, Draws, Penalises) = (0, 0, 0, false, false, false);
    }

    /// <summary>The numbers that the row's slot gives.</summary>
    private Span<int> Describe(int row, int slot, int position, bool samples, int run, ulong[]? allowed)
    {
        _map.Host[Count] = row;
        Span<int> about = _table.Host.AsSpan(Count * OutputRow.Ints, OutputRow.Ints);
        about.Clear();
        (about[OutputRow.Position], about[OutputRow.Counts], about[OutputRow.Mask], about[OutputRow.Run]) = (position, -1, -1, run);
        (about[OutputRow.Guess], about[OutputRow.PromptNext]) = (-1, -1);
        if (!samples) return about;
        IlgpuSlot facts = slots[slot];
        SamplingParams p = facts.Sampling;
        bool isWhole = p.TopK <= 0 || p.TopK >= vocabulary, isGreedy = p.Temperature == 0;
        about[OutputRow.Flags] = OutputRow.Samples | (isGreedy ? OutputRow.IsGreedy : p.TopP < 1f ? OutputRow.HasNucleus : 0);
        (about[OutputRow.Seed], about[OutputRow.Seed + 1]) = ((int)(uint)p.Seed, (int)(uint)(p.Seed >> 32));
        // A temperature so small that its inverse is no float chooses the best all the same.
        double inverse = isGreedy ? 1 : Math.Min(1.0 / p.Temperature, 1e30);
        about[OutputRow.InverseT] = Bits((float)inverse);
        about[OutputRow.TopK] = isWhole ? 0 : p.TopK;
        about[OutputRow.TopP] = (int)Math.Clamp(Math.Round(p.TopP * 2147483648.0), 0, int.MaxValue);
        about[OutputRow.LeastRelative] = Bits(p.MinP > 0 ? (float)Math.Log(p.MinP) : float.NegativeInfinity);
        // What is so far below the best weighs less than 1 − p of it even a vocabulary's times, so the nucleus ends above.
        about[OutputRow.Depth] = Bits((float)((Math.Log(vocabulary) - Math.Log(Math.Max(1.0 - p.TopP, 1e-8)) + 1) / inverse));
        about[OutputRow.Counts] = facts.Place;
        (about[OutputRow.Penalties], about[OutputRow.Penalties + 1], about[OutputRow.Penalties + 2]) =
            (Bits(p.RepetitionPenalty), Bits(p.FrequencyPenalty), Bits(p.PresencePenalty));
        Draws |= !isGreedy;
        Penalises |= facts.Place >= 0;
        foreach ((int token, float bias) in facts.Biases) _biases.Add((Count, token, bias));
        bool mayNotEnd = facts.State.Generated + run < p.MinTokens;
        if (allowed is not null && !LogitMask.LeavesAny(allowed, p, mayNotEnd)) return about;
        for (int i = 0; i < p.BannedTokens.Count; i++) _bans.Add((Count, p.BannedTokens[i]));
        if (mayNotEnd)
            for (int i = 0; i < p.EndTokens.Count; i++) _bans.Add((Count, p.EndTokens[i]));
        return about;
    }

    private static int Bits(float value) => BitConverter.SingleToInt32Bits(value);

    private static int CountMasks(CpuStep step)
    {
        int masks = 0;
        for (int row = 0; row < step.RowCount; row++)
            if (step.Allowed(row) is not null) masks++;
        return masks;
    }

    /// <summary>Tokens beyond the bits are barred.</summary>
    private int CopyMask(ulong[] allowed, int mask)
    {
        int words = (vocabulary + 31) / 32;
        Span<int> to = _masks.Host.AsSpan(mask * words, words);
        ReadOnlySpan<int> from = MemoryMarshal.Cast<ulong, int>(allowed);
        int known = Math.Min(words, from.Length);
        from[..known].CopyTo(to);
        to[known..].Clear();
        return mask;
    }

    private void Send(int masks)
    {
        _patches.Ensure(3 * (_biases.Count + _bans.Count));
        int at = 0;
        foreach ((int row, int token, float bias) in _biases) (_patches.Host[at++], _patches.Host[at++], _patches.Host[at++]) = (row, token, Bits(bias));
        foreach ((int row, int token) in _bans) (_patches.Host[at++], _patches.Host[at++], _patches.Host[at++]) = (row, token, 0);
        _patches.Send(at);
        _map.Send(Count);
        _table.Send(Count * OutputRow.Ints);
        _masks.Send(masks * ((vocabulary + 31) / 32));
    }
}
