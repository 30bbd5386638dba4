using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace GemmaServer.Benchmarks;

/// <summary>From starting the program to the first piece of an answer, with the file in the page cache; a client asks until it is served.</summary>
internal sealed class StartupContest(CompareSettings settings, OurProgram ours, PeerProgram peer, string model, string label) : Contest
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(10), s_between = TimeSpan.FromMilliseconds(5);

    private readonly Comparison _first = new(
        string.Create(CultureInfo.InvariantCulture, $"time to first token after start, {label} ({new FileInfo(model) switch { { Exists: true } f => f.Length / 1e9, _ => 0 }:0.0} GB)"),
        "s", new Bound(1, IsMost: true));

    public override string Name => _first.Work;

    public override IReadOnlyList<string> Files => [model];

    public override IReadOnlyList<Comparison> Comparisons => [_first];

    public override async Task RoundAsync(int round, CancellationToken cancellation)
    {
        _first.Ours.Add(await MeasureAsync(port => ours.Serve(model, port, streams: 1), cancellation));
        _first.Theirs.Add(await MeasureAsync(port => peer.Serve(model, port, streams: 1), cancellation));
    }

    private async Task<double> MeasureAsync(Func<int, ChildProgram> serve, CancellationToken cancellation)
    {
        int port = ServerContest.FreePort();
        using StreamClient client = new(new Uri(string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{port}")), apiKey: null, s_patience);
        // Sixteen tokens, because random weights may begin with some that are no text.
        byte[] body = JsonSerializer.SerializeToUtf8Bytes(new JsonObject
        {
            ["prompt"] = "time year people way day", ["stream"] = true, ["max_tokens"] = settings.Quick ? 4 : 16, ["ignore_eos"] = true, ["temperature"] = 0,
        });
        long started = Stopwatch.GetTimestamp();
        using ChildProgram server = serve(port);
        while (Stopwatch.GetElapsedTime(started) < s_patience)
        {
            long asked = Stopwatch.GetTimestamp();
            ServeOutcome outcome = await client.SendAsync("v1/completions", body, cancellation);
            if (outcome.Error is null && double.IsFinite(outcome.FirstToken)) return Stopwatch.GetElapsedTime(started, asked).TotalSeconds + outcome.FirstToken / 1000;
            if (server.HasExited) throw server.Failed("ended while it started");
            if (outcome.Error is not ("no connection" or "http 503")) throw server.Failed($"answered with {outcome.Error ?? "no text"}");
            await Task.Delay(s_between, cancellation);
        }
        throw server.Failed("was not ready in time");
    }
}
