using GemmaServer.Compute;
using GemmaServer.Model;
using GemmaServer.Text;

namespace GemmaServer.Tests.Http;

/// <summary>
/// A model that answers by script: the last user text (or "tool result" after one) chooses the answer, whose control tokens are
/// spelled out. Obeys bans, min_tokens and what a step allows, verifies guesses, gives made-up logprobs, and can be slow or fail.
/// </summary>
internal sealed class ScriptedRunner(Tokenizer tokenizer, int maxSequences = 16) : IModelRunner
{
    /// <summary>The user text whose answer goes on until <see cref="EndMarathon"/>.</summary>
    public const string Marathon = "marathon";

    /// <summary>The user text whose first step takes <see cref="SlowStep"/>.</summary>
    public const string Slow = "slow";

    /// <summary>The user text that makes the first step fail.</summary>
    public const string Explode = "explode";

    /// <summary>The user text whose answer breaks off with a failure after five tokens.</summary>
    public const string BreakOff = "break off";

    private const int MostGuesses = 7;

    private readonly Slot[] _slots = [.. Enumerable.Range(0, maxSequences).Select(static _ => new Slot())];
    private readonly StepResult _result = new(maxSequences, MostGuesses);
    private readonly SequenceSlice[] _slices = new SequenceSlice[maxSequences];
    private readonly ulong[]?[] _allowed = new ulong[]?[512];
    private int[] _tokens = [];
    private readonly int[] _closers =
    [
        tokenizer.Special.ChannelEnd, tokenizer.Special.ToolCallEnd, tokenizer.Special.Quote,
        .. "}]\":,0atfn".Select(c => tokenizer.TokenId(c.ToString())).OfType<int>(),
    ];

    private int _count;
    private long _ticket;

    /// <summary>User text → answer.</summary>
    public Dictionary<string, string> Answers { get; } = new(StringComparer.Ordinal);

    /// <summary>User text → the tokens of the answer, however they spell it.</summary>
    public Dictionary<string, int[]> TokenAnswers { get; } = new(StringComparer.Ordinal);

    /// <summary>Guesses the script's next tokens, up to seven of them: a random number at a time, by this seed. Null guesses nothing.</summary>
    public int? GuessingSeed { get; init; }

    public int MaxDrafts => GuessingSeed is null ? 0 : MostGuesses;

    public bool EndMarathon { get; set; }

    /// <summary>Steps so far.</summary>
    public int Steps { get; private set; }

    public TimeSpan SlowStep { get; set; } = TimeSpan.FromMilliseconds(300);

    /// <summary>Each step lasts at least this long.</summary>
    public TimeSpan StepTime { get; set; }

    /// <summary>The user texts in the order of admission.</summary>
    public System.Collections.Concurrent.ConcurrentQueue<string> Opened { get; } = new();

    public int OpenSlots => _slots.Count(static s => s.IsOpen);

    /// <summary>What the last opened slot was given.</summary>
    public SamplingParams? LastSampling { get; private set; }

    public string LastPrompt { get; private set; } = "";

    public KvCachePlan KvCache { get; } = new([new KvGroup([0], 0, 16, 64)], 1024, 4096, KvCacheType.F32);

    public int VocabularySize => tokenizer.VocabularySize;

    public int MaxSequences => maxSequences;

    public int MaxBatchTokens => 512;

