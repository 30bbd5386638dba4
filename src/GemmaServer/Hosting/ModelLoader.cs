using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Model;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Puts a model on a device for serving: the one step that the host does not know itself.</summary>
/// <param name="checkpoint">Opened and checked; it outlives the runner.</param>
/// <param name="drafter">A drafter that fits it, or null; it outlives the runner too.</param>
/// <param name="options">Device, threads, types and bounds.</param>
/// <param name="log">Receives lines for the log, such as the memory plan.</param>
/// <returns>The runner and the context length that it can hold.</returns>
internal delegate (IModelRunner Runner, int MaxModelLength) RunnerFactory(Checkpoint checkpoint, Checkpoint? drafter, ServerOptions options, Action<string> log);

/// <summary>From a path to a model that answers: checkpoint, tokenizer, runner, engine. Anything wrong is said before serving.</summary>
internal static class ModelLoader
{
    /// <summary>Served when no model is named.</summary>
    public const string DemoName = "gemma4-demo";

    private const string DemoResource = "demo-gemma4.gguf";

    /// <summary>SHA-256 of Google's two templates, small and large.</summary>
    private static readonly string[] CanonicalTemplates =
    [
        "0a2c8073c878ab1da004bee933a998606537bbb62016310352c7285c3f01c5b5",
        "ae53464bf3be25802b3a5b37def7fd89667067d7577049b3b2d74c4d8de4c6d4",
    ];

    /// <summary>Opens and loads.</summary>
    /// <exception cref="CheckpointException">The checkpoint cannot be served.</exception>
    /// <exception cref="TokenizerException">Its vocabulary cannot.</exception>
    /// <exception cref="ArgumentException">The options do not go with it.</exception>
    public static ServedModel Load(ServerOptions options, RunnerFactory makeRunner, ILogger logger) => Load(Open(options), options, makeRunner, logger);

