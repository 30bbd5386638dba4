using System.Text.Json;
using GemmaServer.Tests;

namespace GemmaServer.GoldenTests;

/// <summary>A reference checkpoint in one of its stored forms, with its prompts and expected numbers.</summary>
internal sealed class GoldenModel
{
    private readonly JsonElement _golden;
    private readonly SafetensorsFile _logits;

    private GoldenModel(string name, string type, string path)
    {
        (Name, Type, Path) = (name, type, path);
        _golden = JsonDocument.Parse(File.ReadAllBytes(GoldenData.At(name, "golden.json"))).RootElement;
        _logits = new SafetensorsFile(GoldenData.At(name, "golden.safetensors"));
    }

    public string Name { get; }

    /// <summary>"master" is the safetensors folder.</summary>
    public string Type { get; }

    public string Path { get; }

    public bool HasExperts => Name.Contains("moe", StringComparison.Ordinal);

    public static readonly string[] PromptNames = ["p10", "p100", "p300"];

    /// <summary>Every (model, type) that is there; the drafter has tests of its own.</summary>
    public static IEnumerable<object[]> All()
    {
        List<object[]> all = [];
        foreach (string folder in Directory.GetDirectories(GoldenData.Root, "tiny-*").Order())
        {
            string name = System.IO.Path.GetFileName(folder);
            if (name.EndsWith("-assistant", StringComparison.Ordinal)) continue;
            if (File.Exists(GoldenData.At(name, "hf", "model.safetensors"))) all.Add([name, "master"]);
            foreach (string file in Directory.GetFiles(folder, "*.gguf").Order())
                all.Add([name, System.IO.Path.GetFileNameWithoutExtension(file)[(name.Length + 1)..]]);
        }
        if (all.Count == 0) throw new InvalidOperationException($"No reference checkpoints under {GoldenData.Root}.");
        return all;
    }

    public static GoldenModel Open(string name, string type) =>
        new(name, type, type == "master" ? GoldenData.At(name, "hf") : GoldenData.At(name, $"{name}-{type}.gguf"));

    public int[] Prompt(string prompt) => Ints(_golden.GetProperty("prompts").GetProperty(prompt));

    public int[] Positions(string prompt) => Ints(
        Type == "master" ? _golden.GetProperty("positions").GetProperty(prompt)
        : _golden.GetProperty("types").GetProperty(Type).GetProperty("positions").GetProperty(prompt));

    /// <summary>Reference logits at each stored position.</summary>
    public float[][] Logits(string prompt)
    {
        ReadOnlySpan<float> all = _logits.Floats(Type == "master" ? $"hf64/master/{prompt}" : $"exact/{Type}/{prompt}", out int columns);
        float[][] rows = new float[all.Length / columns][];
        for (int i = 0; i < rows.Length; i++) rows[i] = all.Slice(i * columns, columns).ToArray();
        return rows;
    }

    /// <summary>64 greedy tokens after a prompt and the margin between the best two at each step.</summary>
    public (int[] Tokens, double[] Margins) Greedy(string prompt)
    {
        JsonElement g = _golden.GetProperty("types").GetProperty(Type).GetProperty("greedy_exact").GetProperty(prompt);
        return (Ints(g.GetProperty("ids")), [.. g.GetProperty("margins").EnumerateArray().Select(m => m.GetDouble())]);
    }

    /// <summary>The README's bound for int8 activations: 2 × max(llama.cpp's own error, 0.15).</summary>
    public double Int8Bound(string prompt)
    {
        double rms = _golden.GetProperty("errors").GetProperty(Type).GetProperty("stock_vs_exact").GetProperty(prompt).GetProperty("rms").GetDouble();
        return 2 * Math.Max(rms, 0.15);
    }

    private static int[] Ints(JsonElement array) => [.. array.EnumerateArray().Select(v => v.GetInt32())];
}
