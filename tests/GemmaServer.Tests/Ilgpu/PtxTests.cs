#if ILGPU
using System.Diagnostics;
using System.Reflection;
using System.Text.RegularExpressions;
using GemmaServer.Compute.Ilgpu;
using ILGPU;
using ILGPU.Backends;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using Xunit.Abstractions;

namespace GemmaServer.Tests.Ilgpu;

/// <summary>A test that assembles PTX; skipped, saying so, where there is no ptxas.</summary>
public sealed class PtxasFactAttribute : FactAttribute
{
    public PtxasFactAttribute() => Skip = Ptxas.Path is null ? "No ptxas (part of NVIDIA's CUDA toolkit) on the path, in /usr/local/cuda/bin or named by GEMMASERVER_PTXAS." : null;
}

internal static class Ptxas
{
    public static string? Path { get; } = new[] { Environment.GetEnvironmentVariable("GEMMASERVER_PTXAS"), "/usr/local/cuda/bin/ptxas" }
        .Concat((Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Select(static d => System.IO.Path.Combine(d, "ptxas")))
        .FirstOrDefault(static p => p is not null && File.Exists(p));
}

/// <summary>
/// What ILGPU makes of the kernels for NVIDIA's GPUs, without one. Its simulator runs .NET code, so it shows nothing of this.
/// </summary>
[Trait("Category", "Ilgpu")]
public sealed partial class PtxTests(ITestOutputHelper output)
{
    [Fact]
    public void Every_kernel_compiles_to_ptx()
    {
        Assert.True(IlgpuKernels.All.Count >= 50, $"only {IlgpuKernels.All.Count} kernels found");
        foreach ((string name, string ptx) in Compile()) Assert.True(ptx.Contains(".target sm_80", StringComparison.Ordinal), name);
    }

    [Fact]
    public void Wide_loads_stay_wide()
    {
        Dictionary<string, string> ptx = Compile();
        // Weights and rows of activations by sixteen bytes, q8_0 by eight.
        Assert.Contains("ld.global.v4", ptx["MatMulKernels.One<BFloatFormat>"]);
        Assert.Contains("ld.global.v2", ptx["MatMulKernels.One<Q8Format>"]);
        Assert.Contains("ld.global.v4", ptx["AttentionKernels.AddValues<KvFloats>"]);
        Assert.Contains("ld.global.v2", ptx["AttentionKernels.AddValues<KvHalves>"]);
    }

    /// <summary>ILGPU unrolls no loop, so what a lane is to load before it waits is written out.</summary>
    [Fact]
    public void Loops_that_matter_are_written_out()
    {
        Dictionary<string, string> ptx = Compile();
        // A block of 32 columns in a turn: four eights of weights, eight fours of the row.
        Assert.Equal((4, 8), (Count(ptx["MatMulKernels.One<Q8Format>"], "ld.global.v2"), Count(ptx["MatMulKernels.One<Q8Format>"], "ld.global.v4")));
        Assert.Equal((4, 8), (Count(ptx["MatMulKernels.Picked<Q8Format>"], "ld.global.v2"), Count(ptx["MatMulKernels.Picked<Q8Format>"], "ld.global.v4")));
        // An eight of weights meets eight rows.
        Assert.Equal((1, 16), (Count(ptx["MatMulKernels.Many<Q8Format>"], "ld.global.v2"), Count(ptx["MatMulKernels.Many<Q8Format>"], "ld.global.v4")));
        // Four values in a turn, and one for what is left; both halves of the head, whole keys and what compact ones lack.
        Assert.Equal(5, Count(ptx["AttentionKernels.AddValues<KvHalves>"], "ld.global.v2"));
        Assert.Equal(4, Count(ptx["AttentionKernels.Score<KvHalves>"], "ld.global.v2"));
    }

    [Fact]
    public void ILGPU_does_not_unroll_a_loop_of_four()
    {
        string ptx = Compile([typeof(PtxTests).GetMethod(nameof(AddsFour), BindingFlags.NonPublic | BindingFlags.Static)!]).Single().Value;
        Assert.Equal(1, Count(ptx, "ld.global.f32"));
    }

    [PtxasFact]
    public void Every_kernel_assembles_and_none_spills()
    {
        List<string> bad = [];
        DirectoryInfo folder = Directory.CreateTempSubdirectory("gemmaserver-ptx");
        try
        {
            foreach ((string name, string ptx) in Compile())
            {
                string file = Path.Combine(folder.FullName, "kernel.ptx");
                File.WriteAllText(file, ptx);
                string said = Run(Ptxas.Path!, "-v", "-arch=sm_80", file, "-o", Path.Combine(folder.FullName, "kernel.cubin"));
                Match about = Usage().Match(said), registers = Registers().Match(said);
                string line = $"{name}: {registers.Groups[1].Value} registers, stack {about.Groups[1].Value}, spills {about.Groups[2].Value} + {about.Groups[3].Value}";
                output.WriteLine(line);
                if (!about.Success || !registers.Success) bad.Add($"{name}: {said}");
                else if (about.Groups[2].Value != "0" || about.Groups[3].Value != "0") bad.Add(line);
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
        Assert.Empty(bad);
    }

    private static void AddsFour(ArrayView<float> x)
    {
        float sum = 0;
        for (int i = 0; i < 4; i++) sum += x[i];
        x[4] = sum;
    }

    private static int Count(string ptx, string instruction) => ptx.Split(instruction).Length - 1;

    // Once for all tests: it takes seconds.
    private static readonly Lazy<Dictionary<string, string>> s_all = new(static () => Compile(IlgpuKernels.All));

    private static Dictionary<string, string> Compile() => s_all.Value;

    private static Dictionary<string, string> Compile(IReadOnlyList<MethodInfo> kernels)
    {
        Dictionary<string, string> texts = [];
        Context context = IlgpuRuntime.CreateContext(IlgpuBackend.Cpu);
        try
        {
            foreach (MethodInfo kernel in kernels)
            {
                using PTXBackend backend = new(context, new CudaCapabilityContext(CudaArchitecture.SM_80), CudaArchitecture.SM_80, CudaInstructionSet.ISA_84, null!);
                try
                {
                    CompiledKernel compiled = backend.Compile(EntryPointDescription.FromExplicitlyGroupedKernel(kernel), KernelSpecialization.Empty);
                    texts[IlgpuKernels.Name(kernel)] = ((PTXCompiledKernel)compiled).PTXAssembly;
                }
                catch (Exception e)
                {
                    Assert.Fail($"{IlgpuKernels.Name(kernel)}: {e.GetBaseException().Message}");
                }
            }
        }
        finally
        {
            context.Dispose();
        }
        return texts;
    }

    private static string Run(string program, params string[] arguments)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true };
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string said = process.StandardOutput.ReadToEnd() + error.Result;
        process.WaitForExit();
        return process.ExitCode == 0 ? said : $"exit {process.ExitCode}: {said}";
    }

    [GeneratedRegex(@"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")]
    private static partial Regex Usage();

    [GeneratedRegex(@"Used (\d+) registers")]
    private static partial Regex Registers();
}
#endif
