using System.Globalization;

namespace GemmaServer;

/// <summary>CPU time of this process by what its threads are for, from <c>/proc/self/task</c>. Linux only; costs nothing between reads.</summary>
/// <remarks>
/// A thread that ends takes its times out of the table, so what was seen of it is kept here, and what nobody saw is in the
/// process's own total: <c>other</c> is that total less all roles, and nothing gets lost.
/// </remarks>
internal sealed class ThreadTimes
{
    // USER_HZ, the unit of /proc: 100 on every architecture that .NET runs on.
    private const double TicksPerSecond = 100;
    private const string Rest = "other";

    // Names as the kernel keeps them, cut at 15 characters. Sockets and timers work for the pool.
    private static readonly (string Prefix, string Role)[] s_roles =
    [
        ("GemmaServer eng", "engine"), ("compute-", "workers"), (".NET TP ", "pool"), (".NET Sockets", "pool"), (".NET Timer", "pool"),
        (".NET Tiered", "jit"), (".NET Server GC", "gc"), (".NET BGC", "gc"), (".NET Finalizer", "gc"),
    ];

    private readonly Dictionary<string, long> _totals = s_roles.Select(static r => r.Role).Append(Rest).Distinct().ToDictionary(static r => r, static _ => 0L);
    private readonly Dictionary<string, long> _seen = [];     // ticks by thread and the moment of its start
    private readonly Lock _reading = new();

    /// <summary>Seconds by role; none of them ever falls.</summary>
    public IReadOnlyList<(string Role, double Seconds)> Read()
    {
        lock (_reading)
        {
            HashSet<string> alive = [];
            foreach (string folder in Directory.EnumerateDirectories("/proc/self/task"))
            {
                if (ReadStat(folder + "/stat") is not { } stat || RoleOf(stat.Name) is not { } role) continue;
                string thread = $"{Path.GetFileName(folder)}@{stat.Start}";
                alive.Add(thread);
                _totals[role] += stat.Ticks - _seen.GetValueOrDefault(thread);
                _seen[thread] = stat.Ticks;
            }
            foreach (string gone in _seen.Keys.Where(t => !alive.Contains(t)).ToArray()) _seen.Remove(gone);
            if (ReadStat("/proc/self/stat") is { } process)
                _totals[Rest] = Math.Max(_totals[Rest], process.Ticks - _totals.Where(static t => t.Key != Rest).Sum(static t => t.Value));
            return [.. _totals.Select(static t => (t.Key, t.Value / TicksPerSecond))];
        }
    }

    /// <summary>What a thread of this name is for; null when it is none of the known ones.</summary>
    internal static string? RoleOf(string name)
    {
        foreach ((string prefix, string role) in s_roles)
        {
            if (name.StartsWith(prefix, StringComparison.Ordinal)) return role;
        }
        return null;
    }

    /// <summary>Null when the thread is gone.</summary>
    private static (string Name, long Ticks, string Start)? ReadStat(string path)
    {
        try
        {
            // pid (name) state …: the name may hold blanks and brackets, what follows its last bracket does not.
            string text = File.ReadAllText(path);
            int open = text.IndexOf('('), close = text.LastIndexOf(')');
            string[] fields = text[(close + 2)..].Split(' ');      // the first is the third of proc(5)
            long ticks = long.Parse(fields[11], CultureInfo.InvariantCulture) + long.Parse(fields[12], CultureInfo.InvariantCulture);
            return (text[(open + 1)..close], ticks, fields[19]);
        }
        catch (IOException)
        {
            return null;
        }
    }
}
