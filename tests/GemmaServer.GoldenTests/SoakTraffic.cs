using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.GoldenTests;

/// <summary>
/// Random requests, the same for the same seed, with the answers that an engine gives which serves one at a time, guesses
/// nothing and caches no prefix: a few system prompts, conversations that go on from answers or drop them, repeated requests.
/// </summary>
internal sealed class SoakTraffic : IDisposable
{
    public const int MaxLength = 256;

    private const int MaxHistories = 40, SystemPrompts = 5, MaxChoices = 4;

    /// <summary>Where these are all that may come, a model repeats itself: six words.</summary>
    private static readonly KeyValuePair<int, float>[] s_fewWords = [.. Enumerable.Range(300, 6).Select(t => KeyValuePair.Create(t, 60f))];

    private readonly ServingHarness _alone;
    private readonly Random _random;
    private readonly List<int[]> _histories;    // the first few are the system prompts
    private readonly List<SoakCase> _short = [];
    private readonly List<SoakCase> _long = [];
    private int _asked;

    public SoakTraffic(string path, int seed)
    {
        // One row at a time is too little for two threads.
        _alone = new ServingHarness(path, maxLength: MaxLength, prefixCaching: false, threads: 1);
        _random = new Random(seed);
        _histories = [.. Enumerable.Range(0, SystemPrompts).Select(_ => Tokens(_random.Next(34, 100)))];
    }

    /// <summary>Answers computed alone.</summary>
    public int Distinct => _short.Sum(c => c.Choices) + _long.Sum(c => c.Choices);

    public SoakRequest Next()
    {
        // Now and then forty together write more than they read, so that pages run short while they decode.
        bool isLong = _asked++ / 40 % 5 == 0;
        List<SoakCase> known = isLong ? _long : _short;
        // Most were there before.
        bool isNew = known.Count == 0 || _random.Next(isLong ? 10 : 4) == 0;
        SoakCase wanted = isNew ? NewCase(isLong) : known[_random.Next(Math.Max(0, known.Count - 200), known.Count)];
        bool cancels = _random.Next(7) == 0, countsTokens = _random.Next(2) == 0;
        SoakManner manner = new(
            // The first one asks most.
            Client: _random.Next(3) == 0 ? "eager" : _random.Next(4) is int other and > 0 ? $"client {other}" : null,
            Priority: _random.Next(4) == 0 ? _random.Next(-1, 2) : 0,
            Salt: _random.Next(8) == 0 ? "salt" : null,
            Boundary: _random.Next(3) == 0 ? null : Math.Max(1, wanted.Prompt.Length - _random.Next(10)),
            QueueTimeout: _random.Next(40) == 0 ? TimeSpan.FromMilliseconds(_random.Next(5)) : null,
            Timeout: _random.Next(30) == 0 ? TimeSpan.FromMilliseconds(_random.Next(_random.Next(2) == 0 ? 5 : 100)) : null,
            CancelAfterMs: cancels && !countsTokens ? _random.Next(60) : null,
            CancelAfterTokens: cancels && countsTokens ? _random.Next(wanted.MaxTokens + 1) : null);
        return new SoakRequest(wanted, manner, CancelledChoice: _random.Next(wanted.Choices));
    }

    /// <summary>A small one that takes more than one step.</summary>
    public SoakRequest Plain() => new(
        Answered(new SoakCase { Prompt = Tokens(5), Samplings = [new SamplingParams { Temperature = 0 }], MaxTokens = 3 }), new SoakManner(), CancelledChoice: -1);

    public void Dispose() => _alone.Dispose();

    private SoakCase NewCase(bool isLong)
    {
        int[] history = _histories[_random.Next(_histories.Count)];
        int[] prompt = isLong ? Tokens(_random.Next(1, 12)) : [.. history, .. Tokens(_random.Next(1, _random.Next(8) == 0 ? 70 : 12))];
        if (prompt.Length > MaxLength - 60) prompt = prompt[..(MaxLength - 60)];
        Func<ulong, SamplingParams> sampling = NewSampling();
        int choices = _random.Next(12) == 0 ? _random.Next(2, MaxChoices + 1) : 1;
        int seed = _random.Next();
        SoakCase made = Answered(new SoakCase
        {
            Prompt = prompt,
            Samplings = [.. Enumerable.Range(0, choices).Select(i => sampling((ulong)(seed + i)))],
            MaxTokens = isLong ? _random.Next(60, 90) : _random.Next(20),
            StopTokens = !isLong && _random.Next(3) == 0 ? Tokens(10) : [],
            StopStrings = _random.Next(isLong ? 20 : 5) == 0 ? ["zz", $"{(char)('a' + _random.Next(26))}"] : [],
            IsConstrained = _random.Next(6) == 0,
            PromptLogprobs = _random.Next(25) == 0 ? _random.Next(3) : -1,
        });
        (isLong ? _long : _short).Add(made);

        // The conversation goes on, with the answer or without; old ones are forgotten.
        if (!isLong && _random.Next(2) == 0 && prompt.Length < MaxLength / 2)
            _histories.Add(_random.Next(2) == 0 ? prompt : [.. prompt, .. made.Expected[0].Events.Where(e => e.Token >= 0).Select(e => e.Token)]);
        if (_histories.Count > MaxHistories) _histories.RemoveAt(SystemPrompts);
        return made;
    }

    /// <summary>One way to choose tokens, for any seed.</summary>
    private Func<ulong, SamplingParams> NewSampling()
    {
        KeyValuePair<int, float>[] bias = _random.Next(3) == 0 ? s_fewWords : [];
        int kind = _random.Next(5), temperature = _random.Next(2), logprobs = _random.Next(-1, 3);
        return seed => kind switch
        {
            0 => new() { Temperature = 0, LogitBias = bias },
            1 => new() { Temperature = 0, LogitBias = bias, Logprobs = 3 },
            2 => new() { Temperature = 1, LogitBias = bias, Seed = seed },
            3 => new() { Temperature = 1, LogitBias = bias, TopK = 64, TopP = 0.95f, Seed = seed, Logprobs = 0 },
            _ => new()
            {
                Temperature = temperature, LogitBias = bias, TopK = 64, TopP = 0.95f, Seed = seed, Logprobs = logprobs,
                FrequencyPenalty = 0.7f, PresencePenalty = 0.4f, RepetitionPenalty = 1.2f,
            },
        };
    }

    private int[] Tokens(int count)
    {
        int[] tokens = new int[count];
        for (int i = 0; i < count; i++) tokens[i] = _random.Next(_alone.Vocabulary);
        return tokens;
    }

    private SoakCase Answered(SoakCase asked)
    {
        asked.Expected = [.. Enumerable.Range(0, asked.Choices).Select(i => Alone(asked.ToRequest(i, new SoakManner())))];
        return asked;
    }

    private SoakAnswer Alone(GenerationRequest request)
    {
        Assert.Equal(SubmitResult.Accepted, _alone.Engine.TrySubmit(request, out Generation? generation));
        while (_alone.Engine.Step())
        {
        }
        Assert.Empty(_alone.Errors);
        SoakAnswer answer = new(generation!);
        while (generation!.TryRead(out TokenEvent e)) answer.Events.Add(e);
        Assert.Equal(0, generation.CachedTokens);
        Assert.Equal(0, _alone.Engine.Metrics.Drafts);
        return answer;
    }
}
