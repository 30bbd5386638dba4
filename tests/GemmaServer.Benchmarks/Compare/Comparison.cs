using System.Text.Json.Nodes;

namespace GemmaServer.Benchmarks;

/// <summary>What has to hold of a ratio.</summary>
/// <param name="Value">The bound.</param>
/// <param name="IsMost">Whether the ratio may not be above it, otherwise not below.</param>
internal readonly record struct Bound(double Value, bool IsMost = false)
{
    public bool Holds(double ratio) => IsMost ? ratio <= Value : ratio >= Value;

    public override string ToString() => $"{(IsMost ? "≤" : "≥")} {BenchOutput.Short(Value)}";
}

/// <summary>One line of the table: what was measured of us and of the other, once a round.</summary>
/// <param name="work">What was done.</param>
/// <param name="unit">Of both figures.</param>
/// <param name="bound">Of ours ÷ other; null shows the ratio only.</param>
/// <param name="other">Whom ours is held against.</param>
internal sealed class Comparison(string work, string unit, Bound? bound, string other = "llama.cpp")
{
    public string Work => work;

    /// <summary>Ours, a figure a round.</summary>
    public List<double> Ours { get; } = [];

    /// <summary>The other's, a figure a round.</summary>
    public List<double> Theirs { get; } = [];

    public double Ratio => Figures.Median(Ours) / Figures.Median(Theirs);

    /// <summary>Null where nothing was asked or measured.</summary>
    public bool? IsMet => bound is { } b && double.IsFinite(Ratio) ? b.Holds(Ratio) : null;

    public static TextTable Table(IEnumerable<Comparison> comparisons)
    {
        TextTable table = new("work", "unit", "against", "ours", "theirs", "ratio", "bound", "met");
        foreach (Comparison c in comparisons) table.Add(c.Cells());
        return table;
    }

    public JsonObject ToJson() => new()
    {
        ["work"] = work,
        ["unit"] = unit,
        ["against"] = other,
        ["ours"] = BenchOutput.Number(Figures.Median(Ours)),
        ["theirs"] = BenchOutput.Number(Figures.Median(Theirs)),
        ["ratio"] = BenchOutput.Number(Ratio),
        ["bound"] = bound?.Value,
        ["bound_is_most"] = bound?.IsMost,
        ["met"] = IsMet,
        ["ours_all"] = new JsonArray([.. Ours.Select(BenchOutput.Number)]),
        ["theirs_all"] = new JsonArray([.. Theirs.Select(BenchOutput.Number)]),
    };

    private string[] Cells() =>
    [
        work, unit, other, BenchOutput.Short(Figures.Median(Ours)), BenchOutput.Short(Figures.Median(Theirs)), BenchOutput.Short(Ratio),
        bound?.ToString() ?? "", IsMet switch { true => "yes", false => "no", null => "" },
    ];
}
