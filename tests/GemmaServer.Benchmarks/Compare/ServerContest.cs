using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;

namespace GemmaServer.Benchmarks;

/// <summary>Streams that arrive at a server at once: how fast they are answered, and how long each waits for its first token.</summary>
internal sealed class ServerContest(CompareSettings settings, OurProgram ours, PeerProgram peer, string model, string label) : Contest
{
    private const int Streams = 8;
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(10);

    private readonly Comparison _speed = new($"server, {Streams} streams, {settings.ServerPrompt} + {settings.ServerAnswer} tokens, {label}", "tokens/s", new Bound(1.8));
    private readonly Comparison _first = new($"server, {Streams} streams, mean time to first token, {label}", "s", new Bound(0.6, IsMost: true));
    private int _words;

    public override string Name => _speed.Work;

    public override IReadOnlyList<string> Files => [model];

    public override IReadOnlyList<Comparison> Comparisons => [_speed, _first];

    public override async Task RoundAsync(int round, CancellationToken cancellation)
    {
        // Prompts that neither server has seen: the same for both, others each round.
        (double mine, double myFirst) = await TryMeasureAsync(port => ours.Serve(model, port, Streams), round, cancellation);
        (double theirs, double theirFirst) = await TryMeasureAsync(port => peer.Serve(model, port, Streams), round, cancellation);
        _speed.Ours.Add(mine);
        _speed.Theirs.Add(theirs);
        _first.Ours.Add(myFirst);
        _first.Theirs.Add(theirFirst);
    }

    /// <summary>A free port of this machine.</summary>
    public static int FreePort()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>A stream that breaks off now and then (random weights write anything) costs a second try, not the run; it is said.</summary>
    private async Task<(double TokensPerSecond, double FirstSeconds)> TryMeasureAsync(Func<int, ChildProgram> serve, int round, CancellationToken cancellation)
    {
        try
        {
            return await MeasureAsync(serve, round, cancellation);
        }
        catch (ProgramFailedException failure)
        {
            await Console.Error.WriteLineAsync($"once more: {failure.Message}");
            return await MeasureAsync(serve, round, cancellation);
        }
    }

    private async Task<(double TokensPerSecond, double FirstSeconds)> MeasureAsync(Func<int, ChildProgram> serve, int round, CancellationToken cancellation)
    {
        int port = FreePort();
        string url = string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{port}");
        using ChildProgram server = serve(port);
        await ReadyAsync(server, url, cancellation);
        try
        {
            // The first wave warms the server up, and shows how many tokens a word is in this vocabulary.
            JsonElement warm = await ours.LoadAsync(url, Streams, settings.ServerPrompt / 4, settings.ServerAnswer / 4, 2 * round + 1, cancellation);
            if (_words == 0) _words = Math.Max(1, (int)Math.Round(settings.ServerPrompt / PromptTokens(warm) * (settings.ServerPrompt / 4)));
            JsonElement wave = await ours.LoadAsync(url, Streams, _words, settings.ServerAnswer, 2 * round + 2, cancellation);
            double prompt = PromptTokens(wave), output = wave.GetProperty("output_tokens").GetDouble() / Streams;
            if (Math.Abs(prompt / settings.ServerPrompt - 1) > 0.15 || output != settings.ServerAnswer)
                throw server.Failed($"took {prompt:0} tokens of prompt and gave {output:0} instead of {settings.ServerPrompt} and {settings.ServerAnswer}");
            return (wave.GetProperty("output_tokens_per_second").GetDouble(), wave.GetProperty("ttft_ms").GetProperty("mean").GetDouble() / 1000);
        }
        catch (ProgramFailedException) when (server.HasExited)
        {
            throw server.Failed("ended under load");
        }
    }

    private static double PromptTokens(JsonElement wave) => wave.GetProperty("prompt_tokens").GetDouble() / Streams;

    private static async Task ReadyAsync(ChildProgram server, string url, CancellationToken cancellation)
    {
        using HttpClient http = new();
        long started = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(started) < s_patience)
        {
            if (server.HasExited) throw server.Failed("ended while it started");
            try
            {
                using HttpResponseMessage answer = await http.GetAsync(new Uri(url + "/health"), cancellation);
                if (answer.IsSuccessStatusCode) return;
            }
            catch (HttpRequestException)
            {
                // It does not listen yet.
            }
            await Task.Delay(50, cancellation);
        }
        throw server.Failed("was not ready in time");
    }
}
