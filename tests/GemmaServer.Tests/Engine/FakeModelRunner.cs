using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.Tests.Engine;

/// <summary>
/// <see cref="FakeModel"/> behind the real contract: it writes token ids into the pages that the block tables name, for
/// every group, and reads its history back through them, so a wrong page, an early release or a double use gives wrong
/// tokens. Steps are computed when they are collected, as late as a device may. Breaches of the contract are listed too.
/// Allocates nothing in plain steps.
/// </summary>
internal sealed class FakeModelRunner : IModelRunner
{
    private readonly Cell[][] _pages;
    private readonly Slot[] _slots;
    private readonly Queue<Pending> _pending = new();
    private readonly Stack<Pending> _spare = new();
    private readonly StepResult _result;
    private const int MostDrafts = 15;

    private readonly int[] _extra = new int[MostDrafts + 1];
    private readonly int[] _pageOwner;
    private long _launched;

    public FakeModelRunner(KvCachePlan plan, int maxSequences = 8, int maxBatchTokens = 32, bool asynchronous = false)
    {
        KvCache = plan;
        MaxSequences = maxSequences;
        MaxBatchTokens = maxBatchTokens;
        IsAsynchronous = asynchronous;
        int cells = plan.Groups.Max(g => g.TokensPerPage);
        _pages = [.. Enumerable.Range(0, plan.PageCount).Select(_ => new Cell[cells])];
        _pageOwner = new int[plan.PageCount];
        _slots = [.. Enumerable.Range(0, maxSequences).Select(_ => new Slot())];
        _result = new StepResult(maxSequences, MostDrafts);
        for (int i = 0; i < 3; i++) _spare.Push(new Pending(maxBatchTokens, maxSequences, plan.Groups.Count));
    }

    public KvCachePlan KvCache { get; }

    public int VocabularySize => FakeModel.Vocabulary;

    public int MaxSequences { get; }

    public int MaxBatchTokens { get; }

    public bool IsAsynchronous { get; }

    /// <summary>Guesses that it gives where they are wanted.</summary>
    public int MaxDrafts { get; init; }

    /// <summary>How many of a hundred of these are right.</summary>
    public int DraftAccuracy { get; set; } = 70;

    /// <summary>Called with the step's number before it is launched; may throw.</summary>
    public Action<long>? OnLaunch { get; set; }

    /// <summary>Called with the step's number before it is collected; may throw.</summary>
    public Action<long>? OnCollect { get; set; }

    /// <summary>Called before a slot is opened; may throw.</summary>
    public Action<int>? OnOpen { get; set; }

    /// <summary>Called with a slot's prompt; gives the answer to write instead of the model's own, or null.</summary>
    public Func<int[], int[]?>? Script { get; set; }

    /// <summary>What the engine did against the contract.</summary>
    public List<string> Violations { get; } = [];

    /// <summary>Slots that are open.</summary>
    public int OpenSlots => _slots.Count(s => s.Open);

    /// <summary>Most sequences, rows and prefill rows seen in one step.</summary>
    public int MostSequences { get; private set; }

    public int MostRows { get; private set; }

