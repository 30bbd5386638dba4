using System.Text;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>One vocabulary of the golden data, read from both of its files, with the reference results.</summary>
internal sealed class GoldenVocabulary
{
    private static readonly Lazy<GoldenVocabulary[]> s_all = new(static () =>
        [.. new[] { "tok512", "tok4k" }.Where(name => GoldenData.Has(name, "tokenizer.json")).Select(static name => new GoldenVocabulary(name))]);

    private GoldenVocabulary(string name)
    {
        Name = name;
        Json = File.ReadAllBytes(GoldenData.At(name, "tokenizer.json"));
        Gguf = GgufVocabularyFile.Read(GoldenData.At(name, "vocab.gguf"));
        using FileStream config = File.OpenRead(GoldenData.At(name, "tokenizer_config.json"));
        FromJson = Tokenizer.FromJson(new MemoryStream(Json), config);
        FromGguf = Tokenizer.FromGguf(Gguf);
        using JsonDocument golden = JsonDocument.Parse(File.ReadAllBytes(GoldenData.At(name, "golden.json")));
        Golden = golden.RootElement.Clone();
    }

    /// <summary>Both vocabularies, or those that travel with the clone; at least one.</summary>
    public static GoldenVocabulary[] All
    {
        get
        {
            Assert.NotEmpty(s_all.Value);
            return s_all.Value;
        }
    }

    public string Name { get; }
    public byte[] Json { get; }
    public GgufVocabulary Gguf { get; }
    public Tokenizer FromJson { get; }
    public Tokenizer FromGguf { get; }
    public JsonElement Golden { get; }

    public IEnumerable<(string Source, Tokenizer Tokenizer)> Both => [($"{Name} json", FromJson), ($"{Name} gguf", FromGguf)];

    public static int[] Ids(JsonElement list) => [.. list.EnumerateArray().Select(static id => id.GetInt32())];

    public static string Ids(IEnumerable<int> ids) => string.Join(' ', ids);
}

/// <summary>The least of a GGUF reader that yields a vocabulary.</summary>
internal static class GgufVocabularyFile
{
    public static GgufVocabulary Read(string path)
    {
        using BinaryReader file = new(File.OpenRead(path), Encoding.UTF8);
        Assert.Equal("GGUF", Encoding.ASCII.GetString(file.ReadBytes(4)));
        Assert.Equal(3u, file.ReadUInt32());
        file.ReadUInt64();   // tensors
        Dictionary<string, object> values = [];
        for (ulong left = file.ReadUInt64(); left > 0; left--) values[Text(file)] = Value(file, file.ReadUInt32());
        int? Id(string key) => values.TryGetValue($"tokenizer.ggml.{key}_token_id", out object? id) ? (int)(uint)id : null;
        return new GgufVocabulary(
            (string)values["tokenizer.ggml.model"],
            [.. ((object[])values["tokenizer.ggml.tokens"]).Cast<string>()],
            [.. ((object[])values["tokenizer.ggml.token_type"]).Cast<int>()],
            [.. ((object[])values["tokenizer.ggml.merges"]).Cast<string>()],
            Id("bos"), Id("eos"), Id("unknown"), Id("padding"), Id("mask"), Id("eot"),
            (bool)values["tokenizer.ggml.add_bos_token"]);
    }

    private static string Text(BinaryReader file) => Encoding.UTF8.GetString(file.ReadBytes((int)file.ReadUInt64()));

    private static object Value(BinaryReader file, uint type) => type switch
    {
        4 => file.ReadUInt32(),
        5 => file.ReadInt32(),
        6 => file.ReadSingle(),
        7 => file.ReadBoolean(),
        8 => Text(file),
        9 => List(file),
        _ => throw new NotSupportedException($"GGUF value type {type}"),
    };

    private static object[] List(BinaryReader file)
    {
        uint type = file.ReadUInt32();
        object[] values = new object[file.ReadUInt64()];
        for (int i = 0; i < values.Length; i++) values[i] = Value(file, type);
        return values;
    }
}
