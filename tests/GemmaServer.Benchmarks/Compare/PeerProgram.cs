using System.Globalization;
using System.Text.Json;

namespace GemmaServer.Benchmarks;

/// <summary>llama.cpp's own programs, with f16 keys and values and its default of flash attention.</summary>
/// <param name="settings">Where they are.</param>
internal sealed class PeerProgram(CompareSettings settings)
{
    private static readonly string[] s_cache = ["-ctk", "f16", "-ctv", "f16"];

    private readonly string _threads = settings.Threads.ToString(CultureInfo.InvariantCulture);

    // A build that was moved looks for its libraries beside its programs.
    private readonly KeyValuePair<string, string>[] _environment = [new("LD_LIBRARY_PATH", settings.Peer)];

    /// <summary>"1234 (abcdef0)": build number and commit; empty where neither program says it.</summary>
    public string Version { get; private set; } = "";

    /// <summary>Asks the server for its version; llama-bench tells it with its figures.</summary>
    public async Task AskVersionAsync(CancellationToken cancellation)
    {
        string said = await ChildProgram.SaysAsync(Program("llama-server"), ["--version"], _environment, cancellation);
        string? line = said.Split('\n').FirstOrDefault(static l => l.StartsWith("version: ", StringComparison.Ordinal));
        if (line is not null) Version = line["version: ".Length..].Trim();
    }

    /// <summary>The program that is missing for this group of rows; null when all are there.</summary>
    public string? Missing(string group)
    {
        string[] needed = group switch
        {
            "batch" => ["llama-batched-bench"],
            "moe" => ["llama-bench", "llama-batched-bench"],
            "server" or "startup" => ["llama-server"],
            _ => ["llama-bench"],
        };
        return needed.FirstOrDefault(n => !File.Exists(Program(n)));
    }

    /// <summary>Prompt tokens a second at each length.</summary>
    public async Task<double[]> PrefillAsync(string model, int[] prompts, CancellationToken cancellation)
    {
        JsonElement[] results = await BenchAsync(["-m", model, "-p", string.Join(',', prompts), "-n", "0"], cancellation);
        return [.. prompts.Select(p => results.Single(r => r.GetProperty("n_prompt").GetInt32() == p).GetProperty("avg_ts").GetDouble())];
    }

    /// <summary>Tokens a second of one sequence.</summary>
    public async Task<double> DecodeAsync(string model, int generate, int depth, CancellationToken cancellation)
    {
        JsonElement[] results = await BenchAsync(["-m", model, "-p", "0", "-n", $"{generate}", "-d", $"{depth}"], cancellation);
        return results.Single().GetProperty("avg_ts").GetDouble();
    }

    /// <summary>Tokens a second of all sequences together.</summary>
    public async Task<double> DecodeTogetherAsync(string model, int generate, int depth, int batch, CancellationToken cancellation)
    {
        string output = await ChildProgram.OutputAsync(
            Program("llama-batched-bench"),
            ["-m", model, "-t", _threads, "-tb", _threads, .. s_cache, "-npp", $"{depth}", "-ntg", $"{generate}", "-npl", $"{batch}",
             "-c", $"{batch * (depth + generate) + 64}", "--output-format", "jsonl"], _environment, cancellation);
        string line = output.Split('\n').LastOrDefault(static l => l.StartsWith('{')) ?? throw new ProgramFailedException($"llama-batched-bench gave no figures:\n{output}");
        using JsonDocument json = JsonDocument.Parse(line);
        return json.RootElement.GetProperty("speed_tg").GetDouble();
    }

    /// <summary>A server with so many slots of 512 positions.</summary>
    public ChildProgram Serve(string model, int port, int streams) =>
        new(Program("llama-server"),
            ["-m", model, "--host", "127.0.0.1", "--port", $"{port}", "-t", _threads, "-tb", _threads, .. s_cache, "-np", $"{streams}", "-c", $"{512 * streams}"],
            _environment);

    private async Task<JsonElement[]> BenchAsync(string[] arguments, CancellationToken cancellation)
    {
        string output = await ChildProgram.OutputAsync(Program("llama-bench"), [.. arguments, "-t", _threads, .. s_cache, "-r", "1", "-o", "json"], _environment, cancellation);
        JsonElement[] results = [.. JsonDocument.Parse(output).RootElement.EnumerateArray()];
        Version = string.Create(CultureInfo.InvariantCulture, $"{results[0].GetProperty("build_number").GetInt32()} ({results[0].GetProperty("build_commit").GetString()})");
        return results;
    }

    private string Program(string name) => Path.Combine(settings.Peer, OperatingSystem.IsWindows() ? name + ".exe" : name);
}
