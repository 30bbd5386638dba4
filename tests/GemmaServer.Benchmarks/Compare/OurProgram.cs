using System.Globalization;
using System.Text.Json;

namespace GemmaServer.Benchmarks;

/// <summary>One line of <c>gemmaserver bench</c>.</summary>
/// <param name="Prompt">Tokens of the prompt that was measured; 0 for decodes.</param>
/// <param name="Batch">Sequences that decoded together.</param>
/// <param name="TokensPerSecond">Of all of them.</param>
/// <param name="WeightBytes">Read by one decode step.</param>
internal readonly record struct OurResult(int Prompt, int Batch, double TokensPerSecond, long WeightBytes);

/// <summary>GemmaServer as its users run it: a process of its own, through the engine that serves.</summary>
internal sealed class OurProgram(CompareSettings settings)
{
    private readonly string _threads = settings.Threads.ToString(CultureInfo.InvariantCulture);

    /// <summary>What switches tiles off where the processor has them.</summary>
    public IReadOnlyList<KeyValuePair<string, string>> Environment { get; } = [new("GEMMASERVER_AMX", settings.Amx ? "true" : "false")];

    public string File => settings.Ours;

    /// <summary>The file that is built beside this program.</summary>
    public static string Built => Path.Combine(AppContext.BaseDirectory, OperatingSystem.IsWindows() ? "GemmaServer.exe" : "GemmaServer");

    public Task<string> MakeRandomAsync(string path, string shape, string type, int? layers, CancellationToken cancellation)
    {
        string[] cut = layers is { } n ? ["--layers", n.ToString(CultureInfo.InvariantCulture)] : [];
        return RunAsync(["make-random", path, "--shape", shape, "--type", type, .. cut], cancellation);
    }

    public Task<IReadOnlyList<OurResult>> PrefillAsync(string model, int[] prompts, CancellationToken cancellation) =>
        BenchAsync(["--model", model, "--prompt", string.Join(',', prompts), "--generate", "0"], cancellation);

    public Task<IReadOnlyList<OurResult>> DecodeAsync(string model, int generate, int depth, int[] batches, CancellationToken cancellation) =>
        BenchAsync(["--model", model, "--prompt", "0", "--generate", $"{generate}", "--depth", $"{depth}", "--batch", string.Join(',', batches)], cancellation);

    /// <summary>Load on a server, ours or another, and what its clients saw.</summary>
    public async Task<JsonElement> LoadAsync(string url, int requests, int words, int answer, int seed, CancellationToken cancellation)
    {
        string json = await RunAsync(
            ["bench-serve", "--url", url, "--endpoint", "completions", "--requests", $"{requests}", "--concurrency", $"{requests}", "--input-len", $"{words}",
             "--output-len", $"{answer}", "--seed", $"{seed}", "--json", "-"], cancellation);
        return JsonDocument.Parse(json).RootElement;
    }

    public ChildProgram Serve(string model, int port, int streams) =>
        new(File, ["serve", "--model", model, "--host", "127.0.0.1", "--port", $"{port}", "--threads", _threads, "--max-num-seqs", $"{streams}", "--max-model-len", "512"], Environment);

    private async Task<IReadOnlyList<OurResult>> BenchAsync(string[] arguments, CancellationToken cancellation)
    {
        using JsonDocument json = JsonDocument.Parse(await RunAsync(["bench", .. arguments, "--repetitions", "1", "--threads", _threads, "--json", "-"], cancellation));
        return
        [
            .. json.RootElement.GetProperty("results").EnumerateArray().Select(static r => new OurResult(
                r.GetProperty("prompt_tokens").GetInt32(), r.GetProperty("batch").GetInt32(), r.GetProperty("tokens_per_second").GetDouble(),
                r.GetProperty("weight_bytes_per_step") is { ValueKind: JsonValueKind.Number } bytes ? bytes.GetInt64() : 0)),
        ];
    }

    private Task<string> RunAsync(string[] arguments, CancellationToken cancellation) => ChildProgram.OutputAsync(File, arguments, Environment, cancellation);
}
