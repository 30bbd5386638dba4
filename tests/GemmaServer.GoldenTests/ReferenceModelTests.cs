using System.Buffers.Binary;
using System.Text.Json;
using GemmaServer.Tests;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>The reference is only worth something when it meets a program that nobody here wrote.</summary>
public class ReferenceModelTests(ITestOutputHelper output)
{
    public static IEnumerable<object[]> Masters() => GoldenModel.All().Where(m => (string)m[1] == "master").Select(m => new[] { m[0] });

    [Theory]
    [MemberData(nameof(Masters))]
    public void The_reference_meets_hugging_face_in_float64(string name)
    {
        GoldenModel golden = GoldenModel.Open(name, "master");
        ReferenceModel model = Read(golden.Path);
        foreach (string prompt in GoldenModel.PromptNames)
        {
            double[][] actual = model.Logits(golden.Prompt(prompt));
            float[][] expected = golden.Logits(prompt);
            int[] positions = golden.Positions(prompt);
            double[] errors = [.. positions.Select((p, i) => RandomShapeTests.Distance(actual[p], expected[i]))];
            output.WriteLine($"{name} {prompt}: max {errors.Max():0.0e+00} over {errors.Length} positions");
            Assert.True(errors.Max() <= 3e-4, $"{prompt}: worst {errors.Max()}");
        }
    }

    /// <summary>Reads config.json (legacy spelling) and the BF16 tensors of one file.</summary>
    private static ReferenceModel Read(string folder)
    {
        JsonElement c = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "config.json"))).RootElement.GetProperty("text_config");
        int Int(string key, int missing = 0) =>
            c.TryGetProperty(key, out JsonElement e) && e.ValueKind == JsonValueKind.Number ? e.GetInt32() : missing;
        bool Flag(string key) => c.TryGetProperty(key, out JsonElement e) && e.ValueKind == JsonValueKind.True;
        JsonElement rope = c.GetProperty("rope_parameters"), full = rope.GetProperty("full_attention");
        int kv = Int("num_key_value_heads");
        ReferenceShape shape = new()
        {
            Pattern = string.Concat(c.GetProperty("layer_types").EnumerateArray().Select(t => t.GetString() == "sliding_attention" ? 'S' : 'F')),
            Hidden = Int("hidden_size"),
            Vocabulary = Int("vocab_size"),
            Heads = Int("num_attention_heads"),
            SlidingKvHeads = kv,
            FullKvHeads = Int("num_global_key_value_heads", kv),
            SlidingHeadDim = Int("head_dim"),
            FullHeadDim = Int("global_head_dim"),
            Window = Int("sliding_window"),
            FeedForward = Int("intermediate_size"),
            DoubleWide = Flag("use_double_wide_mlp"),
            ValueIsKey = Flag("attention_k_eq_v"),
            SharedLayers = Int("num_kv_shared_layers"),
            PerLayerWidth = Int("hidden_size_per_layer_input"),
            Experts = Flag("enable_moe_block") ? Int("num_experts") : 0,
            TopExperts = Int("top_k_experts"),
            ExpertWidth = Int("moe_intermediate_size"),
            Softcap = c.GetProperty("final_logit_softcapping").GetDouble(),
            RotaryFactor = full.GetProperty("partial_rotary_factor").GetDouble(),
            FullBase = full.GetProperty("rope_theta").GetDouble(),
            SlidingBase = rope.GetProperty("sliding_attention").GetProperty("rope_theta").GetDouble(),
        };
        return new ReferenceModel(shape, ReadTensors(Path.Combine(folder, "model.safetensors")));
    }

    private static Dictionary<string, double[]> ReadTensors(string path)
    {
        byte[] file = File.ReadAllBytes(path);
        int data = 8 + (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        Dictionary<string, double[]> tensors = [];
        foreach (JsonProperty p in JsonDocument.Parse(file.AsMemory(8, data - 8)).RootElement.EnumerateObject())
        {
            if (p.Name == "__metadata__") continue;
            Assert.Equal("BF16", p.Value.GetProperty("dtype").GetString());
            int from = data + p.Value.GetProperty("data_offsets")[0].GetInt32(), to = data + p.Value.GetProperty("data_offsets")[1].GetInt32();
            double[] values = new double[(to - from) / 2];
            for (int i = 0; i < values.Length; i++)
                values[i] = StoredFormat.DecodeBFloat(BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(from + 2 * i)));
            tensors[p.Name.Replace("model.language_model.", "", StringComparison.Ordinal)] = values;
        }
        return tensors;
    }
}
