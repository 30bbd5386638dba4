using System.Text.Json.Nodes;
using static GemmaServer.BenchOutput;

namespace GemmaServer;

/// <summary>What a GemmaServer spent between two looks at its metrics; NaN where it does not tell.</summary>
internal readonly record struct ServerFigures(double Steps, double MeanBatch, double OverheadPerStep, double ModelShare, double HttpPerToken)
{
    /// <summary>Null when no step ran in between, or the server began to count anew.</summary>
    public static ServerFigures? Between(ServerSample? before, ServerSample? after)
    {
        if (before is null || after is null || !(after.Steps > before.Steps)) return null;
        double steps = after.Steps - before.Steps, tokens = after.Tokens - before.Tokens;
        double model = after.ModelSeconds - before.ModelSeconds, overhead = after.OverheadSeconds - before.OverheadSeconds;
        return new(
            steps, (after.Rows - before.Rows) / steps, overhead * 1e6 / steps, model / (model + overhead),
            tokens > 0 ? (after.HttpSeconds - before.HttpSeconds) * 1e6 / tokens : double.NaN);
    }

    public JsonObject ToJson() => new()
    {
        ["steps"] = Number(Steps),
        ["mean_batch"] = Number(MeanBatch),
        ["engine_overhead_us_per_step"] = Number(OverheadPerStep),
        ["model_share"] = Number(ModelShare),
        ["http_cpu_us_per_token"] = Number(HttpPerToken),
    };

    public void AddTo(TextTable table, string what) => table.Add(
        what, $"{Steps:0}", Short(MeanBatch), Short(OverheadPerStep), double.IsNaN(ModelShare) ? "-" : $"{ModelShare * 100:0.0} %", Short(HttpPerToken));
}
