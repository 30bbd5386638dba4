using System.Text.Json.Nodes;
using static GemmaServer.BenchOutput;

namespace GemmaServer;

/// <summary>One line of <c>gemmaserver bench</c>.</summary>
/// <param name="Prompt">Tokens of the prompt that was measured; 0 for decodes.</param>
/// <param name="Generate">Tokens generated per sequence; 0 for prefills.</param>
/// <param name="Depth">Tokens that stood in the context before.</param>
/// <param name="Batch">Sequences together.</param>
/// <param name="TokensPerSecond">Of all sequences together, one for each repetition.</param>
/// <param name="WeightBytes">Read by one decode step; 0 for prefills.</param>
internal sealed record BenchResult(int Prompt, int Generate, int Depth, int Batch, IReadOnlyList<double> TokensPerSecond, long WeightBytes)
{
    public string Test => Prompt > 0 ? $"prefill {Prompt}" : $"decode {Generate}";

    public double Median => Figures.Median(TokensPerSecond);

    /// <summary>10⁹ bytes of weights a second.</summary>
    public double WeightGigabytesPerSecond => WeightBytes * Median / Batch / 1e9;

    public static TextTable Table(IEnumerable<BenchResult> results)
    {
        TextTable table = new("test", "depth", "batch", "tokens/s", "min", "max", "weights/step", "GB/s");
        foreach (BenchResult r in results)
        {
            bool decodes = r.WeightBytes > 0;
            table.Add(r.Test, $"{r.Depth}", $"{r.Batch}", Short(r.Median), Short(r.TokensPerSecond.Min()), Short(r.TokensPerSecond.Max()),
                decodes ? Bytes(r.WeightBytes) : "-", decodes ? Short(r.WeightGigabytesPerSecond) : "-");
        }
        return table;
    }

    private static string Bytes(long bytes) => bytes >= 1_000_000_000 ? $"{Short(bytes / 1e9)} GB" : $"{Short(bytes / 1e6)} MB";

    public JsonObject ToJson() => new()
    {
        ["test"] = Prompt > 0 ? "prefill" : "decode",
        ["prompt_tokens"] = Prompt,
        ["generated_tokens"] = Generate,
        ["depth"] = Depth,
        ["batch"] = Batch,
        ["tokens_per_second"] = Number(Median),
        ["tokens_per_second_min"] = Number(TokensPerSecond.Min()),
        ["tokens_per_second_max"] = Number(TokensPerSecond.Max()),
        ["tokens_per_second_all"] = new JsonArray([.. TokensPerSecond.Select(Number)]),
        ["weight_bytes_per_step"] = WeightBytes > 0 ? WeightBytes : null,
        ["weight_gigabytes_per_second"] = WeightBytes > 0 ? Number(WeightGigabytesPerSecond) : null,
    };
}
