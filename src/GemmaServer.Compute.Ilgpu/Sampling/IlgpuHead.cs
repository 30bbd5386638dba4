namespace GemmaServer.Compute.Ilgpu;

/// <summary>
/// The end of a step: final norm, head, soft-cap, logprobs and sampling for the rows whose next token is wanted. The host waits for
/// the tokens at once, because tables that stay in their file are read there; nothing but tokens and logprobs crosses.
/// </summary>
internal sealed class IlgpuHead(IlgpuRuntime runtime, IlgpuStep step, IlgpuMatMul matMul, IlgpuRows rows) : IDisposable
{
    private IlgpuSlots? _slots;
    private IlgpuOutputs _outputs = null!;
    private IlgpuSampler _sampler = null!;
    private IlgpuDraftHead _draftHead = null!;
    private IlgpuTensor? _hidden;
    private StepNumbers? _hiddenFrom;
    private (float Logit, int Token)[] _sorted = new (float, int)[32];

    /// <summary>By slot.</summary>
    public ReadOnlySpan<int> LastSampled => _slots is null ? default : _slots.LastSampled;

    public void Reserve(int maxRows, int maxSequences, int vocabularySize)
    {
        Free();
        _slots = new IlgpuSlots(runtime, maxSequences, vocabularySize);
        _outputs = new IlgpuOutputs(runtime, _slots, maxRows, vocabularySize);
        _sampler = new IlgpuSampler(runtime, rows, _slots, _outputs, CpuDevice.LogitRows, maxRows, vocabularySize);
        _draftHead = new IlgpuDraftHead(runtime, step, matMul, rows, _slots, _outputs, _sampler, maxSequences);
        _hiddenFrom = new StepNumbers(runtime, maxSequences);
    }

    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output) => _slots!.Open(slot, sampling, prompt, output);

    public void CloseSlot(int slot) => _slots!.Close(slot);

    /// <summary>See <see cref="IComputeDevice.Sample"/>.</summary>
    public void Sample(IlgpuTensor x, IlgpuVector norm, IlgpuMatrix head, float softcap, LogitsTap? tap, IlgpuTensor? hidden)
    {
        _hidden ??= new IlgpuTensor(runtime, CpuDevice.LogitRows, x.Columns);
        _slots!.SendCounts();
        _outputs.Begin(step.Host);
        _sampler.Begin();
        for (int start = 0; start < _outputs.Count; start += CpuDevice.LogitRows)
        {
            int count = Math.Min(CpuDevice.LogitRows, _outputs.Count - start);
            rows.RmsNormOf(count, _outputs.Map.SubView(start, count), x, norm, _hidden);
            matMul.Multiply(count, _hidden, head, _sampler.Logits);
            _sampler.Run(start, count, softcap, keeps: tap is not null);
            if (tap is not null) _sampler.Show(tap, start, count);
        }
        _sampler.Fetch();
        Settle();
        if (hidden is null || _outputs.HiddenRows == 0) return;
        _hiddenFrom!.Send(_outputs.HiddenRows);
        rows.RmsNormOf(_outputs.HiddenRows, _hiddenFrom.View, x, norm, hidden);
    }

    /// <summary>What the step's rows came to, sequence by sequence.</summary>
    public void Collect(StepResult result)
    {
        result.Begin();
        int at = 0;
        for (int s = 0; s < step.Host.SliceCount; s++)
        {
            List<TokenLogprob[]>? prompt = step.Host.Slices[s].PromptLogprobs >= 0 ? [] : null;
            for (; at < _outputs.Count && _outputs.Facts[at].Slice == s; at++)
            {
                ref readonly OutputFacts output = ref _outputs.Facts[at];
                ReadOnlySpan<int> row = _sampler.Result(at);
                if (output.PromptNext >= 0) prompt!.Add(Best(output, row, output.PromptTop, new TokenLogprob(output.PromptNext, Logprob(row, row[4]))));
                if (row[0] < 0) continue;
                if (output.Logprobs < 0) result.AddToken(row[0], float.NaN, null);
                else result.AddToken(row[0], Logprob(row, row[1]), Best(output, row, output.Logprobs, null));
            }
            result.EndSequence(prompt);
        }
    }

    /// <summary>See <see cref="IComputeDevice.Draft"/>.</summary>
    public bool Draft(
        IlgpuTensor x, IlgpuMatrix head, IlgpuCentroids? centroids, int depth, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap) =>
        _draftHead.Run(x, head, centroids, depth, sequences, result, tap);

    public void Dispose() => Free();

    /// <summary>Slice by slice: samples count until a guess was wrong, those behind it are nobody's; the slot learns what was sampled.</summary>
    private void Settle()
    {
        bool isLive = true;
        for (int o = 0; o < _outputs.Count; o++)
        {
            ref readonly OutputFacts output = ref _outputs.Facts[o];
            if (!output.Sample) continue;
            isLive |= output.IsFirstSample;
            ref int token = ref _sampler.Result(o)[0];
            if (!isLive)
            {
                token = -1;
                continue;
            }
            _slots!.Commit(output.Slot, token);
            isLive = token == output.Guess;
            if (!isLive && output.HiddenRow >= 0) _hiddenFrom!.Host[output.HiddenRow] = output.Row;
        }
    }

    /// <summary>The n best, best first, equals by id; the device gave them in no order, and more where more were asked for.</summary>
    private TokenLogprob[] Best(in OutputFacts output, ReadOnlySpan<int> row, int n, TokenLogprob? first)
    {
        int found = row[5], at = 0;
        if (found > 0)
        {
            if (_sorted.Length < found) _sorted = new (float, int)[Math.Max(found, 2 * _sorted.Length)];
            ReadOnlySpan<int> pairs = _sampler.Tops.Slice(output.TopAt, 2 * found);
            for (int i = 0; i < found; i++) _sorted[i] = (BitConverter.Int32BitsToSingle(pairs[2 * i + 1]), pairs[2 * i]);
            _sorted.AsSpan(0, found).Sort(static (a, b) => a.Logit == b.Logit ? a.Token.CompareTo(b.Token) : b.Logit.CompareTo(a.Logit));
        }
        int kept = Math.Min(n, found);
        TokenLogprob[] best = new TokenLogprob[kept + (first is null ? 0 : 1)];
        if (first is { } token) best[at++] = token;
        for (int i = 0; i < kept; i++) best[at++] = new TokenLogprob(_sorted[i].Token, Logprob(row, BitConverter.SingleToInt32Bits(_sorted[i].Logit)));
        return best;
    }

    /// <summary>In two steps: the greatest logit is near, and the difference keeps its digits.</summary>
    private static float Logprob(ReadOnlySpan<int> row, int logit) =>
        (float)((double)BitConverter.Int32BitsToSingle(logit) - BitConverter.Int32BitsToSingle(row[2]) - BitConverter.Int32BitsToSingle(row[3]));

    private void Free()
    {
        foreach (IDisposable? d in (IDisposable?[])[_slots, _outputs, _sampler, _hidden, _hiddenFrom, _draftHead]) d?.Dispose();
        (_slots, _hidden) = (null, null);
    }
}
