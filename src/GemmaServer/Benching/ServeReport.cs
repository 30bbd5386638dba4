using System.Text.Json.Nodes;
using static GemmaServer.BenchOutput;

namespace GemmaServer;

/// <summary>The figures of a run of <c>bench-serve</c>. Latencies are of the requests that were answered completely.</summary>
internal sealed class ServeReport
{
    private static readonly (string Name, double Share)[] s_quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

    private readonly double _seconds;
    private readonly int _requests, _answered;
    private readonly long _prompt, _cached, _output;
    private readonly bool _hasUsage;
    private readonly ServerWatch? _server;
    private readonly (string Name, string Key, double[] Sorted)[] _latencies;
    private readonly (string Kind, int Count)[] _errors;

    /// <param name="outcomes">Of the requests that were not broken off.</param>
    /// <param name="seconds">From the first request to the end of the last.</param>
    /// <param name="server">What the server told of itself, if anything.</param>
    public ServeReport(IReadOnlyList<ServeOutcome> outcomes, double seconds, ServerWatch? server = null)
    {
        _server = server;
        ServeOutcome[] answered = [.. outcomes.Where(static o => o.Error is null)];
        (_seconds, _requests, _answered) = (seconds, outcomes.Count, answered.Length);
        _prompt = answered.Sum(static o => (long)o.PromptTokens);
        _cached = answered.Sum(static o => (long)o.CachedTokens);
        _output = answered.Sum(static o => (long)o.OutputTokens);
        _hasUsage = answered.All(static o => o.HasUsage);
        _errors = [.. outcomes.Where(static o => o.Error is not null).GroupBy(static o => o.Error!).Select(static g => (g.Key, g.Count())).OrderByDescending(static e => e.Item2)];
        _latencies =
        [
            ("time to first token", "ttft_ms", Sorted(answered.Select(static o => o.FirstToken))),
            ("inter-token latency", "itl_ms", Sorted(answered.SelectMany(static o => o.Gaps))),
            ("time per output token", "tpot_ms", Sorted(answered.Where(static o => o.OutputTokens > 1).Select(static o => (o.EndToEnd - o.FirstToken) / (o.OutputTokens - 1)))),
            ("end to end", "e2e_ms", Sorted(answered.Select(static o => o.EndToEnd))),
        ];
    }

    public bool HasErrors => _errors.Length > 0;

    public void WriteTo(TextWriter writer)
    {
        writer.WriteLine($"{_answered} of {_requests} requests answered in {Short(_seconds)} s: {Short(_answered / _seconds)} requests/s, " +
            $"{Short(_output / _seconds)} output tokens/s, {Short((_prompt + _output) / _seconds)} tokens/s in all.");
        writer.WriteLine(_hasUsage
            ? $"Per request {Short(PerRequest(_prompt))} prompt tokens ({Short(PerRequest(_cached))} cached), {Short(PerRequest(_output))} output tokens."
            : $"The server tells no usage: {Short(PerRequest(_output))} pieces per request are counted as tokens.");
        TextTable table = new("ms", "mean", "p50", "p90", "p99", "max");
        foreach ((string name, _, double[] sorted) in _latencies)
            table.Add([name, Short(Mean(sorted)), .. s_quantiles.Select(q => Short(Figures.Quantile(sorted, q.Share))), Short(Figures.Quantile(sorted, 1))]);
        table.WriteTo(writer);
        _server?.WriteTo(writer);
        foreach ((string kind, int count) in _errors) writer.WriteLine($"error: {kind}: {count}");
    }

    public JsonObject ToJson()
    {
        JsonObject json = new()
        {
            ["requests"] = _requests,
            ["answered"] = _answered,
            ["seconds"] = Number(_seconds),
            ["requests_per_second"] = Number(_answered / _seconds),
            ["output_tokens_per_second"] = Number(_output / _seconds),
            ["total_tokens_per_second"] = Number((_prompt + _output) / _seconds),
            ["prompt_tokens"] = _prompt,
            ["cached_tokens"] = _cached,
            ["output_tokens"] = _output,
            ["tokens_from"] = _hasUsage ? "usage" : "pieces",
            ["errors"] = new JsonObject(_errors.Select(static e => KeyValuePair.Create(e.Kind, (JsonNode?)e.Count))),
        };
        foreach ((_, string key, double[] sorted) in _latencies)
        {
            JsonObject figures = new() { ["mean"] = Number(Mean(sorted)) };
            foreach ((string name, double share) in s_quantiles) figures[name] = Number(Figures.Quantile(sorted, share));
            figures["max"] = Number(Figures.Quantile(sorted, 1));
            json[key] = figures;
        }
        if (_server?.ToJson() is { } server) json["server"] = server;
        return json;
    }

    private static double[] Sorted(IEnumerable<double> values) => [.. values.Where(double.IsFinite).Order()];

    private static double Mean(double[] values) => values.Length == 0 ? double.NaN : values.Average();

    private double PerRequest(long tokens) => (double)tokens / _answered;
}