    /// <summary>Steps that held a prefill chunk and a decode row together.</summary>
    public int MixedSteps { get; private set; }

    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        OnOpen?.Invoke(slot);
        Slot s = _slots[slot];
        if (s.Open) Violations.Add($"slot {slot} opened twice");
        s.Open = true;
        s.Sampling = sampling;
        s.Bag = FakeModel.Bag(prompt, output);
        s.Last = -1;
        s.HasHoles = false;
        int[] text = prompt.ToArray();
        s.Script = Script?.Invoke(text);
        s.Text = s.Script is null ? null : [.. text, .. s.Script];
        s.PromptLength = prompt.Length;
    }

    public void CloseSlot(int slot)
    {
        // Also after a failed OpenSlot, so closing a closed one is no breach.
        foreach (Pending step in _pending)
            for (int i = 0; i < step.Count; i++)
                if (step.Slices[i].Slot == slot) Violations.Add($"slot {slot} closed in flight");
        _slots[slot].Open = false;
    }

    public StepTicket Launch(StepBatch batch)
    {
        long number = ++_launched;
        OnLaunch?.Invoke(number);
        if (_pending.Count > (IsAsynchronous ? 1 : 0)) Violations.Add("too many steps in flight");
        if (batch.SequenceCount == 0 || batch.TokenCount > MaxBatchTokens) Violations.Add($"{batch.TokenCount} rows in a step");
        Pending step = _spare.Pop();
        step.Number = number;
        step.Copy(batch, KvCache.Groups.Count);
        CheckDrafts(step);
        CheckOwners(step);
        _pending.Enqueue(step);

        MostSequences = Math.Max(MostSequences, batch.SequenceCount);
        MostRows = Math.Max(MostRows, batch.TokenCount);
        int prefills = 0;
        for (int i = 0; i < step.Count; i++) if (step.Slices[i].QueryLength > 1) prefills++;
        if (prefills > 0 && prefills < step.Count) MixedSteps++;
        return new StepTicket(number);
    }

    public StepResult Collect(StepTicket ticket)
    {
        Pending step = _pending.Dequeue();
        _spare.Push(step);
        if (step.Number != ticket.Number) Violations.Add("collected out of order");
        try
        {
            OnCollect?.Invoke(step.Number);
        }
        catch
        {
            for (int i = 0; i < step.Count; i++) _slots[step.Slices[i].Slot].HasHoles = true;
            throw;
        }
        _result.Begin();
        for (int i = 0; i < step.Count; i++) Compute(step, i);
        return _result;
    }

    public void Dispose()
    {
    }

    private void Compute(Pending step, int index)
    {
        ref SequenceSlice slice = ref step.Slices[index];
        Slot slot = _slots[slice.Slot];
        if (!slot.Open) Violations.Add($"slot {slice.Slot} is not open");
        int end = slice.ContextLength + slice.QueryLength;
        for (int row = 0; row < slice.QueryLength; row++)
        {
            ref int token = ref step.Tokens[slice.QueryStart + row];
            if (token == StepBatch.LastSampled)
            {
                if (!IsAsynchronous || (slot.Last < 0 && !slot.HasHoles)) Violations.Add("LastSampled, but nothing was sampled");
                token = slot.Last;
            }
            for (int g = 0; g < KvCache.Groups.Count; g++) At(step, index, g, slice.ContextLength + row) = new Cell(token, slice.ContextLength + row);
        }

        List<TokenLogprob[]>? promptLogprobs = null;
        if (slice.PromptLogprobs >= 0)
        {
            promptLogprobs = [];
            for (int row = 0; row < slice.QueryLength; row++)
            {
                int next = row + 1 < slice.QueryLength ? step.Tokens[slice.QueryStart + row + 1] : slice.NextPromptToken;
                if (next >= 0) promptLogprobs.Add(FakeModel.Logprobs(See(step, index, slice.ContextLength + row, end), next, slice.PromptLogprobs));
            }
        }

        int known = end - slice.Drafts;     // rows that hold no wrong guess
        if (slice.Sample)
        {
            while (true)
            {
                int place = known - slot.PromptLength;
                bool isScripted = place < slot.Script?.Length;
                ulong hash = isScripted && place % 16 != 0 ? 0 : See(step, index, known - 1, end);      // a script reads its history now and then
                if (slot.Sampling!.HasPenalties) hash = FakeModel.Mix(hash, slot.Bag);
                int token = isScripted ? slot.Script![place]
                    : FakeModel.Masked(FakeModel.Token(slot.Sampling, known - 1, hash), step.Allowed[slice.QueryStart + known - 1 - slice.ContextLength]);
                slot.Last = token;
                slot.Bag += FakeModel.Bag([], [token]);
                int logprobs = slot.Sampling.Logprobs;
                _result.AddToken(token, logprobs < 0 ? float.NaN : FakeModel.Logprob(hash, token), logprobs < 0 ? null : FakeModel.Logprobs(hash, token, logprobs)[1..]);
                if (known == end || step.Tokens[slice.QueryStart + known - slice.ContextLength] != token) break;
                known++;
            }
        }
        _result.EndSequence(promptLogprobs);
        if (slice.DraftsWanted > 0) Guess(step, index, known);
    }

    /// <summary>Guesses what follows the token just sampled: right or wrong by a hash.</summary>
    private void Guess(Pending step, int index, int known)
    {
        Slot slot = _slots[step.Slices[index].Slot];
        int bag = slot.Bag;
        _extra[0] = slot.Last;
        for (int i = 0; i < step.Slices[index].DraftsWanted; i++)
        {
            ulong hash = See(step, index, known + i, known);
            if (slot.Sampling!.HasPenalties) hash = FakeModel.Mix(hash, bag);
            bool right = (int)(FakeModel.Mix(hash, 77) % 100) < DraftAccuracy;
            int token = (FakeModel.Token(slot.Sampling, known + i, hash) + (right ? 0 : 1)) % FakeModel.Vocabulary;
            bag += FakeModel.Bag([], [token]);
            _extra[i + 1] = token;
            _result.AddDraft(index, token);
        }
    }

    private ulong See(Pending step, int index, int position, int stored)
    {
        ulong hash = FakeModel.Start(_slots[step.Slices[index].Slot].Sampling!, position);
        for (int g = 0; g < KvCache.Groups.Count; g++)
        {
            int window = KvCache.Groups[g].Window;
            for (int j = window == 0 ? 0 : Math.Max(0, position - window + 1); j <= position; j++)
            {
                if (j >= stored)
                {
                    hash = FakeModel.Mix(hash, _extra[j - stored]);
                    continue;
                }
                Cell cell = At(step, index, g, j);
                if (cell.Position != j && !_slots[step.Slices[index].Slot].HasHoles) Violations.Add($"group {g} reads position {cell.Position} for {j}");
                if (_slots[step.Slices[index].Slot].Text is { } text && j < text.Length && cell.Token != text[j]) Violations.Add($"group {g} reads another text's position {j}");
                hash = FakeModel.Mix(hash, cell.Token);
            }
        }
        return hash;
    }

    private ref Cell At(Pending step, int index, int group, int position)
    {
        int perPage = KvCache.Groups[group].TokensPerPage;
        int page = step.Tables[index][group][position / perPage];
        if (position / perPage < step.Counts[index][group] && page >= 0) return ref _pages[page][position % perPage];
        Violations.Add($"group {group} has no page for position {position}");
        return ref _pages[0][0];
    }

    /// <summary>Guesses stand behind a known token, and nothing follows them before they are judged.</summary>
    private void CheckDrafts(Pending launched)
    {
        for (int i = 0; i < launched.Count; i++)
        {
            SequenceSlice slice = launched.Slices[i];
            if (slice.Drafts < 0 || slice.Drafts >= slice.QueryLength || (slice.Drafts > 0 && !slice.Sample)) Violations.Add($"{slice.Drafts} drafts in {slice.QueryLength} rows");
            if (slice.DraftsWanted > MaxDrafts || (slice.DraftsWanted > 0 && !slice.Sample)) Violations.Add($"{slice.DraftsWanted} drafts wanted");
            foreach (Pending step in _pending)
                for (int k = 0; k < step.Count; k++)
                    if (step.Slices[k].Slot == slice.Slot && (step.Slices[k].Drafts > 0 || step.Slices[k].DraftsWanted > 0)) Violations.Add("a step follows guesses that nobody judged");
        }
    }

    /// <summary>Slots may share a page that they only read. One that is written belongs to its writer alone, in this step and together with the one in flight before it.</summary>
    private void CheckOwners(Pending launched)
    {
        Array.Fill(_pageOwner, -1);
        foreach (Pending step in _pending) MarkWritten(step);
        MarkWritten(launched);
        foreach (Pending step in _pending) CheckOwnersOf(step);
        CheckOwnersOf(launched);
    }

    private void MarkWritten(Pending step)
    {
        for (int i = 0; i < step.Count; i++)
            for (int g = 0; g < KvCache.Groups.Count; g++)
            {
                int perPage = KvCache.Groups[g].TokensPerPage;
                ref SequenceSlice slice = ref step.Slices[i];
                for (int p = slice.ContextLength / perPage; p <= (slice.ContextLength + slice.QueryLength - 1) / perPage; p++)
                {
                    int page = step.Tables[i][g][p];
                    if (page < 0) Violations.Add($"slot {slice.Slot} writes to a page that is not there");
                    else if (_pageOwner[page] >= 0 && _pageOwner[page] != slice.Slot) Violations.Add($"page {page} has two writers");
                    else _pageOwner[page] = slice.Slot;
                }
            }
    }

    private void CheckOwnersOf(Pending step)
    {
        for (int i = 0; i < step.Count; i++)
            for (int g = 0; g < KvCache.Groups.Count; g++)
                for (int p = 0; p < step.Counts[i][g]; p++)
                {
                    // The first row sees the lowest keys; pages before those may have a new owner already.
                    KvGroup group = KvCache.Groups[g];
                    int page = step.Tables[i][g][p];
                    if (page < 0 || (group.Window > 0 && (p + 1) * group.TokensPerPage - 1 <= step.Slices[i].ContextLength - group.Window)) continue;
                    if (_pageOwner[page] >= 0 && _pageOwner[page] != step.Slices[i].Slot) Violations.Add($"page {page} is written by one slot and read by another");
                }
    }

    private readonly record struct Cell(int Token, int Position);

    private sealed class Slot
    {
        public bool Open;
        public SamplingParams? Sampling;
        public int Bag;
        public int Last;
        public int[]? Script;
        public int[]? Text;     // prompt and script
        public int PromptLength;
        public bool HasHoles;   // a failed step never wrote its rows
    }

    private sealed class Pending
    {
        public readonly int[] Tokens;
        public readonly ulong[]?[] Allowed;
        public readonly SequenceSlice[] Slices;
        public readonly int[][][] Tables;   // slice, group, page
        public readonly int[][] Counts;     // slice, group
        public long Number;
        public int Count;

        public Pending(int maxTokens, int maxSequences, int groups)
        {
            Tokens = new int[maxTokens];
            Allowed = new ulong[]?[maxTokens];
            Slices = new SequenceSlice[maxSequences];
            Tables = [.. Enumerable.Range(0, maxSequences).Select(_ => Enumerable.Range(0, groups).Select(_ => new int[512]).ToArray())];
            Counts = [.. Enumerable.Range(0, maxSequences).Select(_ => new int[groups])];
        }

        public void Copy(StepBatch batch, int groups)
        {
            Count = batch.SequenceCount;
            batch.Tokens.CopyTo(Tokens);
            batch.Slices.CopyTo(Slices);
            for (int row = 0; row < batch.TokenCount; row++) Allowed[row] = batch.Allowed(row);
            for (int i = 0; i < Count; i++)
                for (int g = 0; g < groups; g++)
                {
                    ReadOnlySpan<int> pages = Slices[i].Blocks.Pages(g);
                    if (pages.Length > Tables[i][g].Length) Tables[i][g] = new int[pages.Length * 2];
                    pages.CopyTo(Tables[i][g]);
                    Counts[i][g] = pages.Length;
                }
        }
    }
}
