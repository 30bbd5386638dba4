using System.CommandLine;
using System.Diagnostics;
using System.Text.Json.Nodes;
using GemmaServer.Compute;
using GemmaServer.Model;
using GemmaServer.Text;
using Microsoft.Extensions.Logging.Abstractions;

namespace GemmaServer;

/// <summary><c>gemmaserver bench</c>: prefill and decode tokens a second at prompt lengths, context depths and batch sizes, through the engine.</summary>
internal static class BenchCommand
{
    private static readonly TimeSpan s_warmUp = TimeSpan.FromSeconds(2);

    private sealed record Work(ServerOptions Options, int[] Prompts, int Generate, int[] Depths, int[] Batches, int Repetitions, string? Json);

    public static Command Create()
    {
        Option<string?> model = new("--model") { Description = "GGUF file or Hugging Face folder; the embedded demo when absent." };
        Option<int[]> prompts = BenchOutput.Numbers("--prompt", "Prompt lengths for prefill; 0 measures none.", 512, 2048);
        Option<int> generate = new("--generate") { Description = "Tokens per sequence for decode; 0 measures none.", DefaultValueFactory = static _ => 128 };
        Option<int[]> depths = BenchOutput.Numbers("--depth", "Tokens in the context before the decode.", 0, 8192);
        Option<int[]> batches = BenchOutput.Numbers("--batch", "Sequences that decode together.", 1, 8);
        Option<int> repetitions = new("--repetitions") { Description = "Measurements of each.", DefaultValueFactory = static _ => 3 };
        Option<string> on = BenchOutput.Device();
        Option<int?> threads = new("--threads") { Description = "Worker threads; the processor's cores when absent." };
        Option<int> batchTokens = new("--max-num-batched-tokens") { Description = "Rows in one step, as when serving.", DefaultValueFactory = static _ => new ServerOptions().MaxNumBatchedTokens };
        Option<ActivationChoice> activations = new("--activations") { Description = "Arithmetic of quantized matrix products." };
        Option<KvCacheChoice> kv = new("--kv-cache-dtype") { Description = "Element type of the KV cache." };
        Option<string?> amx = new("--amx") { Description = "AMX kernels: auto or off. Default: GEMMASERVER_AMX, else auto." };
        Option<string?> json = BenchOutput.Json();
        Command command = new("bench", "Measure prefill and decode speed of a model.")
            { model, prompts, generate, depths, batches, repetitions, on, threads, batchTokens, activations, kv, amx, json };
        command.SetAction((parsed, cancellation) =>
        {
            List<string> mistakes = [];
            Work work = new(
                new ServerOptions
                {
                    Model = parsed.GetValue(model),
                    Device = parsed.GetValue(on)!,
                    Threads = parsed.GetValue(threads),
                    Activations = parsed.GetValue(activations),
                    KvCacheDtype = parsed.GetValue(kv),
                    Amx = Amx(parsed.GetValue(amx), mistakes),
                    MaxNumBatchedTokens = parsed.GetValue(batchTokens),
                },
                [.. parsed.GetValue(prompts)!.Where(static n => n > 0)], parsed.GetValue(generate), parsed.GetValue(depths)!, parsed.GetValue(batches)!,
                parsed.GetValue(repetitions), parsed.GetValue(json));
            mistakes.AddRange(Mistakes(work));
            return mistakes.Count > 0 ? Task.FromResult(CommandLine.Complain(mistakes)) : RunAsync(work, cancellation);
        });
        return command;
    }

    /// <summary>As for a server: the flag, else the environment, where programs that compare set it.</summary>
    private static AmxChoice Amx(string? flag, List<string> mistakes)
    {
        const string variable = "GEMMASERVER_AMX";
        Dictionary<string, string[]> line = flag is null ? [] : new() { ["amx"] = [flag] };
        Dictionary<string, string?> environment = new() { [variable] = Environment.GetEnvironmentVariable(variable) };
        return OptionsReader.Read(line, environment, new ConfigurationBuilder().Build(), mistakes).Amx;
    }

    private static IEnumerable<string> Mistakes(Work work)
    {
        if (work.Generate is < 0 or > 1 << 20) yield return $"--generate: {work.Generate} is not between 0 and {1 << 20}.";
        if (work.Repetitions is < 1 or > 1000) yield return $"--repetitions: {work.Repetitions} is not between 1 and 1000.";
        if (DeviceName.Mistake(work.Options.Device) is { } device) yield return $"--device: {device}";
        if (work.Options.Threads is < 1 or > 1024) yield return $"--threads: {work.Options.Threads} is not between 1 and 1024.";
        if (work.Options.MaxNumBatchedTokens is < 1 or > 1 << 20) yield return $"--max-num-batched-tokens: {work.Options.MaxNumBatchedTokens} is not between 1 and {1 << 20}.";
        else if (work.Batches.Any(b => b < 1 || b > work.Options.MaxNumBatchedTokens)) yield return "--batch: a batch has at least 1 sequence, and at most as many as rows fit in one step.";
        if (work.Prompts.Length == 0 && (work.Generate == 0 || work.Depths.Length == 0 || work.Batches.Length == 0)) yield return "There is nothing to measure.";
    }

