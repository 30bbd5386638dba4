namespace GemmaServer.Compute;

/// <summary>The end of a step: final norm, head, soft-cap, logprobs and sampling for the rows whose next token is wanted.</summary>
internal sealed unsafe class CpuHead(WorkerPool workers, CpuMatMul matMul) : IDisposable
{
    private readonly CpuSampler[] _samplers = [.. Enumerable.Range(0, workers.Threads).Select(_ => new CpuSampler())];
    private OutputRow[] _rows = [];
    private int[] _rowNumbers = [];
    private int[] _runs = [];       // by run, its first row in the portion; one more for the end
    private CpuTensor? _hidden, _logits;
    private float[] _maxima = [];   // [portion, blocks]
    private int _portion, _count;

    /// <summary>Room for <paramref name="portion"/> rows of logits at a time and <paramref name="rows"/> rows a step.</summary>
    public void Reserve(int portion, int rows, int vocabularySize)
    {
        (_portion, _rows, _rowNumbers, _runs) = (portion, new OutputRow[rows], new int[rows], new int[portion + 1]);
        _logits?.Dispose();
        _logits = new CpuTensor(portion, vocabularySize);
        _maxima = new float[portion * LogitBlocks.Count(vocabularySize)];
    }

    /// <summary>A portion's logits; free for others between steps.</summary>
    public CpuTensor Logits => _logits!;

    public void Run(
        CpuStep step, CpuTensor x, float[] norm, float epsilon, CpuWeights head, float softcap,
        SlotState[] slots, int[] lastSampled, LogitsTap? tap, CpuTensor? lastHidden) =>
        Run(new CpuLogits(workers, matMul, x, norm, epsilon, head), step, x.Columns, softcap, slots, lastSampled, tap, lastHidden);

    /// <summary>Logprobs and sampling over logits from elsewhere.</summary>
    public void Run<TLogits>(
        TLogits source, CpuStep step, int hiddenSize, float softcap, SlotState[] slots, int[] lastSampled, LogitsTap? tap, CpuTensor? lastHidden)
        where TLogits : struct, ILogits
    {
        _hidden ??= new CpuTensor(_portion, hiddenSize);
        Select(step);
        for (int start = 0; start < _count; start += _portion)
        {
            int count = Math.Min(_portion, _count - start);
            source.Fill(_rowNumbers.AsSpan(start, count), _hidden, _logits!);
            Survey(start, count, softcap, slots, isTapped: tap is not null);
            if (tap is not null)
                for (int i = 0; i < count; i++) tap(_rows[start + i].Slot, _rows[start + i].Position, _logits!.RowSpan(i));
            int runs = FindRuns(start, count);
            SampleJob sample = new(_rows, start, _runs, _logits!, _maxima, softcap, slots, _samplers, _hidden, lastHidden);
            workers.Run(ref sample, runs);
        }
        for (int i = 0; i < _count; i++)
            if (_rows[i].Sample && _rows[i].Token >= 0) lastSampled[_rows[i].Slot] = _rows[i].Token;
    }

    public void Dispose()
    {
        _hidden?.Dispose();
        _logits?.Dispose();
    }

    /// <summary>
    /// Which rows need logits: in a sampling slice the row before the first guess and all guesses (the last row where there are
    /// none), every row where prompt logprobs are wanted.
    /// </summary>
    private void Select(CpuStep step)
    {
        _count = 0;
        int hidden = 0;
        for (int s = 0; s < step.SliceCount; s++)
        {
            ref readonly SequenceSlice slice = ref step.Slices[s];
            int sampled = slice.Sample ? slice.QueryLength - 1 - slice.Drafts : slice.QueryLength;
            int hiddenRow = slice.DraftsWanted > 0 ? hidden++ : -1;
            for (int i = slice.PromptLogprobs >= 0 ? 0 : sampled; i < slice.QueryLength; i++)
            {
                int row = slice.QueryStart + i;
                bool last = i == slice.QueryLength - 1;
                int next = last ? (slice.Sample ? -1 : slice.NextPromptToken) : step.Tokens[row + 1];
                _rowNumbers[_count] = row;
                _rows[_count++] = new OutputRow
                {
                    Row = row,
                    Slice = s,
                    Slot = slice.Slot,
                    Position = slice.ContextLength + i,
                    PromptNext = slice.PromptLogprobs >= 0 ? next : -1,
                    PromptTop = slice.PromptLogprobs,
                    Sample = i >= sampled,
                    IsFirstSample = i == sampled,
                    Guess = last || i < sampled ? -1 : next,
                    HiddenRow = hiddenRow,
                    Allowed = step.Allowed(row),
                };
            }
        }
    }

    /// <summary>Cuts a portion into runs that one worker takes: sampled rows of one slice, because each depends on the one before; any other row alone.</summary>
    private int FindRuns(int start, int count)
    {
        int runs = 0;
        for (int i = 0; i < count; i++)
            if (i == 0 || !_rows[start + i].Sample || _rows[start + i].IsFirstSample) _runs[runs++] = i;
        _runs[runs] = count;
        return runs;
    }

