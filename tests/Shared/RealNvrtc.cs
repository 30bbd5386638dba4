using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>A test of CUDA's own compiler, which needs no GPU. Skipped, saying so, where its library is not found.</summary>
public sealed class NvrtcFactAttribute : FactAttribute
{
    public NvrtcFactAttribute() => Skip = RealNvrtc.Missing;
}

/// <summary>
/// NVIDIA's compiler beside the stand-in driver: whatever kernel a test runs on the stand-in, with whatever constants, is compiled by it
/// too, for the oldest architecture meant and for the newest. GEMMASERVER_NVRTC_PATH names its folder where no loader looks.
/// </summary>
internal static partial class RealNvrtc
{
    /// <summary>Bytes that ptxas may spill: odd head sizes of the tests need some at a loop's head; more would cost bandwidth.</summary>
    public const int MostSpilled = 128;

    private static readonly string[] s_targets = ["sm_80", "sm_90a"];
    private static readonly string[] s_names = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"];
    private static readonly ConcurrentDictionary<string, string> s_verdicts = new();
    private static readonly NvrtcCompiler? s_compiler = Find();

    /// <summary>Why it cannot be asked; null where it can.</summary>
    public static string? Missing => s_compiler is null ? "NVRTC, CUDA's compiler library, is not installed, and GEMMASERVER_NVRTC_PATH does not name its folder." : null;

    public static NvrtcCompiler Compiler => s_compiler ?? throw new InvalidOperationException(Missing);

    /// <summary>Compiles a program for every architecture.</summary>
    /// <exception cref="GpuException">It does not compile, or spills.</exception>
    public static void Check(string file, string text)
    {
        string verdict = s_verdicts.GetOrAdd(text, static (text, file) => Verdict(file, text), file);
        if (verdict.Length > 0) throw new GpuException(verdict);
    }

    /// <summary>Bytes spilled by the worst kernel of a log.</summary>
    public static int Spilled(string log) => SpillsPattern().Matches(log).Select(static m => int.Parse(m.Groups[1].Value) + int.Parse(m.Groups[2].Value)).DefaultIfEmpty(0).Max();

    private static string Verdict(string file, string text)
    {
        // Good ones are remembered on disk: the next run compiles what changed.
        KernelCache cache = new(Path.Combine(Path.GetTempPath(), $"gemmaserver-nvrtc-{Environment.UserName}"));
        foreach (string target in s_targets)
        {
            string key = KernelCache.Key(Compiler.Version, target, $"{MostSpilled}", text);
            if (cache.Read(key) is not null) continue;
            try
            {
                int spilled = Spilled(Compiler.Compile(file, text, [.. NvrtcCompiler.Options(target), "--ptxas-options=-v"]).Log);
                if (spilled > MostSpilled) return $"{file} spills {spilled} bytes of registers for {target}, with {Constants(text)}";
            }
            catch (GpuException e)
            {
                return e.Message;
            }
            cache.Write(key, [1]);
        }
        return "";
    }

    private static string Constants(string text) => string.Join(", ", ConstantsPattern().Matches(text).Select(static m => $"{m.Groups[1].Value} {m.Groups[2].Value}"));

    private static NvrtcCompiler? Find()
    {
        string? folder = Environment.GetEnvironmentVariable("GEMMASERVER_NVRTC_PATH");
        if (folder is not null && Directory.Exists(folder))
        {
            // It looks for its own data by name; what is loaded already is found.
            foreach (string data in Directory.GetFiles(folder, "libnvrtc-builtins.so.*")) NativeLibrary.TryLoad(data, out _);
        }
        foreach (string name in s_names)
            if ((folder is not null && NativeLibrary.TryLoad(Path.Combine(folder, name), out nint library)) || NativeLibrary.TryLoad(name, out library)) return new NvrtcCompiler(library);
        return null;
    }

    [GeneratedRegex(@"(\d+) bytes spill stores, (\d+) bytes spill loads")]
    private static partial Regex SpillsPattern();

    [GeneratedRegex(@"^#define (\w+) (-?\d+)$", RegexOptions.Multiline)]
    private static partial Regex ConstantsPattern();
}
