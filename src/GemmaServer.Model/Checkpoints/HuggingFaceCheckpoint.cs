using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>Puts a checkpoint together from a folder in Hugging Face's layout.</summary>
internal static class HuggingFaceCheckpoint
{
    private const int MaxJsonBytes = 64 << 20;
    private const int MaxTemplateBytes = 4 << 20;

    public static Checkpoint Open(string folder, CheckpointKind kind)
    {
        string configPath = Path.Combine(folder, "config.json");
        if (!File.Exists(configPath)) throw new CheckpointException(folder, "config.json", "the file is missing");
        JsonFields root = JsonFields.Read(configPath, MaxJsonBytes);
        List<MappedFile> maps = [];
        List<string> notes = [];
        try
        {
            Dictionary<string, StoredTensor> stored = ReadTensors(folder, maps, notes);
            ConfigFacts facts = HuggingFaceConfigReader.Read(root, CountLayers(stored.Keys), notes, kind);
            ModelConfig config = ModelConfigBuilder.Build(facts, stored);
            DrafterConfig? drafter = facts.Drafter is null ? null : DrafterConfigBuilder.Build(folder, facts.Drafter, config, stored, notes);
            Dictionary<string, TensorSource> used = ExpectedTensors.Select(folder, config, drafter, stored, notes);
            return new Checkpoint([.. maps])
            {
                Path = folder,
                Format = "safetensors",
                Config = config,
                Drafter = drafter,
                Tensors = used,
                StoredTensors = [.. stored.Where(t => t.Key != "output.weight" && t.Value.IntegerBytes == 0).Select(t => t.Value.ToSource())],
                Generation = ReadGeneration(folder, root, config),
                Vocabulary = new VocabularySource { TokenizerJsonPath = Existing(folder, "tokenizer.json"), TokenizerConfigPath = Existing(folder, "tokenizer_config.json") },
                ChatTemplate = ReadChatTemplate(folder),
                Notes = notes,
            };
        }
        catch
        {
            foreach (MappedFile map in maps) map.Dispose();
            throw;
        }
    }

    /// <summary>The text tensors of all shards under canonical names.</summary>
    private static Dictionary<string, StoredTensor> ReadTensors(string folder, List<MappedFile> maps, List<string> notes)
    {
        Dictionary<string, StoredTensor> stored = new();
        List<string> unknown = [];
        int media = 0;
        foreach ((string path, HashSet<string>? promised) in Shards(folder))
        {
            MappedFile map = MappedFile.Open(path);
            maps.Add(map);
            foreach (StoredTensor tensor in SafetensorsFile.Parse(map.Data, map.Length, path, IsWanted))
            {
                HuggingFaceNames.Classify(tensor.Name, out string canonical);
                if (!stored.TryAdd(canonical, tensor))
                    throw new CheckpointException(path, tensor.Name, $"this tensor stands in the checkpoint twice, also as {stored[canonical].Name}");
                promised?.Remove(tensor.Name);
            }
            if (promised?.FirstOrDefault(n => HuggingFaceNames.Classify(n, out _) == TensorRole.Text) is string missing)
                throw new CheckpointException(path, missing, "the index says that this tensor is in this file, and it is not");

            bool IsWanted(string name)
            {
                switch (HuggingFaceNames.Classify(name, out _))
                {
                    case TensorRole.Text: return true;
                    case TensorRole.Media: media++; return false;
                    case TensorRole.SplitExpert:
                        throw new CheckpointException(path, name, "experts in tensors of their own cannot be loaded; expected experts.gate_up_proj and experts.down_proj");
                    default: unknown.Add(name); return false;
                }
            }
        }
        if (media > 0) notes.Add($"{media} tensors of the vision and audio encoders are not part of the text model");
        if (unknown.Count > 0) notes.Add($"{unknown.Count} unknown tensors are not used: {string.Join(", ", unknown.Take(5))}{(unknown.Count > 5 ? ", …" : "")}");
        return stored;
    }

