using System.Buffers.Binary;
using System.Text.Json.Nodes;

namespace GemmaServer.GoldenTests;

/// <summary>A target like 12B (compact global layers) with a random drafter for it, both as Hugging Face folders.</summary>
internal sealed class RandomDrafter : IDisposable
{
    public const int Clusters = 12, ClusterSize = 8;

    private readonly string _folder = Directory.CreateTempSubdirectory("gemmaserver-drafter-").FullName;

    /// <param name="seed">Of all weights.</param>
    /// <param name="centroidsUsed">Clusters that the head scores; 0 writes a dense head.</param>
    /// <param name="window">Of both.</param>
    public RandomDrafter(int seed, int centroidsUsed = 0, int window = 17)
    {
        Random random = new(seed);
        ReferenceShape shape = new()
        {
            Pattern = "SSFSSF", Hidden = 64, Vocabulary = Clusters * ClusterSize, Heads = 4, SlidingKvHeads = 2, FullKvHeads = 1,
            SlidingHeadDim = 32, FullHeadDim = 64, Window = window, FeedForward = 96, ValueIsKey = true,
        };
        Target = new RandomCheckpoint(random, shape);
        // More heads to a KV head than the target has, and layers of its own width.
        Shape = shape with { Pattern = "SSSF", Hidden = 48, Heads = 8, FeedForward = 40, SharedLayers = 4, Softcap = 0 };
        List<(string Name, int[] Shape, double[] Values)> weights = RandomModel.Weights(random, Shape, unusedKv: false, ownHead: false);
        weights.Add(Matrix(random, "pre_projection.weight", Shape.Hidden, 2 * shape.Hidden));
        weights.Add(Matrix(random, "post_projection.weight", shape.Hidden, Shape.Hidden));
        weights.Add(Matrix(random, "masked_embedding.centroids.weight", Clusters, Shape.Hidden));
        Ordering = [.. Enumerable.Range(0, shape.Vocabulary)];
        random.Shuffle(Ordering);
        Write(random, weights, centroidsUsed);
        Model = new ReferenceDrafter(Shape, weights.ToDictionary(w => w.Name, w => w.Values), Target.Model);
        Centroids = weights[^1].Values;
    }

    public RandomCheckpoint Target { get; }

    public ReferenceShape Shape { get; }

    public ReferenceDrafter Model { get; }

    public double[] Centroids { get; }

    public int[] Ordering { get; }

    public string Path => _folder;

    public void Dispose()
    {
        Target.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static (string, int[], double[]) Matrix(Random random, string name, int rows, int columns) =>
        (name, [rows, columns], [.. Enumerable.Range(0, rows * columns).Select(_ => (random.NextDouble() - 0.5) * Math.Sqrt(12.0 / columns))]);

    private void Write(Random random, List<(string Name, int[] Shape, double[] Values)> weights, int centroidsUsed)
    {
        List<(string Name, string Type, int[] Shape, byte[] Data)> tensors = [];
        foreach ((string name, int[] size, double[] values) in weights)
        {
            bool own = name.Contains("_projection.weight", StringComparison.Ordinal) || name.StartsWith("masked", StringComparison.Ordinal);
            byte[] data = StoredFormat.Encode("F32", values);
            if (centroidsUsed > 0 || !name.StartsWith("masked", StringComparison.Ordinal)) tensors.Add((own ? name : "model." + name, "F32", size, data));
        }
        byte[] ordering = new byte[Ordering.Length * 8];
        for (int i = 0; i < Ordering.Length; i++) BinaryPrimitives.WriteInt64LittleEndian(ordering.AsSpan(i * 8), Ordering[i]);
        if (centroidsUsed > 0) tensors.Add(("masked_embedding.token_ordering", "I64", [Ordering.Length], ordering));
        RandomCheckpoint.WriteSafetensors(random, System.IO.Path.Combine(_folder, "model.safetensors"), tensors);
        ReferenceShape s = Shape;
        JsonObject config = new()
        {
            ["model_type"] = "gemma4_unified_assistant",
            ["backbone_hidden_size"] = Target.Shape.Hidden,
            ["use_ordered_embeddings"] = centroidsUsed > 0,
            ["num_centroids"] = Clusters,
            ["centroid_intermediate_top_k"] = Math.Max(1, centroidsUsed),
            ["text_config"] = new JsonObject
            {
                ["model_type"] = "gemma4_unified_text",
                ["num_hidden_layers"] = s.Layers,
                ["hidden_size"] = s.Hidden,
                ["vocab_size"] = s.Vocabulary,
                ["num_attention_heads"] = s.Heads,
                ["num_key_value_heads"] = s.SlidingKvHeads,
                ["num_global_key_value_heads"] = s.FullKvHeads,
                ["attention_k_eq_v"] = true,
                ["head_dim"] = s.SlidingHeadDim,
                ["global_head_dim"] = s.FullHeadDim,
                ["intermediate_size"] = s.FeedForward,
                ["sliding_window"] = s.Window,
                ["num_kv_shared_layers"] = s.Layers,
                ["layer_types"] = new JsonArray([.. s.Pattern.Select(c => (JsonNode)(c == 'S' ? "sliding_attention" : "full_attention"))]),
                ["final_logit_softcapping"] = null,
                ["rope_parameters"] = new JsonObject
                {
                    ["full_attention"] = new JsonObject { ["partial_rotary_factor"] = s.RotaryFactor, ["rope_theta"] = s.FullBase, ["rope_type"] = "proportional" },
                    ["sliding_attention"] = new JsonObject { ["rope_theta"] = s.SlidingBase, ["rope_type"] = "default" },
                },
            },
        };
        File.WriteAllText(System.IO.Path.Combine(_folder, "config.json"), config.ToJsonString());
    }
}
