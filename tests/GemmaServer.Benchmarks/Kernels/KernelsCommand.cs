using System.CommandLine;
using System.Text.Json.Nodes;
using GemmaServer.Compute;

namespace GemmaServer.Benchmarks;

/// <summary><c>kernels</c>: each kernel alone in E2B's shapes, beside what the machine can do at most.</summary>
internal static class KernelsCommand
{
    private static readonly string[] s_groups = ["matmul", "attention", "rows"];

    public static Command Create()
    {
        Option<int> threads = new("--threads") { Description = "Of the device and of the peaks; the processor's cores when absent.", DefaultValueFactory = static _ => Environment.ProcessorCount };
        Option<ActivationType> activations = new("--activations") { Description = "Arithmetic of quantized matrix products.", DefaultValueFactory = static _ => ActivationType.Int8 };
        Option<string> only = new("--only") { Description = "Which kernels.", HelpName = string.Join(',', s_groups), DefaultValueFactory = static _ => string.Join(',', s_groups) };
        Option<string> types = new("--types") { Description = "Types of the weights in products; all when absent.", HelpName = "q4_0,q8_0,…", DefaultValueFactory = static _ => string.Join(',', Enum.GetNames<TensorType>()) };
        Option<double> seconds = new("--seconds") { Description = "That each is looked at.", DefaultValueFactory = static _ => 0.5 };
        Option<string?> json = BenchOutput.Json();
        Command command = new("kernels", "Measure each CPU kernel alone.") { threads, activations, only, types, seconds, json };
        command.SetAction(parsed =>
        {
            string[] groups = Words(parsed.GetValue(only)!), typeNames = Words(parsed.GetValue(types)!);
            List<string> mistakes = [];
            if (parsed.GetValue(threads) is < 1 or > 1024) mistakes.Add($"--threads: {parsed.GetValue(threads)} is not between 1 and 1024.");
            if (parsed.GetValue(seconds) is not (> 0 and <= 60)) mistakes.Add($"--seconds: {parsed.GetValue(seconds)} is not above 0 and up to 60.");
            mistakes.AddRange(groups.Except(s_groups).Select(static g => $"--only: '{g}' is not one of {string.Join(", ", s_groups)}."));
            mistakes.AddRange(typeNames.Where(static t => !Enum.TryParse<TensorType>(t, ignoreCase: true, out _)).Select(static t => $"--types: '{t}' is not one of {TensorTypes.SupportedNames}."));
            return mistakes.Count > 0
                ? CommandLine.Complain(mistakes)
                : Run(groups, [.. typeNames.Select(static t => Enum.Parse<TensorType>(t, ignoreCase: true))], parsed.GetValue(threads), parsed.GetValue(activations), parsed.GetValue(seconds), parsed.GetValue(json));
        });
        return command;
    }

    private static string[] Words(string list) => list.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);

    private static int Run(string[] groups, TensorType[] types, int threads, ActivationType activations, double seconds, string? json)
    {
        TextWriter readable = BenchOutput.Readable(json);
        readable.WriteLine(Machine.Describe(threads));
        Peaks peaks = MeasurePeaks(threads);
        readable.WriteLine($"Plain read {BenchOutput.Short(peaks.Read / 1e9)} GB/s; f32 {BenchOutput.Short(peaks.Float / 1e9)} GOP/s; " +
            $"bytes {BenchOutput.Short(peaks.Integer / 1e9)} GOP/s ({ArithmeticPeaks.IntegerName}).\n");

        KernelTimer timer = new(seconds);
        List<KernelResult> results = [];
        IEnumerable<KernelResult> all = groups.SelectMany(g => g switch
        {
            "matmul" => new MatMulKernels(timer, threads, types).Run(activations),
            "attention" => new AttentionKernels(timer, threads, [0, 512, 8192]).Run(),
            _ => new RowKernels(timer, threads).Run(),
        });
        foreach (KernelResult result in all)
        {
            results.Add(result);
            Console.Error.WriteLine($"{result.Kernel}, {result.Shape}, {result.Rows} rows: {BenchOutput.Short(result.Seconds * 1e6)} µs");
        }
        List<KernelResult> products = [.. results.Where(static r => r.IsProduct)], others = [.. results.Where(static r => !r.IsProduct)];
        if (products.Count > 0) KernelResult.ProductTable(products, peaks).WriteTo(readable);
        if (products.Count > 0 && others.Count > 0) readable.WriteLine();
        if (others.Count > 0) KernelResult.Table(others, peaks).WriteTo(readable);
        BenchOutput.Write(json, new JsonObject
        {
            ["version"] = ServerVersion.Text,
            ["machine"] = Machine.ToJson(threads),
            ["activations"] = activations.ToString().ToLowerInvariant(),
            ["read_gigabytes_per_second"] = BenchOutput.Number(peaks.Read / 1e9),
            ["float_gigaoperations_per_second"] = BenchOutput.Number(peaks.Float / 1e9),
            ["integer_gigaoperations_per_second"] = BenchOutput.Number(peaks.Integer / 1e9),
            ["integer_peak_by"] = ArithmeticPeaks.IntegerName,
            ["results"] = new JsonArray([.. results.Select(r => r.ToJson(peaks))]),
        });
        return 0;
    }

    private static Peaks MeasurePeaks(int threads)
    {
        using ThreadTeam team = new(threads);
        using PlainRead read = new(team, 1L << 30);
        ArithmeticPeaks arithmetic = new(team);
        return new(read.BestBytesPerSecond(passes: 15), arithmetic.Float, arithmetic.Integer);
    }
}
