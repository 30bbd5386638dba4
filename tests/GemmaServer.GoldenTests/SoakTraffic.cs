using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.GoldenTests;

/// <summary>
/// Random requests, the same for the same seed, with the answers that an engine gives which serves one at a time and caches
/// no prefix: a few system prompts, conversations that go on from answers or drop them, repeated requests.
/// </summary>
internal sealed class SoakTraffic : IDisposable
{
    public const int MaxLength = 256;

    private const int MaxHistories = 40;

    private readonly ServingHarness _alone;
    private readonly Random _random;
    private readonly List<int[]> _histories;    // the first few are the system prompts
    private readonly List<SoakCase> _short = [];
    private readonly List<SoakCase> _long = [];
    private int _asked;

    public SoakTraffic(string path, int seed)
    {
        _alone = new ServingHarness(path, maxLength: MaxLength, prefixCaching: false);
        _random = new Random(seed);
        _histories = [.. Enumerable.Range(0, SystemPrompts).Select(_ => RandomTokens(_random.Next(34, 100)))];
    }

    private static int SystemPrompts => 5;

    /// <summary>Requests that differ.</summary>
    public int Distinct => _short.Count + _long.Count;

    public SoakRequest Next()
    {
        // Now and then thirty together write more than they read, so that pages run short while they decode.
        bool isLong = _asked++ / 30 % 5 == 0;
        List<SoakCase> known = isLong ? _long : _short;
        // Most were there before.
        bool isNew = known.Count == 0 || _random.Next(isLong ? 5 : 2) == 0;
        SoakCase wanted = isNew ? NewCase(isLong) : known[_random.Next(Math.Max(0, known.Count - 200), known.Count)];
        return new SoakRequest(
            wanted,
            Salt: _random.Next(8) == 0 ? "salt" : null,
            Boundary: _random.Next(3) == 0 ? null : Math.Max(1, wanted.Request.Prompt.Length - _random.Next(10)),
            CancelAfterMs: _random.Next(7) == 0 ? _random.Next(60) : null,
            QueueTimeout: _random.Next(60) == 0 ? TimeSpan.FromMilliseconds(_random.Next(5)) : null);
    }

    public void Dispose() => _alone.Dispose();

    private SoakCase NewCase(bool isLong)
    {
        int at = _random.Next(_histories.Count);
        int[] prompt = isLong ? RandomTokens(_random.Next(1, 20)) : [.. _histories[at], .. RandomTokens(_random.Next(1, _random.Next(8) == 0 ? 70 : 12))];
        if (prompt.Length > MaxLength - 60) prompt = prompt[..(MaxLength - 60)];
        GenerationRequest request = new()
        {
            Id = "soak",
            Prompt = prompt,
            Sampling = NewSampling(),
            MaxTokens = isLong ? _random.Next(40, 90) : _random.Next(20),
            StopTokens = !isLong && _random.Next(3) == 0 ? RandomTokens(10) : [],
            PromptLogprobs = _random.Next(25) == 0 ? _random.Next(3) : -1,
        };
        SoakCase made = new(request, Alone(request));
        (isLong ? _long : _short).Add(made);

        // The conversation goes on, with the answer or without; old ones are forgotten.
        if (!isLong && _random.Next(2) == 0 && prompt.Length < MaxLength / 2)
            _histories.Add(_random.Next(2) == 0 ? prompt : [.. prompt, .. made.Expected.Events.Where(e => e.Token >= 0).Select(e => e.Token)]);
        if (_histories.Count > MaxHistories) _histories.RemoveAt(SystemPrompts);
        return made;
    }

    private SamplingParams NewSampling() => _random.Next(5) switch
    {
        0 => new() { Temperature = 0 },
        1 => new() { Temperature = 0, Logprobs = 3 },
        2 => new() { Temperature = 1, Seed = (ulong)_random.Next() },
        3 => new() { Temperature = 1, TopK = 64, TopP = 0.95f, Seed = (ulong)_random.Next(), Logprobs = 0 },
        _ => new()
        {
            Temperature = _random.Next(2), TopK = 64, TopP = 0.95f, Seed = (ulong)_random.Next(), Logprobs = _random.Next(-1, 3),
            FrequencyPenalty = 0.7f, PresencePenalty = 0.4f, RepetitionPenalty = 1.2f,
        },
    };

    private int[] RandomTokens(int count)
    {
        int[] tokens = new int[count];
        for (int i = 0; i < count; i++) tokens[i] = _random.Next(_alone.Vocabulary);
        return tokens;
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
        return answer;
    }
}

/// <summary>What is asked, and the answer it gets alone.</summary>
internal sealed record SoakCase(GenerationRequest Request, SoakAnswer Expected);

/// <summary>A case as one client asks it.</summary>
internal sealed record SoakRequest(SoakCase Case, string? Salt, int? Boundary, int? CancelAfterMs, TimeSpan? QueueTimeout)
{
    public GenerationRequest ToRequest() => new()
    {
        Id = "soak",
        Prompt = Case.Request.Prompt,
        Sampling = Case.Request.Sampling,
        MaxTokens = Case.Request.MaxTokens,
        StopTokens = Case.Request.StopTokens,
        PromptLogprobs = Case.Request.PromptLogprobs,
        CacheSalt = Salt,
        CacheBoundary = Boundary,
        QueueTimeout = QueueTimeout,
    };

    /// <summary>Whole and equal, or cut short for a reason that this client gave.</summary>
    public void Check(SoakAnswer answer)
    {
        List<TokenEvent> expected = Case.Expected.Events;
        FinishReason finish = answer.Events[^1].Finish;
        Assert.All(answer.Events.SkipLast(1), e => Assert.Equal(FinishReason.None, e.Finish));
        bool isWhole = finish is FinishReason.Stop or FinishReason.Length;
        if (!isWhole)
        {
            Assert.True((finish == FinishReason.Abort && CancelAfterMs is not null) || (finish == FinishReason.QueueTimeout && QueueTimeout is not null), $"ended with {finish}");
            Assert.Equal(-1, answer.Events[^1].Token);
            if (finish == FinishReason.QueueTimeout) Assert.Single(answer.Events);
        }
        int tokens = isWhole ? expected.Count : answer.Events.Count - 1;
        Assert.Equal(isWhole ? tokens : tokens + 1, answer.Events.Count);
        for (int i = 0; i < tokens; i++)
        {
            Assert.Equal(expected[i].Token, answer.Events[i].Token);
            Assert.Equal(BitConverter.SingleToInt32Bits(expected[i].Logprob), BitConverter.SingleToInt32Bits(answer.Events[i].Logprob));
            Assert.Equal(expected[i].TopLogprobs, answer.Events[i].TopLogprobs);
        }
        if (isWhole)
        {
            Assert.Equal(expected[^1].Finish, finish);
            Assert.Equal(Case.Expected.Generation.PromptLogprobs, answer.Generation.PromptLogprobs);
        }
    }
}

/// <summary>Everything a client read.</summary>
internal sealed record SoakAnswer(Generation Generation)
{
    public List<TokenEvent> Events { get; } = [];
}
