using System.Text.Json;
using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.GoldenTests;

/// <summary><c>gemmaserver bench</c> on small models: what it measures, not how fast this machine is.</summary>
public sealed class BenchTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("gemmaserver-bench-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Every_prompt_length_and_every_depth_with_every_batch_is_measured_as_often_as_asked()
    {
        JsonElement root = await BenchAsync("--prompt", "16,32", "--generate", "6", "--depth", "0,20", "--batch", "1,3", "--repetitions", "2");
        (string, int, int, int, int)[] found = [.. root.GetProperty("results").EnumerateArray().Select(static r => (
            r.GetProperty("test").GetString()!, r.GetProperty("prompt_tokens").GetInt32(), r.GetProperty("generated_tokens").GetInt32(),
            r.GetProperty("depth").GetInt32(), r.GetProperty("batch").GetInt32()))];
        Assert.Equal(
            [("prefill", 16, 0, 0, 1), ("prefill", 32, 0, 0, 1), ("decode", 0, 6, 0, 1), ("decode", 0, 6, 0, 3), ("decode", 0, 6, 20, 1), ("decode", 0, 6, 20, 3)], found);
        foreach (JsonElement result in root.GetProperty("results").EnumerateArray())
        {
            double[] all = [.. result.GetProperty("tokens_per_second_all").EnumerateArray().Select(static v => v.GetDouble())];
            Assert.Equal(2, all.Length);
            Assert.True(all.Min() > 0);
            Assert.Equal(all.Average(), result.GetProperty("tokens_per_second").GetDouble(), 0.001);    // the median of two
        }
        Assert.Equal(0, root.GetProperty("preemptions").GetInt64());
    }

    [Fact]
    public async Task A_decode_step_is_charged_with_the_weights_it_reads()
    {
        JsonElement result = (await BenchAsync("--prompt", "0", "--generate", "4", "--depth", "0", "--batch", "1", "--repetitions", "1"))
            .GetProperty("results").EnumerateArray().Single();
        using Checkpoint demo = ModelLoader.Open(new ServerOptions());
        // The demo has per-layer inputs, whose table is looked up and not multiplied, and no experts.
        long bytes = demo.Tensors.Values.Where(static t => t.Name != "per_layer_token_embd.weight").Sum(static t => t.Bytes);
        Assert.Equal(bytes, result.GetProperty("weight_bytes_per_step").GetInt64());
        Assert.Equal(bytes * result.GetProperty("tokens_per_second").GetDouble() / 1e9, result.GetProperty("weight_gigabytes_per_second").GetDouble(), 1e-5);
    }

    [Fact]
    public void Of_the_experts_those_count_that_a_batch_chooses()
    {
        string path = Path.Combine(_folder, "moe.gguf");
        PublishedSize size = RandomShape.Find("26b-a4b");
        new RandomCheckpointFile(size, RandomShape.Config(size, 1, 1024), "q2_k").Write(path, 1, static _ => { }, default);
        using Checkpoint checkpoint = Checkpoint.Open(path);
        long experts = checkpoint.Tensors.Values.Where(static t => t.Name.Contains("_exps.weight", StringComparison.Ordinal)).Sum(static t => t.Bytes);
        long rest = checkpoint.Tensors.Values.Sum(static t => t.Bytes) - experts;
        Assert.Equal(rest + experts / 16, EngineBench.WeightBytes(checkpoint, 1));      // 8 of 128
        Assert.Equal(rest + experts * (1 - 0.9375 * 0.9375), EngineBench.WeightBytes(checkpoint, 2), 2.0);
    }

    [Theory]
    [InlineData("--prompt", "many")]
    [InlineData("--batch", "0")]
    [InlineData("--repetitions", "0")]
    [InlineData("--depth", "100000000")]
    public async Task A_wrong_setting_is_a_usage_error(string flag, string value) =>
        Assert.Equal(CommandLine.UsageError, await CommandLine.RunAsync(["bench", flag, value]));

    private async Task<JsonElement> BenchAsync(params string[] flags)
    {
        string json = Path.Combine(_folder, "bench.json");
        StringWriter errors = new();
        TextWriter before = Console.Error;
        Console.SetError(errors);
        int code = await CommandLine.RunAsync(["bench", .. flags, "--threads", "2", "--json", json]);
        Console.SetError(before);
        Assert.True(code == 0, $"exit code {code}: {errors}");
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(json));
        return document.RootElement.Clone();
    }
}
