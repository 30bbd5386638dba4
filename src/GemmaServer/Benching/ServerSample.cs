using System.Globalization;

namespace GemmaServer;

/// <summary>What a GemmaServer's <c>/metrics</c> said at one moment; NaN for what was not in it.</summary>
/// <param name="Running">Sequences in the batch.</param>
/// <param name="Steps">Forward passes so far.</param>
/// <param name="Rows">Rows computed in them.</param>
/// <param name="Tokens">Tokens generated.</param>
/// <param name="ModelSeconds">Of the engine thread in the model.</param>
/// <param name="OverheadSeconds">Of the engine thread outside it.</param>
/// <param name="HttpSeconds">CPU of the thread pool, the garbage collector and whatever is neither engine, worker nor compiler.</param>
internal sealed record ServerSample(double Running, double Steps, double Rows, double Tokens, double ModelSeconds, double OverheadSeconds, double HttpSeconds)
{
    private const string Prefix = "gemmaserver_";

    /// <summary>Reads Prometheus text; null when it is not from a server of ours.</summary>
    public static ServerSample? Read(string? metrics)
    {
        if (metrics is null) return null;
        double running = double.NaN, steps = double.NaN, rows = double.NaN, tokens = double.NaN, model = double.NaN, overhead = double.NaN, http = double.NaN;
        foreach (ReadOnlySpan<char> line in metrics.AsSpan().EnumerateLines())
        {
            int blank = line.LastIndexOf(' ');
            if (!line.StartsWith(Prefix, StringComparison.Ordinal) || !double.TryParse(line[(blank + 1)..], CultureInfo.InvariantCulture, out double value)) continue;
            ReadOnlySpan<char> name = line[Prefix.Length..blank];
            int labels = name.IndexOf('{');
            switch (labels < 0 ? name : name[..labels])
            {
                case "num_requests_running": running = value; break;
                case "engine_steps_total": steps = value; break;
                case "engine_rows_total": rows = value; break;
                case "generation_tokens_total": tokens = value; break;
                case "engine_model_seconds_total": model = value; break;
                case "engine_overhead_seconds_total": overhead = value; break;
                case "thread_cpu_seconds_total" when IsHttpSide(name): http = (double.IsNaN(http) ? 0 : http) + value; break;
            }
        }
        return double.IsNaN(steps) || double.IsNaN(rows) ? null : new(running, steps, rows, tokens, model, overhead, http);
    }

    // Compiling is over after a while, and garbage is made by answering: the engine makes none.
    private static bool IsHttpSide(ReadOnlySpan<char> sample) =>
        sample.Contains("role=\"pool\"", StringComparison.Ordinal) || sample.Contains("role=\"gc\"", StringComparison.Ordinal)
        || sample.Contains("role=\"other\"", StringComparison.Ordinal);
}
