using System.CommandLine;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace GemmaServer;

/// <summary><c>gemmaserver bench-serve</c>: load on any OpenAI-compatible server, with the latencies that its clients see.</summary>
internal static class BenchServeCommand
{
    private const int MaxRequests = 1_000_000;

    /// <summary>What a shell gives a program that Ctrl+C ended: 128 + SIGINT.</summary>
    internal const int Interrupted = 130;

    private sealed record Load(
        Uri Url, string? ApiKey, string? Model, bool IsChat, int Requests, int Concurrency, double? Rate, int Input, int Output, string? Prompts, int Shared,
        int Seed, TimeSpan Timeout, string? Json);

    public static Command Create()
    {
        Option<string> url = new("--url") { Description = "The server, with or without /v1.", DefaultValueFactory = static _ => "http://127.0.0.1:8000" };
        Option<string?> apiKey = new("--api-key") { Description = "Sent as a bearer token." };
        Option<string?> model = new("--model") { Description = "Model to ask for; the first that the server lists when absent." };
        Option<string> endpoint = new("--endpoint") { Description = "Which API.", DefaultValueFactory = static _ => "chat" };
        endpoint.AcceptOnlyFromAmong("chat", "completions");
        Option<int> requests = new("--requests") { Description = "How many requests.", DefaultValueFactory = static _ => 100 };
        Option<int?> concurrency = new("--concurrency") { Description = "Requests at a time (8 when there is no rate)." };
        Option<double?> rate = new("--request-rate") { Description = "Requests a second at random moments, instead of --concurrency." };
        Option<int> input = new("--input-len") { Description = "Words of a made-up prompt, about a token each.", DefaultValueFactory = static _ => 256 };
        Option<int> output = new("--output-len") { Description = "Tokens of an answer; made-up prompts ask with ignore_eos for all of them.", DefaultValueFactory = static _ => 128 };
        Option<string?> prompts = new("--prompts") { Description = "JSONL of {\"prompt\"} or {\"messages\"}, with optional \"max_tokens\", used in turn.", HelpName = "FILE.jsonl" };
        Option<int> shared = new("--shared-prefix") { Description = "Words at the start of made-up prompts that are the same in all, part of --input-len." };
        Option<int> seed = new("--seed") { Description = "Another one makes up other prompts." };
        Option<int> timeout = new("--timeout") { Description = "Seconds that one request may take.", DefaultValueFactory = static _ => 600 };
        Option<string?> json = BenchOutput.Json();
        Command command = new("bench-serve", "Measure a running OpenAI-compatible server.")
            { url, apiKey, model, endpoint, requests, concurrency, rate, input, output, prompts, shared, seed, timeout, json };
        command.SetAction((parsed, cancellation) =>
        {
            List<string> mistakes = [];
            if (!Uri.TryCreate(parsed.GetValue(url), UriKind.Absolute, out Uri? address) || address.Scheme is not ("http" or "https"))
                mistakes.Add($"--url: '{parsed.GetValue(url)}' is not an http address.");
            if (parsed.GetValue(concurrency) is not null && parsed.GetValue(rate) is not null) mistakes.Add("--concurrency and --request-rate exclude each other.");
            Load load = new(
                address!, parsed.GetValue(apiKey), parsed.GetValue(model), parsed.GetValue(endpoint) == "chat", parsed.GetValue(requests),
                parsed.GetValue(concurrency) ?? 8, parsed.GetValue(rate), parsed.GetValue(input), parsed.GetValue(output), parsed.GetValue(prompts),
                parsed.GetValue(shared), parsed.GetValue(seed), TimeSpan.FromSeconds(parsed.GetValue(timeout)), parsed.GetValue(json));
            mistakes.AddRange(Mistakes(load));
            return mistakes.Count > 0 ? Task.FromResult(CommandLine.Complain(mistakes)) : RunAsync(load, cancellation);
        });
        return command;
    }

    private static IEnumerable<string> Mistakes(Load load)
    {
        if (load.Requests is < 1 or > MaxRequests) yield return $"--requests: {load.Requests} is not between 1 and {MaxRequests}.";
        if (load.Concurrency is < 1 or > 10_000) yield return $"--concurrency: {load.Concurrency} is not between 1 and 10000.";
        if (load.Rate is { } rate && !(rate is > 0 and <= 1e6)) yield return $"--request-rate: {rate} is not above 0 and up to 1000000.";
        if (load.Input is < 1 or > 10_000_000) yield return $"--input-len: {load.Input} is not between 1 and 10000000.";
        if (load.Output is < 1 or > 10_000_000) yield return $"--output-len: {load.Output} is not between 1 and 10000000.";
        if (load.Shared < 0 || load.Shared > load.Input) yield return $"--shared-prefix: {load.Shared} is not between 0 and the {load.Input} words of a prompt.";
        if (load.Seed is < 0 or > 2_000) yield return $"--seed: {load.Seed} is not between 0 and 2000.";
        if (load.Timeout.TotalSeconds is < 1 or > 86_400) yield return $"--timeout: {load.Timeout.TotalSeconds} is not between 1 and 86400.";
        if (load.Prompts is { } file && !File.Exists(file)) yield return $"--prompts: there is no file '{file}'.";
    }

