using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;

namespace GemmaServer.Benchmarks;

/// <summary>What figures depend on besides the programs; printed above them.</summary>
internal static class Machine
{
    private static readonly string[] s_telling =
        ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve"];

    public static string Processor => Field("model name") ?? RuntimeInformation.ProcessArchitecture.ToString();

    /// <summary>Those instruction sets that decide which kernels run.</summary>
    public static string InstructionSets
    {
        get
        {
            string[] flags = (Field("flags") ?? Field("Features") ?? "").Split(' ');
            return string.Join(", ", s_telling.Where(flags.Contains));
        }
    }

    public static bool HasAmx => InstructionSets.Contains("amx_", StringComparison.Ordinal);

    /// <summary>Processes that wanted a core over the last minute; NaN where the system does not say.</summary>
    public static double Load =>
        File.Exists("/proc/loadavg") ? double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0], CultureInfo.InvariantCulture) : double.NaN;

    /// <summary>Bytes of memory.</summary>
    public static long Memory => GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;

    /// <summary>Two lines for people.</summary>
    public static string Describe(int threads) => string.Create(CultureInfo.InvariantCulture,
        $"{Processor}, {Environment.ProcessorCount} cores, {Memory / 1e9:0} GB, {InstructionSets}\n{RuntimeInformation.OSDescription}, {RuntimeInformation.FrameworkDescription}; {threads} threads; load average {Load:0.00}");

    public static JsonObject ToJson(int threads) => new()
    {
        ["processor"] = Processor,
        ["cores"] = Environment.ProcessorCount,
        ["memory_bytes"] = Memory,
        ["instruction_sets"] = InstructionSets,
        ["os"] = RuntimeInformation.OSDescription,
        ["runtime"] = RuntimeInformation.FrameworkDescription,
        ["threads"] = threads,
        ["load_average"] = BenchOutput.Number(Load),
        ["date"] = DateTime.UtcNow.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture),
    };

    private static string? Field(string name)
    {
        if (!File.Exists("/proc/cpuinfo")) return null;
        string? line = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith(name, StringComparison.Ordinal));
        return line?[(line.IndexOf(':') + 1)..].Trim();
    }
}
