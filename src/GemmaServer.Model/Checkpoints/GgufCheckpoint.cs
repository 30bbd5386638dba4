using System.Globalization;
using System.Text.RegularExpressions;

namespace GemmaServer.Model;

/// <summary>Puts a checkpoint together from one GGUF file or a split set.</summary>
internal static partial class GgufCheckpoint
{
    /// <summary>llama.cpp's gguf-split writes name-00001-of-00003.gguf.</summary>
    [GeneratedRegex(@"^(?<stem>.*)-(?<no>\d{5})-of-(?<count>\d{5})\.gguf$", RegexOptions.CultureInvariant | RegexOptions.IgnoreCase)]
    private static partial Regex SplitName();

    public static Checkpoint Open(string path, CheckpointKind kind)
    {
        List<MappedFile> maps = [];
        try
        {
            List<GgufFile> parts = [];
            foreach (string part in PartsOf(path))
            {
                if (!File.Exists(part))
                    throw new CheckpointException(path, "", $"part {Path.GetFileName(part)} of the split set is missing");
                MappedFile map = MappedFile.Open(part);
                maps.Add(map);
                parts.Add(GgufFile.Parse(map.Data, map.Length, part));
            }
            CheckSplit(parts);
            return Build(path, parts, kind, [.. maps]);
        }
        catch
        {
            foreach (MappedFile map in maps) map.Dispose();
            throw;
        }
    }

    public static Checkpoint Open(nint data, long length, string name, IDisposable? owner, bool mayOverlap)
    {
        List<GgufFile> parts = [GgufFile.Parse(data, length, name, mayOverlap)];
        CheckSplit(parts);
        return Build(name, parts, CheckpointKind.Model, owner is null ? [] : [owner]);
    }

    private static Checkpoint Build(string path, List<GgufFile> parts, CheckpointKind kind, IDisposable[] owners)
    {
        GgufMetadata metadata = parts[0].Metadata;
        ConfigFacts facts = GgufConfigReader.Read(metadata, kind);
        Dictionary<string, StoredTensor> stored = new();
        foreach (StoredTensor tensor in parts.SelectMany(p => p.Tensors))
            if (!stored.TryAdd(facts.Drafter is null ? tensor.Name : ExpectedTensors.DrafterName(tensor.Name), tensor))
                throw new CheckpointException(tensor.File, tensor.Name, "this tensor stands in the split set twice");
        if (!stored.ContainsKey("token_embd.weight"))
            throw new CheckpointException(path, "token_embd.weight", "expected the embedding table, found no such tensor (a file with only a vocabulary?)");

        ModelConfig config = ModelConfigBuilder.Build(facts, stored);
        // Before the tensors: the vocabulary size was read off the embedding table, so a wrong table shows here first.
        VocabularySource vocabulary = ReadVocabulary(metadata, config);
        List<string> notes = [];
        DrafterConfig? drafter = facts.Drafter is null ? null : DrafterConfigBuilder.Build(path, facts.Drafter, config, stored, notes);
        Dictionary<string, Compute.TensorSource> used = ExpectedTensors.Select(path, config, drafter, stored, notes);
        return new Checkpoint(owners)
        {
            Path = path,
            Format = "GGUF v3",
            Config = config,
            Drafter = drafter,
            Tensors = used,
            StoredTensors = [.. stored.Where(t => ExpectedTensors.IsKnown(t.Key, drafter is not null) && t.Value.IntegerBytes == 0).Select(t => t.Value.ToSource())],
            Generation = ReadGeneration(metadata, vocabulary, config),
            Vocabulary = vocabulary,
            ChatTemplate = metadata.Text("tokenizer.chat_template"),
            Notes = notes,
        };
    }