    /// <summary>Soft-cap, mask and maxima, by all workers: one row is work for several.</summary>
    private void Survey(int start, int count, float softcap, SlotState[] slots, bool isTapped)
    {
        for (int i = start; i < start + count; i++)
        {
            ref OutputRow row = ref _rows[i];
            SamplingParams p = slots[row.Slot].Sampling;
            bool isSeen = isTapped || row.PromptNext >= 0;
            row.CapsLate = !isSeen && CpuSampler.CapsLate(p);
            row.IsMasked = !isSeen && p.Logprobs < 0;
        }
        const int Share = 32 * LogitBlocks.Size;
        int shares = (_logits!.Columns + Share - 1) / Share;
        SurveyJob job = new(_rows, start, _logits, _maxima, softcap, Share, shares);
        workers.Run(ref job, count * shares);
    }

    /// <summary>What the step's rows came to, sequence by sequence.</summary>
    public void Deliver(CpuStep step, StepResult result)
    {
        result.Begin();
        int at = 0;
        for (int s = 0; s < step.SliceCount; s++)
        {
            List<TokenLogprob[]>? prompt = step.Slices[s].PromptLogprobs >= 0 ? [] : null;
            for (; at < _count && _rows[at].Slice == s; at++)
            {
                ref OutputRow row = ref _rows[at];
                if (row.Prompt is not null) prompt!.Add(row.Prompt);
                if (!row.Sample || row.Token < 0) continue;
                result.AddToken(row.Token, row.Logprob, row.Top);
            }
            result.EndSequence(prompt);
        }
    }

    /// <summary>A row that gets logits, and what came of it.</summary>
    private struct OutputRow
    {
        public int Row, Slice, Slot, Position, PromptNext, PromptTop, HiddenRow;

        /// <summary>The draft in the next row; −1 without one.</summary>
        public int Guess;

        /// <summary>What was sampled; −1 where a guess before was wrong.</summary>
        public int Token;

        public bool Sample, IsFirstSample;

        /// <summary>Its logits are not soft-capped; the sampler caps those it looks at.</summary>
        public bool CapsLate;

        /// <summary>What is not allowed is barred already.</summary>
        public bool IsMasked;

        public ulong[]? Allowed;
        public float Logprob;
        public TokenLogprob[]? Top, Prompt;
    }

    private readonly struct SurveyJob(OutputRow[] rows, int start, CpuTensor logits, float[] maxima, float cap, int share, int shares) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            int row = item / shares, from = item % shares * share;
            ref readonly OutputRow about = ref rows[start + row];
            Span<float> l = logits.RowSpan(row).Slice(from, Math.Min(share, logits.Columns - from));
            if (cap != 0 && !about.CapsLate) FastMath.SoftCap(l, cap, l);
            if (about.IsMasked && about.Allowed is { } allowed) LogitMask.Apply(l, allowed, from);
            LogitBlocks.Survey(l, maxima.AsSpan(row * LogitBlocks.Count(logits.Columns) + from / LogitBlocks.Size));
        }
    }

    private readonly struct SampleJob(
        OutputRow[] rows, int start, int[] runs, CpuTensor logits, float[] maxima, float softcap, SlotState[] slots, CpuSampler[] samplers, CpuTensor hidden, CpuTensor? lastHidden) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            for (int i = runs[item]; i < runs[item + 1]; i++) Row(i, samplers[worker]);
        }

        private void Row(int item, CpuSampler sampler)
        {
            ref OutputRow row = ref rows[start + item];
            Span<float> l = logits.RowSpan(item);
            int blocks = LogitBlocks.Count(l.Length);
            SurveyedRow surveyed = new(l, maxima.AsSpan(item * blocks, blocks), row.CapsLate ? softcap : 0);
            SlotState slot = slots[row.Slot];
            (row.Prompt, row.Top, row.Logprob, row.Token) = (null, null, float.NaN, -1);

            // A row that a wrong guess led to is nobody's. The row before may lie in the portion before.
            bool isLive = row.Sample && (row.IsFirstSample || (rows[start + item - 1] is { Token: >= 0 } before && before.Token == before.Guess));
            int wanted = slot.Sampling.Logprobs;
            bool prompt = row.PromptNext >= 0, logprobs = isLive && wanted >= 0;
            double logSum = prompt || logprobs ? CpuSampler.LogSumExp(l) : 0;
            if (prompt)
                row.Prompt = [new TokenLogprob(row.PromptNext, (float)(l[row.PromptNext] - logSum)), .. sampler.Logprobs(l, surveyed.Maxima, row.PromptTop, logSum)];
            if (!isLive) return;

            if (logprobs)
            {
                row.Top = sampler.Logprobs(l, surveyed.Maxima, wanted, logSum);
                row.Token = sampler.ChooseKeeping(surveyed, slot, row.Position + 1, row.Allowed, out float logit);
                row.Logprob = (float)(logit - logSum);
            }
            else
            {
                if (!row.IsMasked && row.Allowed is { } allowed) surveyed.Survey(allowed);
                row.Token = sampler.Choose(surveyed, slot, row.Position + 1, row.Allowed);
            }
            slot.Commit(row.Token);
            if (lastHidden is not null && row.HiddenRow >= 0 && row.Token != row.Guess)
                hidden.RowSpan(item).CopyTo(lastHidden.RowSpan(row.HiddenRow));
        }
    }
}