    /// <summary>Loads a checkpoint that is open already; it belongs to the model from here on, and is closed when it cannot be served.</summary>
    public static ServedModel Load(Checkpoint checkpoint, ServerOptions options, RunnerFactory makeRunner, ILogger logger)
    {
        void Say(string line) => Logs.Loading(logger, line);

        // A quarter of a million pieces beside the weights: neither needs the other.
        Task<Tokenizer> reading = Task.Run(() => ReadTokenizer(checkpoint));
        Checkpoint? drafter = null;
        IModelRunner? runner = null;
        InferenceEngine? engine = null;
        try
        {
            foreach (string note in checkpoint.Notes) Say(note);
            if (checkpoint.ChatTemplate is { } template && !CanonicalTemplates.Contains(Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(template)))))
                Say("The checkpoint's chat template is not the canonical one of 2026-07-09; prompts follow the canonical one.");
            drafter = OpenDrafter(options, checkpoint, Say);
            (runner, int maxModelLength) = makeRunner(checkpoint, drafter, options, Say);
            Tokenizer tokenizer = reading.GetAwaiter().GetResult();
            if (tokenizer.VocabularySize > checkpoint.Config.VocabularySize)
                throw new CheckpointException(checkpoint.Path, "tokenizer", $"it has {tokenizer.VocabularySize} tokens, but the model embeds {checkpoint.Config.VocabularySize}");
            engine = new InferenceEngine(runner, new EngineOptions
            {
                MaxModelLength = maxModelLength,
                MaxSequences = options.MaxNumSeqs,
                MaxBatchTokens = options.MaxNumBatchedTokens,
                MaxQueue = options.MaxQueue,
                MaxQueuePerClient = options.MaxQueuePerKey,
                PrefixCaching = options.EnablePrefixCaching,
                PromptLookupDrafts = Speculation.IsPromptLookup(options) ? Speculation.MaxDrafts(options, checkpoint.Config) : 0,
                OnError = e => Logs.EngineFailure(logger, e),
            });
            engine.Start();
            return new ServedModel
            {
                Names = Names(options, checkpoint),
                Tokenizer = tokenizer,
                Flavour = options.ChatTemplate ?? Flavour(checkpoint.Config),
                Defaults = Defaults(checkpoint.Generation),
                EndTokens = [.. checkpoint.Generation.EosTokenIds.Union(tokenizer.Special.EndOfGeneration)],
                SuppressTokens = checkpoint.Generation.SuppressTokens,
                Engine = engine,
                VocabularySize = checkpoint.Config.VocabularySize,
                BlockSize = BlockSize(runner.KvCache),
                Fingerprint = Fingerprint(checkpoint),
                Card = ModelCard.Of(checkpoint),
                Owned = drafter is null ? [runner, checkpoint] : [runner, drafter, checkpoint],
            };
        }
        catch
        {
            engine?.Dispose();
            runner?.Dispose();
            drafter?.Dispose();
            checkpoint.Dispose();
            throw;
        }
    }

    /// <summary>Opens the named checkpoint, or the demo inside this assembly.</summary>
    public static Checkpoint Open(ServerOptions options) => options.Model is { } path ? Checkpoint.Open(path) : OpenDemo();

    /// <summary>Reads the vocabulary beside or inside a checkpoint.</summary>
    /// <exception cref="TokenizerException">It is damaged or of another kind.</exception>
    public static Tokenizer ReadTokenizer(Checkpoint checkpoint)
    {
        VocabularySource source = checkpoint.Vocabulary;
        if (source.TokenizerJsonPath is { } path)
        {
            using FileStream json = File.OpenRead(path);
            using FileStream? config = source.TokenizerConfigPath is { } configPath ? File.OpenRead(configPath) : null;
            return Tokenizer.FromJson(json, config);
        }
        if (source.Tokens is null) throw new CheckpointException(checkpoint.Path, "tokenizer", "the checkpoint has none: expected tokenizer.json or tokenizer.ggml.tokens");
        return Tokenizer.FromGguf(new GgufVocabulary(
            source.Model ?? "", [.. source.Tokens], source.TokenTypes is { } types ? [.. types] : null, [.. source.Merges ?? []],
            source.BosId, source.EosId, source.UnknownId, source.PadId, source.MaskId, EndOfTurn: null, source.AddBos));
    }

    /// <summary>Small templates go with per-layer embeddings (E2B, E4B), whatever text a file embeds.</summary>
    public static TemplateFlavour Flavour(ModelConfig config) => config.PerLayerInputSize > 0 ? TemplateFlavour.Small : TemplateFlavour.Large;

    /// <summary>The checkpoint's own recommendation, else Google's for Gemma 4.</summary>
    public static SamplingDefaults Defaults(GenerationDefaults generation)
    {
        SamplingDefaults google = new();
        return new SamplingDefaults(generation.Temperature ?? google.Temperature, generation.TopP ?? google.TopP, generation.TopK ?? google.TopK);
    }

    /// <summary>Opens the drafter that the options name, if they do.</summary>
    /// <exception cref="CheckpointException">It is none, or was made for another model.</exception>
    private static Checkpoint? OpenDrafter(ServerOptions options, Checkpoint target, Action<string> log)
    {
        if (Speculation.DrafterPath(options) is not { } path) return null;
        Checkpoint drafter = Checkpoint.Open(path, CheckpointKind.Drafter);
        try
        {
            DrafterFit.Check(drafter, target);
            foreach (string note in drafter.Notes) log(note);
            log($"Speculative decoding: drafter {drafter.Path} ({drafter.Config.LayerCount} layers of width {drafter.Config.HiddenSize}), at most {Speculation.MaxDrafts(options, target.Config)} tokens a step");
            return drafter;
        }
        catch
        {
            drafter.Dispose();
            throw;
        }
    }

    private static Checkpoint OpenDemo()
    {
        using Stream stream = typeof(ModelLoader).Assembly.GetManifestResourceStream(DemoResource)
            ?? throw new CheckpointException(DemoResource, "", "this build holds no demo model; name one with --model");
        NativeCopy copy = new(stream);
        try
        {
            return Checkpoint.OpenGguf(copy.Address, copy.Length, DemoResource, copy);
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    private static IReadOnlyList<string> Names(ServerOptions options, Checkpoint checkpoint)
    {
        if (options.ServedModelName.Count > 0) return options.ServedModelName;
        if (options.Model is null) return [DemoName];
        string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(checkpoint.Path)));
        return [name.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase) ? name[..^5] : name];
    }

    private static int BlockSize(KvCachePlan plan) => (plan.Groups.FirstOrDefault(static g => g.Window == 0) ?? plan.Groups[0]).TokensPerPage;

    /// <summary>From names, types and shapes, and the first bytes of each tensor: enough to tell two models apart, without reading all of it.</summary>
    private static unsafe string Fingerprint(Checkpoint checkpoint)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (TensorSource tensor in checkpoint.StoredTensors)
        {
            hash.AppendData(Encoding.UTF8.GetBytes($"{tensor.Name} {tensor.Type} {tensor.Rows} {tensor.Columns}\n"));
            hash.AppendData(new ReadOnlySpan<byte>((void*)tensor.Data, (int)Math.Min(64, tensor.Bytes)));
        }
        return $"gs-{ServerVersion.Text}-{Convert.ToHexStringLower(hash.GetHashAndReset())[..12]}";
    }

    /// <summary>A resource's bytes at a fixed address, aligned for vector loads.</summary>
    private sealed unsafe class NativeCopy : IDisposable
    {
        private void* _memory;

        public NativeCopy(Stream stream)
        {
            Length = stream.Length;
            _memory = NativeMemory.AlignedAlloc((nuint)Length, 64);
            using UnmanagedMemoryStream copy = new((byte*)_memory, Length, Length, FileAccess.Write);
            stream.CopyTo(copy);
        }

        public nint Address => (nint)_memory;

        public long Length { get; }

        public void Dispose()
        {
            NativeMemory.AlignedFree(_memory);
            _memory = null;
        }
    }
}
