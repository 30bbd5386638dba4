using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace GemmaServer;

/// <summary>What the two benchmarks share on the command line: lists of numbers, and where results go.</summary>
internal static class BenchOutput
{
    private static readonly JsonSerializerOptions s_indented = new() { WriteIndented = true };

    /// <summary>Numbers divided by commas: <c>--prompt 512,2048</c>.</summary>
    public static Option<int[]> Numbers(string name, string description, params int[] otherwise) => new(name)
    {
        Description = description,
        HelpName = "N,N,…",
        DefaultValueFactory = _ => otherwise,
        CustomParser = result =>
        {
            List<int> numbers = [];
            foreach (string word in result.Tokens.SelectMany(static t => t.Value.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)))
            {
                if (int.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out int number)) numbers.Add(number);
                else result.AddError($"{name}: '{word}' is not a number.");
            }
            return [.. numbers.Distinct()];
        },
    };

    /// <summary><c>--device</c>, as for a server.</summary>
    public static Option<string> Device() => new("--device")
    {
        Description = "Where the model is computed: auto, cpu, cuda, cuda:N, opencl or opencl:N.",
        DefaultValueFactory = static _ => new ServerOptions().Device,
    };

    /// <summary><c>--json FILE|-</c>.</summary>
    public static Option<string?> Json() => new("--json") { Description = "Write the results as JSON to a file; - for standard output, the table then goes to standard error.", HelpName = "FILE|-" };

    /// <summary>Where people read while JSON goes to <paramref name="json"/>.</summary>
    public static TextWriter Readable(string? json) => json == "-" ? Console.Error : Console.Out;

    /// <summary>Writes the results where they were asked for.</summary>
    public static void Write(string? json, JsonObject results)
    {
        if (json is null) return;
        string text = results.ToJsonString(s_indented) + "\n";
        if (json == "-") Console.Out.Write(text);
        else File.WriteAllText(json, text);
    }

    /// <summary>Three digits that matter; a dash for what was not measured.</summary>
    public static string Short(double value) => !double.IsFinite(value) ? "-" : value.ToString(
        Math.Abs(value) switch { >= 100 => "0", >= 10 => "0.0", _ => "0.00" }, CultureInfo.InvariantCulture);

    /// <summary>As JSON, in which there is no NaN.</summary>
    public static JsonNode? Number(double value) => double.IsFinite(value) ? JsonValue.Create(Math.Round(value, 6)) : null;
}
