using System.CommandLine;
using System.Text.Json.Nodes;

namespace GemmaServer.Benchmarks;

/// <summary><c>compare</c>: the same work on the same file with the same threads, by us and by llama.cpp in turn.</summary>
internal static class CompareCommand
{
    public static Command Create()
    {
        Option<string> peer = new("--peer") { Description = "Folder of llama-bench, llama-batched-bench and llama-server, built for this machine.", HelpName = "DIR", Required = true };
        Option<string> models = new("--models")
        {
            Description = "Folder of the random checkpoints; missing ones are made.", HelpName = "DIR",
            DefaultValueFactory = static _ => Path.Combine(Path.GetTempPath(), "gemmaserver-benchmarks"),
        };
        Option<string> ours = new("--ours") { Description = "Our program; the one built with this when absent.", HelpName = "PROGRAM", DefaultValueFactory = static _ => OurProgram.Built };
        Option<int> rounds = new("--rounds") { Description = "Measurements of each, in turn; medians are shown.", DefaultValueFactory = static _ => 5 };
        Option<string> rows = new("--rows") { Description = "Which rows.", HelpName = string.Join(',', CompareSettings.AllGroups), DefaultValueFactory = static _ => string.Join(',', CompareSettings.AllGroups) };
        Option<int> threads = new("--threads") { Description = "Of either program.", DefaultValueFactory = static _ => 2 };
        Option<bool> amx = new("--amx") { Description = "Let us use AMX tiles. What llama.cpp uses was decided when it was built: give the build that fits." };
        Option<bool> quick = new("--quick") { Description = "One round of a few tokens: shows that everything runs, and measures nothing." };
        Option<string?> json = BenchOutput.Json();
        Command command = new("compare", "Measure GemmaServer and llama.cpp in turn.") { peer, models, ours, rounds, rows, threads, amx, quick, json };
        command.SetAction((parsed, cancellation) =>
        {
            bool isQuick = parsed.GetValue(quick);
            string[] groups = parsed.GetValue(rows)!.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
            CompareSettings settings = new(
                parsed.GetValue(ours)!, Path.GetFullPath(parsed.GetValue(peer)!), Path.GetFullPath(parsed.GetValue(models)!), isQuick ? 1 : parsed.GetValue(rounds),
                parsed.GetValue(threads), groups, parsed.GetValue(amx), isQuick);
            string[] mistakes = [.. Mistakes(settings)];
            return mistakes.Length > 0 ? Task.FromResult(CommandLine.Complain(mistakes)) : RunAsync(settings, parsed.GetValue(json), cancellation);
        });
        return command;
    }

    private static IEnumerable<string> Mistakes(CompareSettings settings)
    {
        if (settings.Rounds is < 1 or > 100) yield return $"--rounds: {settings.Rounds} is not between 1 and 100.";
        if (settings.Threads is < 1 or > 1024) yield return $"--threads: {settings.Threads} is not between 1 and 1024.";
        if (!File.Exists(settings.Ours)) yield return $"--ours: there is no program '{settings.Ours}'.";
        PeerProgram peer = new(settings);
        foreach (string group in settings.Groups)
        {
            if (!CompareSettings.AllGroups.Contains(group)) yield return $"--rows: '{group}' is not one of {string.Join(", ", CompareSettings.AllGroups)}.";
            else if (peer.Missing(group) is { } program) yield return $"--peer: '{group}' needs {program}, which is not in '{settings.Peer}'.";
        }
    }

    private static async Task<int> RunAsync(CompareSettings settings, string? json, CancellationToken cancellation)
    {
        TextWriter readable = BenchOutput.Readable(json);
        OurProgram ours = new(settings);
        PeerProgram peer = new(settings);
        ModelFiles files = new(settings.Models);
        using ThreadTeam team = new(settings.Threads);
        Contest[] contests = [.. settings.Groups.Distinct().SelectMany(g => ContestTable.Of(g, settings, ours, peer, files, team))];
        JsonObject machine = Machine.ToJson(settings.Threads);
        readable.WriteLine(Machine.Describe(settings.Threads));
        if (Machine.HasAmx) readable.WriteLine($"AMX {(settings.Amx ? "on" : "off")} for us; llama.cpp uses it if its build does.");
        List<string> failures = [];
        try
        {
            await peer.AskVersionAsync(cancellation);
            await files.MakeAsync(contests.SelectMany(static c => c.Files).Distinct(), ours, Console.Error.WriteLine, cancellation);
            // A table for each contest as soon as it is there: all of them take hours.
            foreach (Contest contest in contests)
            {
                if (await RunAsync(contest, settings.Rounds, cancellation) is { } failure) failures.Add(failure);
                if (contests.Length > 1) Console.Error.WriteLine(string.Join('\n', contest.Comparisons.Select(static c => $"{c.Work}: ratio {BenchOutput.Short(c.Ratio)}")));
                BenchOutput.Write(json == "-" ? null : json, Json(settings, machine, peer, contests, failures));
            }
        }
        catch (ProgramFailedException e)
        {
            failures.Add(e.Message);
        }
        catch (OperationCanceledException)
        {
            failures.Add("Interrupted.");
        }
        readable.WriteLine($"GemmaServer {ServerVersion.Text}, llama.cpp {peer.Version}; medians of {settings.Rounds}; load average now {BenchOutput.Short(Machine.Load)}\n");
        if (settings.Quick) readable.WriteLine("Quick: everything runs, and the figures mean nothing.\n");
        Comparison.Table(contests.SelectMany(static c => c.Comparisons)).WriteTo(readable);
        foreach (string failure in failures) Console.Error.WriteLine($"error: {failure}");
        BenchOutput.Write(json, Json(settings, machine, peer, contests, failures));
        return failures.Count == 0 ? 0 : 1;
    }

    /// <summary>Null, or what went wrong; then the other contests still run.</summary>
    private static async Task<string?> RunAsync(Contest contest, int rounds, CancellationToken cancellation)
    {
        try
        {
            foreach (string file in contest.Files) ModelFiles.Warm(file);
            for (int round = 0; round < rounds; round++)
            {
                Console.Error.WriteLine($"{contest.Name}: round {round + 1} of {rounds}, load {BenchOutput.Short(Machine.Load)}");
                await contest.RoundAsync(round, cancellation);
            }
            return null;
        }
        catch (ProgramFailedException e)
        {
            return $"{contest.Name}: {e.Message}";
        }
    }

    private static JsonObject Json(CompareSettings settings, JsonObject machine, PeerProgram peer, IEnumerable<Contest> contests, IEnumerable<string> failures) => new()
    {
        ["version"] = ServerVersion.Text,
        ["peer"] = peer.Version,
        ["machine"] = machine.DeepClone(),
        ["load_average_after"] = BenchOutput.Number(Machine.Load),
        ["rounds"] = settings.Rounds,
        ["amx"] = settings.Amx,
        ["quick"] = settings.Quick,
        ["comparisons"] = new JsonArray([.. contests.SelectMany(static c => c.Comparisons).Where(static c => c.Ours.Count > 0).Select(static c => c.ToJson())]),
        ["failures"] = new JsonArray([.. failures.Select(static f => (JsonNode?)f)]),
    };
}