    private static IEnumerable<string> PartsOf(string path)
    {
        Match match = SplitName().Match(Path.GetFileName(path));
        if (!match.Success) return [path];
        int count = int.Parse(match.Groups["count"].ValueSpan, CultureInfo.InvariantCulture);
        int number = int.Parse(match.Groups["no"].ValueSpan, CultureInfo.InvariantCulture);
        if (count is < 1 or > 1000 || number != 1)
            throw new CheckpointException(path, "", $"expected the first part of a split set of at most 1000, found part {number} of {count}");
        string folder = Path.GetDirectoryName(path) ?? "", stem = match.Groups["stem"].Value;
        return Enumerable.Range(1, count).Select(i =>
            Path.Combine(folder, string.Create(CultureInfo.InvariantCulture, $"{stem}-{i:D5}-of-{count:D5}.gguf")));
    }

    /// <summary>Each part must say that it is the part its name says, and together they must hold all tensors.</summary>
    private static void CheckSplit(List<GgufFile> parts)
    {
        for (int i = 0; i < parts.Count; i++)
        {
            GgufMetadata m = parts[i].Metadata;
            RequireSplit(m, "split.count", parts.Count, absent: 1);
            RequireSplit(m, "split.no", i, absent: 0);
        }
        int total = parts.Sum(p => p.Tensors.Count);
        RequireSplit(parts[0].Metadata, "split.tensors.count", total, absent: total);
    }

    private static void RequireSplit(GgufMetadata m, string key, int expected, int absent)
    {
        int found = m.Int(key, 0, int.MaxValue) ?? absent;
        if (key == "split.count" && found == 0) found = 1; // Written by some tools into files that are whole.
        if (found != expected) throw new CheckpointException(m.File, key, $"expected {expected} from the files at hand, found {found}");
    }

    private static VocabularySource ReadVocabulary(GgufMetadata m, ModelConfig config)
    {
        const string tokensKey = "tokenizer.ggml.tokens", typesKey = "tokenizer.ggml.token_type";
        string[]? tokens = m.Texts(tokensKey);
        if (tokens is null) return new VocabularySource();
        if (tokens.Length != config.VocabularySize)
            throw new CheckpointException(m.File, tokensKey, $"expected {config.VocabularySize} pieces, the rows of the embedding table; found {tokens.Length}");
        int[]? types = m.Ints(typesKey, 0, int.MaxValue);
        if (types is not null && types.Length != tokens.Length)
            throw new CheckpointException(m.File, typesKey, $"expected {tokens.Length} elements, found {types.Length}");
        int last = tokens.Length - 1;
        return new VocabularySource
        {
            Model = m.Text("tokenizer.ggml.model"),
            Tokens = tokens,
            TokenTypes = types,
            Merges = m.Texts("tokenizer.ggml.merges"),
            BosId = m.Int("tokenizer.ggml.bos_token_id", 0, last),
            EosId = m.Int("tokenizer.ggml.eos_token_id", 0, last),
            UnknownId = m.Int("tokenizer.ggml.unknown_token_id", 0, last),
            PadId = m.Int("tokenizer.ggml.padding_token_id", 0, last),
            MaskId = m.Int("tokenizer.ggml.mask_token_id", 0, last),
            AddBos = m.Flag("tokenizer.ggml.add_bos_token"),
        };
    }

    private static GenerationDefaults ReadGeneration(GgufMetadata m, VocabularySource vocabulary, ModelConfig config)
    {
        int last = config.VocabularySize - 1;
        SortedSet<int> eos = [];
        foreach (string key in (string[])["eos", "eot", "eom"])
            if (m.Int($"tokenizer.ggml.{key}_token_id", 0, last) is int id) eos.Add(id);
        // The file names one end token; the model uses three. They are told by their text, the ids differ in small vocabularies.
        for (int id = 0; id < (vocabulary.Tokens?.Count ?? 0); id++)
            if (vocabulary.Tokens![id] is "<eos>" or "<turn|>" or "<|tool_response>") eos.Add(id);
        return new GenerationDefaults
        {
            Temperature = m.Real("general.sampling.temp"),
            TopK = m.Int("general.sampling.top_k", 0, int.MaxValue),
            TopP = m.Real("general.sampling.top_p"),
            EosTokenIds = [.. eos],
            SuppressTokens = m.Ints("tokenizer.ggml.suppress_tokens", 0, last) ?? [],
        };
    }
}