    private static async Task<int> RunAsync(Load load, CancellationToken outside)
    {
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(outside);
        CancellationToken cancellation = stop.Token;
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, signal =>
        {
            signal.Cancel = !stop.IsCancellationRequested;      // a second one ends the program as usual
            stop.Cancel();
        });
        try
        {
            List<JsonObject> lines = load.Prompts is { } file ? ServePrompts.Read(file) : [];
            if (!load.IsChat && lines.Any(static l => l["prompt"] is null)) return CommandLine.Complain(["--prompts: the completions API takes no messages."]);
            using StreamClient client = new(load.Url, load.ApiKey, load.Timeout);
            string model = load.Model ?? await client.FirstModelAsync(cancellation);
            string path = load.IsChat ? "v1/chat/completions" : "v1/completions";
            ServeBench bench = new(client, path, new ServePrompts(model, load.IsChat, load.Input, load.Shared, load.Output, lines, load.Seed));

            // Prompts from a file want their natural answers.
            if (await bench.WarmUpAsync(ignoreEos: lines.Count == 0, cancellation) is { } wrong) return Fail($"the first request failed: {wrong}");
            TextWriter readable = BenchOutput.Readable(load.Json);
            string pace = load.Rate is { } rate ? $"{BenchOutput.Short(rate)} requests a second" : $"{load.Concurrency} at a time";
            readable.WriteLine($"{model} at {Address(load)}, {(load.IsChat ? "chat" : "completions")}, {pace}.");
            ServerWatch server = new(client, load.Rate is null && load.Requests <= load.Concurrency ? load.Requests : 0);
            (ServeOutcome[] outcomes, double seconds) = await server.AroundAsync(() => MeasureAsync(load, bench, cancellation), cancellation);
            if (cancellation.IsCancellationRequested) readable.WriteLine($"Interrupted: {load.Requests - outcomes.Length} of {load.Requests} requests were broken off or not sent, and are not counted.");
            ServeReport report = new(outcomes, seconds, server);
            report.WriteTo(readable);
            BenchOutput.Write(load.Json, Json(load, model, bench.IgnoresEos, cancellation.IsCancellationRequested, report));
            return cancellation.IsCancellationRequested ? Interrupted : report.HasErrors ? 1 : 0;
        }
        catch (Exception e) when (e is HttpRequestException or FormatException or JsonException or KeyNotFoundException or InvalidOperationException or IOException or UnauthorizedAccessException)
        {
            return Fail(e.Message);
        }
        catch (OperationCanceledException)
        {
            return Interrupted;     // before anything was measured
        }
    }

    private static async Task<(ServeOutcome[] Outcomes, double Seconds)> MeasureAsync(Load load, ServeBench bench, CancellationToken cancellation)
    {
        int done = 0, failed = 0;
        using ProgressLine progress = new();
        return await bench.RunAsync(load.Requests, load.Concurrency, load.Rate, outcome =>
        {
            int count = Interlocked.Increment(ref done);
            int errors = outcome.Error is null ? Volatile.Read(ref failed) : Interlocked.Increment(ref failed);
            progress.Show((double)count / load.Requests, errors == 0 ? $"{count} of {load.Requests}" : $"{count} of {load.Requests}, {errors} failed");
        }, cancellation);
    }

    private static int Fail(string what)
    {
        Console.Error.WriteLine($"error: {what}");
        return 1;
    }

    // Without user and password.
    private static string Address(Load load) => load.Url.GetComponents(UriComponents.HttpRequestUrl, UriFormat.UriEscaped);

    private static JsonObject Json(Load load, string model, bool ignoreEos, bool isInterrupted, ServeReport report)
    {
        JsonObject json = new()
        {
            ["version"] = ServerVersion.Text,
            ["url"] = Address(load),
            ["model"] = model,
            ["endpoint"] = load.IsChat ? "chat" : "completions",
            ["concurrency"] = load.Rate is null ? load.Concurrency : null,
            ["request_rate"] = load.Rate,
            ["input_len"] = load.Prompts is null ? load.Input : null,
            ["shared_prefix"] = load.Shared,
            ["output_len"] = load.Output,
            ["ignore_eos"] = ignoreEos,
            ["interrupted"] = isInterrupted,
        };
        foreach ((string key, JsonNode? value) in report.ToJson()) json[key] = value?.DeepClone();
        return json;
    }
}
