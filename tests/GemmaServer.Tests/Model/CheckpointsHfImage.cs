using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;
using GemmaServer.Model;

namespace GemmaServer.Tests.Model;

/// <summary>A folder that goes away.</summary>
internal sealed class TempFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("gemmaserver-test-").FullName;

    public string Write(string name, byte[] bytes)
    {
        string path = System.IO.Path.Combine(Path, name);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

/// <summary>A reference checkpoint in Hugging Face's layout, taken apart so that tests can change it.</summary>
internal sealed class HfImage
{
    public JsonObject Config { get; private init; } = [];

    /// <summary>The settings of the text model, nested in released files.</summary>
    public JsonObject Text => Config["text_config"]?.AsObject() ?? Config;

    public List<(string Name, string Dtype, long[] Shape, byte[] Data)> Tensors { get; private init; } = [];

    /// <summary>Other files of the folder, as they are.</summary>
    public Dictionary<string, byte[]> Files { get; } = [];

    public static HfImage Read(string folder)
    {
        byte[] bytes = File.ReadAllBytes(Path.Combine(folder, "model.safetensors"));
        int header = (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        HfImage image = new() { Config = JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "config.json")))!.AsObject() };
        foreach ((string name, JsonNode? info) in JsonNode.Parse(bytes.AsSpan(8, header))!.AsObject())
        {
            if (name == "__metadata__") continue;
            long[] shape = [.. info!["shape"]!.AsArray().Select(n => (long)n!)];
            int start = (int)info["data_offsets"]![0]!, end = (int)info["data_offsets"]![1]!;
            image.Tensors.Add((name, (string)info["dtype"]!, shape, bytes[(8 + header + start)..(8 + header + end)]));
        }
        foreach (string file in (string[])["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"])
            image.Files[file] = File.ReadAllBytes(Path.Combine(folder, file));
        return image;
    }

    public int Find(string suffix)
    {
        int at = Tensors.FindIndex(t => t.Name.EndsWith(suffix, StringComparison.Ordinal));
        Assert.True(at >= 0, $"no tensor {suffix}");
        return at;
    }

    public void Rename(Func<string, string> change)
    {
        for (int i = 0; i < Tensors.Count; i++) Tensors[i] = Tensors[i] with { Name = change(Tensors[i].Name) };
    }

    public void WriteTo(TempFolder folder, bool tensors = true)
    {
        folder.Write("config.json", Encoding.UTF8.GetBytes(Config.ToJsonString()));
        foreach ((string name, byte[] bytes) in Files) folder.Write(name, bytes);
        if (tensors) folder.Write("model.safetensors", Safetensors(Tensors));
    }

    public Checkpoint Open(TempFolder folder)
    {
        WriteTo(folder);
        return Checkpoint.Open(folder.Path);
    }

    /// <summary>Opens what must not open.</summary>
    public CheckpointException Refused()
    {
        using TempFolder folder = new();
        return Assert.Throws<CheckpointException>(() => Open(folder));
    }

    public static byte[] Safetensors(IEnumerable<(string Name, string Dtype, long[] Shape, byte[] Data)> tensors)
    {
        JsonObject header = new() { ["__metadata__"] = new JsonObject { ["format"] = "pt" } };
        MemoryStream data = new();
        foreach ((string name, string dtype, long[] shape, byte[] bytes) in tensors)
        {
            header[name] = new JsonObject
            {
                ["dtype"] = dtype,
                ["shape"] = new JsonArray([.. shape.Select(d => (JsonNode)d)]),
                ["data_offsets"] = new JsonArray(data.Position, data.Position + bytes.Length),
            };
            data.Write(bytes);
        }
        byte[] json = Encoding.UTF8.GetBytes(header.ToJsonString());
        return [.. BitConverter.GetBytes((ulong)json.Length), .. json, .. data.ToArray()];
    }
}