    public bool IsAsynchronous => false;

    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        Slot s = _slots[slot];
        string text = tokenizer.Decode(prompt, skipSpecial: false);
        LastPrompt = text;
        LastSampling = sampling;
        s.IsOpen = true;
        s.Sampling = sampling;
        s.Prompt = prompt.ToArray();
        s.User = UserText(text);
        Opened.Enqueue(s.User);
        int[] answer = TokenAnswers.GetValueOrDefault(s.User) ?? tokenizer.Encode(Answers.GetValueOrDefault(s.User) ?? $"You said: {s.User}", parseSpecial: true);
        s.Answer = [.. answer.Where(t => !sampling.BannedTokens.Contains(t))];
    }

    public void CloseSlot(int slot) => _slots[slot].IsOpen = false;

    public StepTicket Launch(StepBatch batch)
    {
        _count = batch.SequenceCount;
        batch.Slices.CopyTo(_slices);
        _tokens = batch.Tokens.ToArray();
        for (int row = 0; row < batch.TokenCount; row++) _allowed[row] = batch.Allowed(row);
        Steps++;
        for (int i = 0; i < _count; i++)
        {
            Slot s = _slots[_slices[i].Slot];
            int index = Index(s, _slices[i]);
            if (s.User == Explode || (s.User == BreakOff && index >= 5)) throw new InvalidOperationException("as scripted");
            if (s.User == Slow && index == 0) Thread.Sleep(SlowStep);
            if (s.User == Marathon && !EndMarathon) Thread.Sleep(5);     // or it would reach the end of its context
            if (s.User == BreakOff && index == 4) Thread.Sleep(300);     // or the failure would overtake the first bytes
        }
        if (StepTime > TimeSpan.Zero) Thread.Sleep(StepTime);
        return new StepTicket(++_ticket);
    }

    public StepResult Collect(StepTicket ticket)
    {
        _result.Begin();
        for (int i = 0; i < _count; i++)
        {
            SequenceSlice slice = _slices[i];
            Slot s = _slots[slice.Slot];
            int sampled = 0;
            if (slice.Sample)
            {
                bool wants = s.Sampling.Logprobs >= 0;
                int row = slice.QueryStart + slice.QueryLength - 1 - slice.Drafts;
                for (int k = 0; k <= slice.Drafts; k++)
                {
                    int token = Next(s, Index(s, slice) - slice.Drafts + k, _allowed[row + k]);
                    sampled++;
                    _result.AddToken(token, wants ? LogprobOf(token) : float.NaN, wants ? Top(token, s.Sampling.Logprobs) : null);
                    if (k < slice.Drafts && token != _tokens[row + k + 1]) break;
                }
            }
            _result.EndSequence(slice.PromptLogprobs >= 0 ? PromptLogprobs(s, slice) : null);
            if (slice.DraftsWanted > 0) Guess(i, s, Index(s, slice) - slice.Drafts + sampled, slice.DraftsWanted);
        }
        return _result;
    }

    public void Dispose()
    {
    }

    private void Guess(int sequence, Slot s, int index, int most)
    {
        int count = new Random(31 * GuessingSeed!.Value + index).Next(most + 1);
        for (int i = 0; i < count; i++) _result.AddDraft(sequence, Next(s, index + i));
    }

    /// <summary>Every token's made-up logprob.</summary>
    public static float LogprobOf(int token) => -0.125f - token / 1024f;

    private static int Index(Slot s, in SequenceSlice slice) => slice.ContextLength + slice.QueryLength - s.Prompt.Length;

    /// <summary>The script's token where it may come; else the end, else what closes something, else anything that may come.</summary>
    private int Next(Slot s, int index, ulong[]? allowed)
    {
        int token = Next(s, index);
        if (TokenMask.Has(allowed, token)) return token;
        foreach (int end in tokenizer.Special.EndOfGeneration)
            if (TokenMask.Has(allowed, end)) return end;
        foreach (int close in _closers)
            if (TokenMask.Has(allowed, close)) return close;
        token = index * 7919 % VocabularySize;
        while (!TokenMask.Has(allowed, token)) token = (token + 1) % VocabularySize;
        return token;
    }

    private int Next(Slot s, int index)
    {
        int end = tokenizer.Special.TurnEnd;
        int token = s.User == Marathon && !EndMarathon ? tokenizer.TokenId("a")!.Value : index < s.Answer.Length && s.User != Marathon ? s.Answer[index] : end;
        bool mayNotEnd = s.Sampling.BannedTokens.Contains(token) || (index < s.Sampling.MinTokens && s.Sampling.EndTokens.Contains(token));
        return mayNotEnd ? tokenizer.TokenId("x")!.Value : token;
    }

    private TokenLogprob[] Top(int token, int n) =>
        [.. Enumerable.Range(0, n).Select(k => (token + k) % VocabularySize).Select(t => new TokenLogprob(t, LogprobOf(t)))];

    private List<TokenLogprob[]> PromptLogprobs(Slot s, in SequenceSlice slice)
    {
        List<TokenLogprob[]> rows = [];
        for (int row = 0; row < slice.QueryLength; row++)
        {
            int next = slice.ContextLength + row + 1;
            if (next < s.Prompt.Length) rows.Add([new(s.Prompt[next], LogprobOf(s.Prompt[next])), .. Top(s.Prompt[next], slice.PromptLogprobs)]);
        }
        return rows;
    }

    private static string UserText(string prompt)
    {
        const string turn = "<|turn>user\n";
        if (prompt.LastIndexOf("<tool_response|>", StringComparison.Ordinal) > prompt.LastIndexOf(turn, StringComparison.Ordinal)) return "tool result";
        int start = prompt.LastIndexOf(turn, StringComparison.Ordinal);
        if (start < 0) return prompt.Replace("<bos>", "");
        start += turn.Length;
        int end = prompt.IndexOf("<turn|>", start, StringComparison.Ordinal);
        return end < 0 ? prompt[start..] : prompt[start..end];
    }

    private sealed class Slot
    {
        public bool IsOpen;
        public SamplingParams Sampling = new();
        public int[] Prompt = [];
        public int[] Answer = [];
        public string User = "";
    }
}
