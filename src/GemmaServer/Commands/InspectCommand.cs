using System.CommandLine;
using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Model;
using GemmaServer.Text;
using Microsoft.Extensions.Logging.Abstractions;

namespace GemmaServer;

/// <summary><c>gemmaserver inspect PATH [--verify]</c>: what a checkpoint holds and the memory plan; with --verify, whether it is a published Gemma 4.</summary>
internal static class InspectCommand
{
    public static Command Create()
    {
        Argument<string?> path = new("path") { Description = "GGUF file or Hugging Face folder; the embedded demo when absent.", Arity = ArgumentArity.ZeroOrOne };
        Option<bool> verify = new("--verify")
        {
            Description = "Compare tensor counts, shapes and token vectors with the published models, and measure perplexity on a short text.",
        };
        Option<string> device = BenchOutput.Device();
        Command command = new("inspect", "Print what a checkpoint holds and the memory it needs.") { path, verify, device };
        command.SetAction(parsed => DeviceName.Mistake(parsed.GetValue(device)!) is { } mistake
            ? Task.FromResult(CommandLine.Complain([$"--device: {mistake}"]))
            : RunAsync(new ServerOptions { Model = parsed.GetValue(path), Device = parsed.GetValue(device)! }, parsed.GetValue(verify)));
        return command;
    }

    private static async Task<int> RunAsync(ServerOptions options, bool verify)
    {
        try
        {
            using Checkpoint checkpoint = options.Model is { } path ? Checkpoint.Open(path, CheckpointKind.Any) : ModelLoader.Open(options);
            // What a drafter needs depends on the model it is served with.
            string[] memory = checkpoint.Drafter is null ? [.. RunnerMaker.Plan(checkpoint, null, options).Lines()] : [];
            Console.Write(CheckpointInspector.Describe(checkpoint, memory));
            if (verify && checkpoint.Drafter is not null)
            {
                Console.Error.WriteLine("error: --verify knows the published models, and this is a drafter");
                return 1;
            }
            return !verify || await VerifyAsync(checkpoint, options) ? 0 : 1;
        }
        catch (Exception e) when (e is CheckpointException or TokenizerException or MemoryPlanException or GpuException or ArgumentException)
        {
            Console.Error.WriteLine($"error: {e.Message}");
            return 1;
        }
    }

    private static async Task<bool> VerifyAsync(Checkpoint checkpoint, ServerOptions options)
    {
        Tokenizer tokenizer = ModelLoader.ReadTokenizer(checkpoint);
        int[] text = [tokenizer.Special.Bos, .. tokenizer.Encode(CheckpointVerifier.PerplexityText, parseSpecial: false)];
        double perplexity = await PerplexityAsync(options, text);
        IReadOnlyList<VerificationLine> lines = CheckpointVerifier.Verify(checkpoint, s => tokenizer.Encode(s, parseSpecial: false), _ => perplexity);
        foreach (VerificationLine line in lines) Console.WriteLine(line);
        return lines.All(static l => l.Passed);
    }

    /// <summary>exp of the mean negative log probability of every token after the first, through the engine that serves.</summary>
    private static async Task<double> PerplexityAsync(ServerOptions options, int[] tokens)
    {
        using ServedModel model = ModelLoader.Load(options, RunnerMaker.Make, NullLogger.Instance);
        GenerationRequest request = new() { Id = "perplexity", Prompt = tokens, Sampling = new SamplingParams(), MaxTokens = 0, PromptLogprobs = 0 };
        model.Engine.TrySubmit(request, out Generation? generation);
        while (await generation!.WaitToReadAsync())
            while (generation.TryRead(out _))
            {
            }
        return generation.PromptLogprobs is { Count: > 0 } logprobs ? Math.Exp(-logprobs.Average(static p => p[0].Logprob)) : double.NaN;
    }
}