    /// <summary>The weight files, each with the tensors that the index promises for it (null without an index).</summary>
    private static List<(string Path, HashSet<string>? Promised)> Shards(string folder)
    {
        string indexPath = Path.Combine(folder, "model.safetensors.index.json");
        if (!File.Exists(indexPath))
        {
            string single = Path.Combine(folder, "model.safetensors");
            if (File.Exists(single)) return [(single, null)];
            string[] all = [.. Directory.GetFiles(folder, "*.safetensors").Order(StringComparer.Ordinal)];
            return all.Length > 0
                ? [.. all.Select(p => (p, (HashSet<string>?)null))]
                : throw new CheckpointException(folder, "", "expected *.safetensors beside config.json, found none");
        }

        JsonFields index = JsonFields.Read(indexPath, MaxJsonBytes);
        JsonFields map = index.Object("weight_map") ?? throw index.Problem("weight_map", "the field is missing");
        SortedDictionary<string, HashSet<string>> byFile = new(StringComparer.Ordinal);
        foreach ((string tensor, string file) in map.TextMembers())
        {
            // The index comes with the download: it must not lead out of the folder.
            if (file != Path.GetFileName(file) || !file.EndsWith(".safetensors", StringComparison.Ordinal) || file.Contains('\0') || file.Contains('\\'))
                throw map.Problem(tensor, $"expected the name of a .safetensors file in this folder, found '{file}'");
            if (!byFile.TryGetValue(file, out HashSet<string>? names)) byFile.Add(file, names = []);
            names.Add(tensor);
        }
        foreach (string file in byFile.Keys)
            if (!File.Exists(Path.Combine(folder, file)))
                throw new CheckpointException(folder, file, "the index names this file, and it is missing");
        return [.. byFile.Select(p => (Path.Combine(folder, p.Key), (HashSet<string>?)p.Value))];
    }

    private static int CountLayers(IEnumerable<string> names)
    {
        int count = 0;
        foreach (string name in names)
        {
            if (!name.StartsWith("blk.", StringComparison.Ordinal)) continue;
            int index = int.Parse(name.AsSpan(4, name.IndexOf('.', 4) - 4), System.Globalization.CultureInfo.InvariantCulture);
            count = Math.Max(count, Math.Min(index, 1000) + 1);
        }
        return count;
    }

    private static GenerationDefaults ReadGeneration(string folder, JsonFields root, ModelConfig config)
    {
        SortedSet<int> eos = [];
        AddIds(root, "eos_token_id", config, eos);
        if (root.Object("text_config") is JsonFields text) AddIds(text, "eos_token_id", config, eos);
        if (Existing(folder, "generation_config.json") is not string path) return new GenerationDefaults { EosTokenIds = [.. eos] };

        JsonFields generation = JsonFields.Read(path, MaxJsonBytes);
        AddIds(generation, "eos_token_id", config, eos);
        List<int> suppressed = [];
        AddIds(generation, "suppress_tokens", config, suppressed);
        return new GenerationDefaults
        {
            Temperature = generation.Real("temperature"),
            TopK = generation.Int("top_k"),
            TopP = generation.Real("top_p"),
            EosTokenIds = [.. eos],
            SuppressTokens = suppressed,
        };
    }

    private static void AddIds(JsonFields fields, string name, ModelConfig config, ICollection<int> ids)
    {
        foreach (long id in fields.Integers(name) ?? [])
        {
            if (id < 0 || id >= config.VocabularySize)
                throw fields.Problem(name, $"expected token ids 0 … {config.VocabularySize - 1}, found {id}");
            ids.Add((int)id);
        }
    }

    /// <summary>chat_template.jinja, or the field of tokenizer_config.json that came before it (a text, or named texts).</summary>
    private static string? ReadChatTemplate(string folder)
    {
        if (Existing(folder, "chat_template.jinja") is string path)
        {
            long bytes = new FileInfo(path).Length;
            return bytes <= MaxTemplateBytes ? File.ReadAllText(path) : throw new CheckpointException(path, "", $"expected at most {MaxTemplateBytes} bytes, found {bytes}");
        }
        if (Existing(folder, "tokenizer_config.json") is not string tokenizer) return null;
        JsonFields fields = JsonFields.Read(tokenizer, MaxJsonBytes);
        if (!fields.IsArray("chat_template")) return fields.Text("chat_template");
        foreach (JsonFields named in fields.Objects("chat_template")!)
            if (named.Text("name") == "default") return named.Text("template");
        return null;
    }

    private static string? Existing(string folder, string name)
    {
        string path = Path.Combine(folder, name);
        return File.Exists(path) ? path : null;
    }
}
