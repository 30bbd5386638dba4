using System.Diagnostics;
using System.Text.Json.Nodes;
using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Model;
using GemmaServer.Tests;

namespace GemmaServer.GpuChecks;

/// <summary>Prefill and decode through the engine at published dimensions with random weights, which the device makes.</summary>
/// <param name="device">As the tests name it.</param>
/// <param name="info">The device, for its memory.</param>
/// <param name="peaks">Measured in the same run.</param>
/// <param name="small">Few layers and a small vocabulary, for a processor.</param>
internal sealed class ModelBench(string device, GpuInfo info, GpuPeaks peaks, bool small)
{
    private const int Prompt = 2048, Generate = 128;

    private (string Size, string Type)[] Models => small
        ? [("e4b", "q4_0"), ("26b-a4b", "q4_0")]
        : [("e4b", "bf16"), ("e4b", "q4_0"), ("12b", "bf16"), ("12b", "q4_0"), ("26b-a4b", "bf16"), ("26b-a4b", "q4_0"), ("31b", "bf16"), ("31b", "q4_0")];

    /// <summary>As many models as the time holds.</summary>
    public async Task<JsonArray> RunAsync(ActivationType activations, DateTime deadline)
    {
        JsonArray results = [];
        foreach ((string size, string type) in Models)
        {
            if (DateTime.UtcNow > deadline)
            {
                results.Add((JsonNode)new JsonObject { ["model"] = size, ["type"] = type, ["error"] = "no time left" });
                continue;
            }
            JsonObject result;
            try
            {
                result = await MeasureAsync(size, type, activations);
            }
            catch (Exception e) when (e is MemoryPlanException or GpuException or InvalidOperationException)
            {
                result = new JsonObject { ["model"] = size, ["type"] = type, ["error"] = e.Message };
            }
            Console.Error.WriteLine(result.ToJsonString());
            results.Add((JsonNode)result);
        }
        return results;
    }

    private async Task<JsonObject> MeasureAsync(string name, string type, ActivationType activations)
    {
        PublishedSize size = RandomShape.Find(name);
        int prompt = small ? 64 : Prompt, generate = small ? 8 : Generate, rows = small ? 64 : Prompt;
        RandomCheckpointFile file = new(size, RandomShape.Config(size, small ? 2 : size.Layers, small ? RandomShape.LeastVocabulary : PublishedSize.Vocabulary), type);
        using Checkpoint checkpoint = file.OpenWithoutMatrices();
        DeviceBudget budget = DeviceBudget.Gpu(info.TotalBytes, info.TotalBytes, 0.95, info.SharesHostMemory) with { LargestBuffer = info.LargestBuffer };
        int length = prompt + generate + 64;
        RunnerPlan plan = RunnerPlan.Make(
            checkpoint.Config, file.DataBytes, new RunnerOptions(KvCacheType.F16, 16, null, length, MaxSequences: 8, MaxBatchTokens: rows), budget);
        IComputeDevice opened = TestDevices.Open(device, activations, adjust: new RandomWeights(file.Deviation, seed: 1).On);
        long start = Stopwatch.GetTimestamp();
        using ModelRunner runner = new(opened, checkpoint, plan);
        double loadSeconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        using InferenceEngine engine = new(runner, new EngineOptions { MaxModelLength = length, MaxSequences = 8, MaxBatchTokens = rows, PrefixCaching = false });
        engine.Start();
        EngineBench bench = new(engine, checkpoint.Config.VocabularySize, rows);
        await bench.PrefillAsync(prompt, default);
        await bench.DecodeAsync(0, 1, Math.Min(8, generate), default);
        double prefill = await BestAsync(() => bench.PrefillAsync(prompt, default)), decode = await BestAsync(() => bench.DecodeAsync(0, 1, generate, default));
        double batch = await BestAsync(() => bench.DecodeAsync(0, 8, generate, default));
        double floor = EngineBench.WeightBytes(checkpoint, 1) / peaks.CopyBytesPerSecond;
        return new JsonObject
        {
            ["model"] = name, ["type"] = type, ["layers"] = checkpoint.Config.LayerCount, ["activations"] = activations.ToString(),
            ["weight_bytes"] = file.DataBytes, ["load_seconds"] = Math.Round(loadSeconds, 2),
            ["prefill_tokens"] = prompt, ["prefill_tokens_per_second"] = Math.Round(prefill, 1),
            ["decode_tokens_per_second"] = Math.Round(decode, 2), ["decode_batch_8_tokens_per_second"] = Math.Round(batch, 2),
            ["decode_share_of_floor"] = Math.Round(decode * floor, 4),
            ["prefill_share_of_peak"] = peaks.MatrixPerSecond > 0 ? Math.Round(prefill * Operations(checkpoint) / peaks.MatrixPerSecond, 4) : null,
        };
    }

    /// <summary>Of the products, for one token of a prompt: the head is computed for its last token alone.</summary>
    private static double Operations(Checkpoint checkpoint)
    {
        ModelConfig c = checkpoint.Config;
        double operations = 0;
        foreach ((string name, TensorSource tensor) in checkpoint.Tensors)
        {
            if (tensor.Rows < 2 || name.EndsWith("token_embd.weight", StringComparison.Ordinal) || name == "output.weight") continue;
            double share = name.EndsWith("_exps.weight", StringComparison.Ordinal) ? (double)c.ExpertsUsed / c.ExpertCount : 1;
            operations += 2.0 * tensor.Rows * tensor.Columns * share;
        }
        return operations;
    }

    private static async Task<double> BestAsync(Func<Task<double>> measure)
    {
        double best = 0;
        for (int i = 0; i < 3; i++) best = Math.Max(best, await measure());
        return best;
    }
}