    private static async Task<int> RunAsync(Work work, CancellationToken cancellation)
    {
        try
        {
            using Checkpoint opened = ModelLoader.Open(work.Options);
            int needed = NeededLength(work);
            if (needed > opened.Config.ContextLength)
                return CommandLine.Complain([$"Prompt or depth with its answer takes {needed} tokens, but the model's context has {opened.Config.ContextLength}."]);

            int sequences = work.Generate > 0 ? work.Batches.Append(1).Max() : 1;
            ServerOptions options = With(work.Options, needed, sequences);
            string device = "";
            using ServedModel model = ModelLoader.Load(options, (checkpoint, drafter, o, log) => RunnerMaker.Make(checkpoint, drafter, o, line =>
            {
                if (line.StartsWith(RunnerMaker.DeviceLine, StringComparison.Ordinal)) device = line[RunnerMaker.DeviceLine.Length..];
                log(line);
            }), NullLogger.Instance);

            TextWriter readable = BenchOutput.Readable(work.Json);
            readable.WriteLine($"{model.Names[0]} ({opened.Config.SizeName}) on {device}. KV cache {options.KvCacheDtype}, activations {options.Activations}, {options.MaxNumBatchedTokens} rows a step.");
            List<BenchResult> results = await MeasureAsync(work, opened, model, cancellation);
            BenchResult.Table(results).WriteTo(readable);
            long preemptions = model.Engine.Metrics.Preemptions;
            if (preemptions > 0) readable.WriteLine($"The KV pool was too small: {preemptions} preemptions. The decode figures hold recomputation.");
            BenchOutput.Write(work.Json, Json(options, opened, model, device, results));
            return 0;
        }
        catch (Exception e) when (e is CheckpointException or TokenizerException or MemoryPlanException or GpuException or ArgumentException or IOException or UnauthorizedAccessException or InvalidOperationException)
        {
            Console.Error.WriteLine($"error: {e.Message}");
            return 1;
        }
        catch (OperationCanceledException)
        {
            return 1;
        }
    }

    private static async Task<List<BenchResult>> MeasureAsync(Work work, Checkpoint checkpoint, ServedModel model, CancellationToken cancellation)
    {
        EngineBench bench = new(model.Engine, model.VocabularySize, work.Options.MaxNumBatchedTokens);
        (int Depth, int Batch)[] decodes = work.Generate == 0 ? [] : [.. work.Depths.SelectMany(d => work.Batches.Select(b => (d, b)))];
        double total = (work.Prompts.Length + decodes.Length) * work.Repetitions;
        int done = 0;
        List<BenchResult> results = [];
        using ProgressLine progress = new();

        // Pages of the file come into memory with the first pass; the JIT has its final code after some hundred more calls.
        progress.Show(0, "warming up");
        long started = Stopwatch.GetTimestamp();
        do
        {
            if (work.Prompts.Length > 0) await bench.PrefillAsync(work.Prompts.Min(), cancellation);
            foreach (int batch in decodes.Select(static d => d.Batch).Distinct()) await bench.DecodeAsync(0, batch, Math.Min(8, work.Generate), cancellation);
        }
        while (Stopwatch.GetElapsedTime(started) < s_warmUp);

        async Task<double[]> RepeatAsync(string what, Func<Task<double>> measure)
        {
            double[] rates = new double[work.Repetitions];
            for (int i = 0; i < rates.Length; i++)
            {
                progress.Show(done++ / total, what);
                rates[i] = await measure();
            }
            return rates;
        }

        foreach (int length in work.Prompts)
            results.Add(new(length, 0, 0, 1, await RepeatAsync($"prefill {length}", () => bench.PrefillAsync(length, cancellation)), 0));
        foreach ((int depth, int batch) in decodes)
        {
            double[] rates = await RepeatAsync($"decode at depth {depth}, batch {batch}", () => bench.DecodeAsync(depth, batch, work.Generate, cancellation));
            results.Add(new(0, work.Generate, depth, batch, rates, EngineBench.WeightBytes(checkpoint, batch)));
        }
        return results;
    }

    /// <summary>Positions of the longest sequence.</summary>
    private static int NeededLength(Work work)
    {
        int needed = work.Prompts.Append(16).Max() + 1;
        if (work.Generate == 0) return needed;
        foreach (int depth in work.Depths)
            foreach (int batch in work.Batches)
                needed = Math.Max(needed, Math.Max(1, depth) + 1 + work.Generate + EngineBench.Slack(depth, batch, work.Options.MaxNumBatchedTokens));
        return needed;
    }

    private static ServerOptions With(ServerOptions o, int modelLength, int sequences) => new()
    {
        Model = o.Model, Device = o.Device, Threads = o.Threads, Activations = o.Activations, KvCacheDtype = o.KvCacheDtype, Amx = o.Amx, MaxNumBatchedTokens = o.MaxNumBatchedTokens,
        MaxModelLen = modelLength, MaxNumSeqs = sequences,
        // What is measured is computing, not remembering.
        EnablePrefixCaching = false,
    };

    private static JsonObject Json(ServerOptions options, Checkpoint checkpoint, ServedModel model, string device, List<BenchResult> results) => new()
    {
        ["version"] = ServerVersion.Text,
        ["model"] = model.Names[0],
        ["size"] = checkpoint.Config.SizeName,
        ["layers"] = checkpoint.Config.LayerCount,
        ["weight_bytes"] = checkpoint.StoredTensors.Sum(static t => t.Bytes),
        ["device"] = device,
        ["threads"] = options.Threads,
        ["activations"] = options.Activations.ToString().ToLowerInvariant(),
        ["kv_cache_dtype"] = options.KvCacheDtype.ToString().ToLowerInvariant(),
        ["max_num_batched_tokens"] = options.MaxNumBatchedTokens,
        ["preemptions"] = model.Engine.Metrics.Preemptions,
        ["results"] = new JsonArray([.. results.Select(static r => r.ToJson())]),
    };
}
