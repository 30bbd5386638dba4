namespace GemmaServer.Benchmarks;

/// <summary>Tokens of one sequence, one after the other.</summary>
/// <param name="model">The checkpoint.</param>
/// <param name="label">What stands in the table.</param>
/// <param name="depth">Tokens in the context before.</param>
/// <param name="bound">Of ours ÷ llama.cpp.</param>
/// <param name="wall">Of our bytes a second ÷ those of a plain read; null measures none.</param>
internal sealed class DecodeContest(
    CompareSettings settings, OurProgram ours, PeerProgram peer, ThreadTeam team, string model, string label, int depth, double bound, double? wall) : Contest
{
    private readonly Comparison _speed = new($"decode {settings.Generate}{(depth > 0 ? $" at {depth}" : "")}, batch 1, {label}", "tokens/s", new Bound(bound));
    private readonly Comparison? _wall = wall is { } share ? new($"weights of decode {settings.Generate}, {label}", "GB/s", new Bound(share), "plain read of as many bytes") : null;

    public override string Name => _speed.Work;

    public override IReadOnlyList<string> Files => [model];

    public override IReadOnlyList<Comparison> Comparisons => _wall is null ? [_speed] : [_speed, _wall];

    public override async Task RoundAsync(int round, CancellationToken cancellation)
    {
        OurResult result = (await ours.DecodeAsync(model, settings.Generate, depth, [1], cancellation)).Single();
        _speed.Ours.Add(result.TokensPerSecond);
        _speed.Theirs.Add(await peer.DecodeAsync(model, settings.Generate, depth, cancellation));
        if (_wall is null) return;
        _wall.Ours.Add(result.TokensPerSecond * result.WeightBytes / 1e9);
        using PlainRead read = new(team, result.WeightBytes);
        _wall.Theirs.Add(read.BytesPerSecond(settings.ReadPasses) / 1e9);
    }
}

/// <summary>Tokens of several sequences together.</summary>
internal sealed class BatchContest(
    CompareSettings settings, OurProgram ours, PeerProgram peer, string model, string label, int batch, double bound) : Contest
{
    /// <summary>Tokens of each prompt, which are not measured.</summary>
    private const int Depth = 16;

    private readonly Comparison _speed = new($"decode {settings.Generate}, {batch} sequences together, {label}", "tokens/s", new Bound(bound));

    public override string Name => _speed.Work;

    public override IReadOnlyList<string> Files => [model];

    public override IReadOnlyList<Comparison> Comparisons => [_speed];

    public override async Task RoundAsync(int round, CancellationToken cancellation)
    {
        _speed.Ours.Add((await ours.DecodeAsync(model, settings.Generate, Depth, [batch], cancellation)).Single().TokensPerSecond);
        _speed.Theirs.Add(await peer.DecodeTogetherAsync(model, settings.Generate, Depth, batch, cancellation));
    }
}

/// <summary>What a second and further streams cost us: many against one, both ours.</summary>
internal sealed class StreamsContest(CompareSettings settings, OurProgram ours, string model, string label, int streams, double bound) : Contest
{
    private readonly Comparison _speed = new($"decode {settings.Generate}, {streams} streams, {label}", "tokens/s", new Bound(bound), "one stream of ours");

    public override string Name => _speed.Work;

    public override IReadOnlyList<string> Files => [model];

    public override IReadOnlyList<Comparison> Comparisons => [_speed];

    public override async Task RoundAsync(int round, CancellationToken cancellation)
    {
        IReadOnlyList<OurResult> results = await ours.DecodeAsync(model, settings.Generate, depth: 0, [1, streams], cancellation);
        _speed.Theirs.Add(results.Single(static r => r.Batch == 1).TokensPerSecond);
        _speed.Ours.Add(results.Single(r => r.Batch == streams).TokensPerSecond);
    }
}

/// <summary>Prompts of several lengths.</summary>
internal sealed class PrefillContest(CompareSettings settings, OurProgram ours, PeerProgram peer, string model, string label, double bound) : Contest
{
    private readonly Comparison[] _speeds = [.. settings.Prompts.Select(p => new Comparison($"prefill {p}, {label}{(settings.Amx ? ", AMX" : "")}", "tokens/s", new Bound(bound)))];

    public override string Name => $"prefill, {label}";

    public override IReadOnlyList<string> Files => [model];

    public override IReadOnlyList<Comparison> Comparisons => _speeds;

    public override async Task RoundAsync(int round, CancellationToken cancellation)
    {
        IReadOnlyList<OurResult> mine = await ours.PrefillAsync(model, settings.Prompts, cancellation);
        double[] theirs = await peer.PrefillAsync(model, settings.Prompts, cancellation);
        for (int i = 0; i < _speeds.Length; i++)
        {
            _speeds[i].Ours.Add(mine.Single(r => r.Prompt == settings.Prompts[i]).TokensPerSecond);
            _speeds[i].Theirs.Add(theirs[i]);
        }
    }
}
