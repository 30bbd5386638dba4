using System.Globalization;
using System.Text;

namespace GemmaServer.Compute;

/// <summary>Lists of CPUs as the kernel, taskset and numactl write them: <c>0-3,8-11</c>.</summary>
public static class CpuList
{
    /// <summary>One more than the highest number that is understood: what kernels for the largest machines are built for (NR_CPUS).</summary>
    public const int Limit = 8192;

    /// <summary>The numbers of a list in its order; an empty text is an empty list.</summary>
    /// <exception cref="FormatException">It is none, or names a CPU twice.</exception>
    public static int[] Parse(string text)
    {
        List<int> cpus = [];
        foreach (string part in text.Trim().Split(',', StringSplitOptions.TrimEntries))
        {
            if (part.Length == 0 && text.Trim().Length == 0) break;
            string[] ends = part.Split('-');
            if (ends.Length > 2 || !TryCpu(ends[0], out int first) || !TryCpu(ends[^1], out int last))
                throw new FormatException($"'{part}' is neither a CPU number nor a range such as 0-3");
            if (first > last) throw new FormatException($"the range {part} runs backwards");
            for (int cpu = first; cpu <= last; cpu++)
            {
                if (cpus.Contains(cpu)) throw new FormatException($"CPU {cpu} is there twice");
                cpus.Add(cpu);
            }
        }
        return [.. cpus];
    }

    /// <summary>The list as text, runs of neighbours as ranges.</summary>
    public static string Format(IReadOnlyList<int> cpus)
    {
        StringBuilder text = new();
        for (int i = 0; i < cpus.Count;)
        {
            int last = i;
            while (last + 1 < cpus.Count && cpus[last + 1] == cpus[last] + 1) last++;
            if (i > 0) text.Append(',');
            text.Append(CultureInfo.InvariantCulture, $"{cpus[i]}");
            if (last > i) text.Append(CultureInfo.InvariantCulture, $"-{cpus[last]}");
            i = last + 1;
        }
        return text.ToString();
    }

    private static bool TryCpu(string text, out int cpu) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out cpu) && cpu < Limit;
}
