namespace GemmaServer.Compute;

/// <summary>The end of a step: final norm, head, soft-cap, logprobs and sampling for the rows whose next token is wanted.</summary>
internal sealed unsafe class CpuHead(WorkerPool workers, CpuMatMul matMul) : IDisposable
{
    private readonly CpuSampler[] _samplers = [.. Enumerable.Range(0, workers.Threads).Select(_ => new CpuSampler())];
    private OutputRow[] _rows = [];
    private CpuTensor? _hidden, _logits;
    private int _portion, _count;

    /// <summary>Room for <paramref name="portion"/> rows of logits at a time and <paramref name="rows"/> rows a step.</summary>
    public void Reserve(int portion, int rows, int vocabularySize)
    {
        (_portion, _rows) = (portion, new OutputRow[rows]);
        _logits?.Dispose();
        _logits = new CpuTensor(portion, vocabularySize);
    }

    public void Run(
        CpuStep step, CpuTensor x, float[] norm, float epsilon, CpuWeights head, float softcap,
        SlotState[] slots, int[] lastSampled, StepResult result, LogitsTap? tap)
    {
        _hidden ??= new CpuTensor(_portion, x.Columns);
        Select(step);
        for (int start = 0; start < _count; start += _portion)
        {
            int count = Math.Min(_portion, _count - start);
            GatherNormJob gather = new(_rows, start, x, norm, epsilon, _hidden);
            workers.Run(ref gather, count);
            matMul.Multiply(_hidden.Input(count), head, 0, head.Rows, _logits!.All, _logits.Columns);
            if (softcap != 0) SoftCap(count, softcap);
            if (tap is not null)
                for (int i = 0; i < count; i++) tap(_rows[start + i].Slot, _rows[start + i].Position, _logits.RowSpan(i));
            SampleJob sample = new(_rows, start, _logits, slots, _samplers);
            workers.Run(ref sample, count);
        }
        Deliver(step, slots, lastSampled, result);
    }

    public void Dispose()
    {
        _hidden?.Dispose();
        _logits?.Dispose();
    }

    /// <summary>Which rows need logits: the last row of a sampling slice, every row where prompt logprobs are wanted.</summary>
    private void Select(CpuStep step)
    {
        _count = 0;
        for (int s = 0; s < step.SliceCount; s++)
        {
            ref readonly SequenceSlice slice = ref step.Slices[s];
            int first = slice.PromptLogprobs >= 0 ? 0 : slice.Sample ? slice.QueryLength - 1 : slice.QueryLength;
            for (int i = first; i < slice.QueryLength; i++)
            {
                int row = slice.QueryStart + i;
                bool last = i == slice.QueryLength - 1;
                int next = last ? (slice.Sample ? -1 : slice.NextPromptToken) : step.Tokens[row + 1];
                _rows[_count++] = new OutputRow
                {
                    Row = row,
                    Slice = s,
                    Slot = slice.Slot,
                    Position = slice.ContextLength + i,
                    PromptNext = slice.PromptLogprobs >= 0 ? next : -1,
                    PromptTop = slice.PromptLogprobs,
                    Sample = last && slice.Sample,
                };
            }
        }
    }

    private void SoftCap(int rows, float cap)
    {
        const int Share = 8192;
        int shares = (_logits!.Columns + Share - 1) / Share;
        SoftCapJob job = new(_logits, cap, Share, shares);
        workers.Run(ref job, rows * shares);
    }

    private void Deliver(CpuStep step, SlotState[] slots, int[] lastSampled, StepResult result)
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
                if (!row.Sample) continue;
                slots[row.Slot].Commit(row.Token);
                lastSampled[row.Slot] = row.Token;
                result.AddToken(row.Token, row.Logprob, row.Top);
            }
            result.EndSequence(prompt);
        }
    }

    /// <summary>A row that gets logits, and what came of it.</summary>
    private struct OutputRow
    {
        public int Row, Slice, Slot, Position, PromptNext, PromptTop, Token;
        public bool Sample;
        public float Logprob;
        public TokenLogprob[]? Top, Prompt;
    }

    private readonly struct GatherNormJob(OutputRow[] rows, int start, CpuTensor x, float[] norm, float epsilon, CpuTensor hidden) : IWorkerJob
    {
        public void Execute(int item, int worker) =>
            RmsNorm.Row(x.RowSpan(rows[start + item].Row), norm, epsilon, hidden.RowSpan(item));
    }

    private readonly struct SoftCapJob(CpuTensor logits, float cap, int share, int shares) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            int from = item % shares * share;
            Span<float> l = logits.RowSpan(item / shares).Slice(from, Math.Min(share, logits.Columns - from));
            FastMath.SoftCap(l, cap, l);
        }
    }

    private readonly struct SampleJob(OutputRow[] rows, int start, CpuTensor logits, SlotState[] slots, CpuSampler[] samplers) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            ref OutputRow row = ref rows[start + item];
            Span<float> l = logits.RowSpan(item);
            CpuSampler sampler = samplers[worker];
            SlotState slot = slots[row.Slot];
            int wanted = slot.Sampling.Logprobs;
            (row.Prompt, row.Top, row.Logprob) = (null, null, float.NaN);

            bool prompt = row.PromptNext >= 0, sampled = row.Sample && wanted >= 0;
            double logSum = prompt || sampled ? CpuSampler.LogSumExp(l) : 0;
            if (prompt)
                row.Prompt = [new TokenLogprob(row.PromptNext, (float)(l[row.PromptNext] - logSum)), .. sampler.Logprobs(l, row.PromptTop, logSum)];
            if (!row.Sample) return;

            if (sampled) row.Top = sampler.Logprobs(l, wanted, logSum);

            if (!sampled)
            {
                row.Token = sampler.Choose(l, slot, row.Position + 1);
                return;
            }
            row.Token = sampler.ChooseKeeping(l, slot, row.Position + 1, out float logit);
            row.Logprob = (float)(logit - logSum);
        }
    }
}
