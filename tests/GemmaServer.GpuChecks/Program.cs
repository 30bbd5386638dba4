using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using GemmaServer.Compute;
using GemmaServer.GpuChecks;

// Checks and measures one GPU: tests/gpu/run.sh starts this where there is neither .NET nor a network.
Dictionary<string, string> given = [];
foreach (string argument in args)
{
    string[] parts = argument.TrimStart('-').Split('=', 2);
    given[parts[0]] = parts.Length == 2 ? parts[1] : "true";
}
string[] known = ["device", "json", "small", "minutes", "only", "activations"];
if (given.Keys.Except(known).Any())
{
    Console.Error.WriteLine("usage: gpu-checks [--device=cuda|opencl] [--json=FILE] [--small] [--minutes=N] [--only=kernels,golden,shares,models] [--activations=bf16|int8|f32]");
    return 2;
}

string device = given.GetValueOrDefault("device", "cuda");
GpuApi api = device == "cuda" ? GpuApi.Cuda : GpuApi.OpenCl;
bool small = given.ContainsKey("small");
// As the server chooses them.
ActivationType activations = Enum.Parse<ActivationType>(given.GetValueOrDefault("activations", device == "cuda" ? "bf16" : "f32"), ignoreCase: true);
double minutes = double.Parse(given.GetValueOrDefault("minutes", "9.5"), CultureInfo.InvariantCulture);
string[] parts_ = given.GetValueOrDefault("only", "kernels,golden,shares,models").Split(',');
DateTime started = DateTime.UtcNow, end = started.AddMinutes(minutes);

JsonObject report = new() { ["device"] = device, ["started"] = started.ToString("O", CultureInfo.InvariantCulture) };
int failed = 0;
try
{
    GpuPeaks peaks;
    GpuInfo info;
    using (GpuContext gpu = GpuDevices.Open(api, 0))
    {
        info = gpu.Info;
        peaks = GpuPeaks.Measure(gpu, small ? 64L << 20 : 1L << 30);
    }
    report["name"] = info.Name;
    report["driver"] = info.Driver;
    report["memory_bytes"] = info.TotalBytes;
    report["copy_bytes_per_second"] = peaks.CopyBytesPerSecond;
    report["mma_sync_bf16_per_second"] = peaks.MatrixPerSecond;
    report["f32_per_second"] = peaks.FloatPerSecond;
    Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture,
        $"{info.Name}: copy {peaks.CopyBytesPerSecond / 1e9:0.0} GB/s, bf16 mma.sync {peaks.MatrixPerSecond / 1e12:0.0} T/s, f32 {peaks.FloatPerSecond / 1e12:0.00} T/s"));

    // Correctness first; no part may eat the others' time.
    SuiteRunner suites = new(device, started.AddMinutes(minutes * 0.4));
    foreach ((string part, string name) in ((string, string)[])[("kernels", "GemmaServer.Tests.Device"), ("golden", "GemmaServer.GoldenTests")])
    {
        if (!parts_.Contains(part)) continue;
        JsonObject result = suites.Run(name);
        failed += (int)result["failed"]!;
        report[part] = result;
    }
    if (parts_.Contains("shares"))
    {
        KernelShares shares = new(device, peaks, small);
        report["attention"] = shares.Attention(activations, started.AddMinutes(minutes * 0.5));
        report["shares"] = shares.Products(activations, started.AddMinutes(minutes * 0.6));
    }
    if (parts_.Contains("models")) report["models"] = await new ModelBench(device, info, peaks, small).RunAsync(activations, end);
}
catch (Exception e)
{
    // Whatever it was, what is known so far is written.
    report["error"] = e.ToString();
    failed++;
}
report["seconds"] = Math.Round((DateTime.UtcNow - started).TotalSeconds, 1);
report["failed"] = failed;
string json = report.ToJsonString(new JsonSerializerOptions { WriteIndented = true });
if (given.GetValueOrDefault("json") is { } file) File.WriteAllText(file, json);
else Console.WriteLine(json);
Console.Error.WriteLine($"{failed} failed, {report["seconds"]} s");
return failed == 0 ? 0 : 1;
