namespace GemmaServer.Model;

/// <summary>The hyper-parameters of one size that Google published.</summary>
/// <remarks>Source: google-deepmind/gemma, <c>gm/nn/gemma4/_gemma4.py</c>; counts follow from them and equal those of real files.</remarks>
/// <param name="Name">"E2B" and so on.</param>
/// <param name="Layers">Decoder layers.</param>
/// <param name="Period">Every so-manieth layer is global.</param>
/// <param name="Hidden">Width of the residual stream.</param>
/// <param name="Heads">Query heads.</param>
/// <param name="KvSliding">KV heads of sliding layers.</param>
/// <param name="KvGlobal">KV heads of global layers.</param>
/// <param name="ValueIsKey">Global layers without a value projection.</param>
/// <param name="FeedForward">MLP width of layers with keys of their own.</param>
/// <param name="FeedForwardShared">MLP width of the KV-shared layers.</param>
/// <param name="SharedKv">KV-shared layers.</param>
/// <param name="PerLayerInput">Per-layer input width.</param>
/// <param name="Experts">Experts per layer.</param>
/// <param name="ExpertsUsed">Experts per token.</param>
/// <param name="ExpertWidth">Width of one expert.</param>
/// <param name="Window">Sliding window.</param>
/// <param name="Context">Context length.</param>
/// <param name="Tensors">Text tensors of a safetensors checkpoint without lm_head; a GGUF has one more, rope_freqs.</param>
/// <param name="Billions">Text parameters in 10⁹, the unused K/V of shared layers included.</param>
internal sealed record PublishedSize(
    string Name, int Layers, int Period, int Hidden, int Heads, int KvSliding, int KvGlobal, bool ValueIsKey, int FeedForward,
    int FeedForwardShared, int SharedKv, int PerLayerInput, int Experts, int ExpertsUsed, int ExpertWidth, int Window, int Context,
    int Tensors, double Billions)
{
    public const int Vocabulary = 262_144, HeadDimSliding = 256, HeadDimGlobal = 512;

    public static IReadOnlyList<PublishedSize> All { get; } =
    [
        new("E2B", 35, 5, 1536, 8, 1, 1, false, 6144, 12288, 20, 256, 0, 0, 0, 512, 131_072, 600, 4.647),
        new("E4B", 42, 6, 2560, 8, 2, 2, false, 10240, 10240, 18, 256, 0, 0, 0, 512, 131_072, 719, 7.518),
        new("12B", 48, 6, 3840, 16, 8, 1, true, 15360, 15360, 0, 0, 0, 0, 0, 1024, 262_144, 666, 11.907),
        new("26B-A4B", 30, 6, 2816, 16, 8, 2, true, 2112, 2112, 0, 0, 128, 8, 704, 1024, 262_144, 657, 25.233),
        new("31B", 60, 6, 5376, 32, 16, 4, true, 21504, 21504, 0, 0, 0, 0, 0, 1024, 262_144, 832, 30.697),
    ];

    /// <summary>The published size with these three numbers, or "custom".</summary>
    public static string NameOf(int layers, int hidden, int experts) =>
        All.FirstOrDefault(s => s.Layers == layers && s.Hidden == hidden && s.Experts == experts)?.Name ?? "custom";

    /// <summary>Every way in which a configuration differs from this size.</summary>
    public IEnumerable<string> Differences(ModelConfig c)
    {
        (string What, double Expected, double Found)[] numbers =
        [
            ("vocabulary", Vocabulary, c.VocabularySize), ("heads", Heads, c.HeadCount), ("window", Window, c.SlidingWindow),
            ("context", Context, c.ContextLength), ("shared KV layers", SharedKv, c.SharedKvLayers),
            ("per-layer input", PerLayerInput, c.PerLayerInputSize), ("experts used", ExpertsUsed, c.ExpertsUsed),
            ("expert width", ExpertWidth, c.ExpertWidth), ("soft-cap", 30, c.LogitSoftcap), ("epsilon", 1e-6f, c.RmsEpsilon),
            ("RoPE base (sliding)", 10_000, c.RopeBaseSliding), ("RoPE base (global)", 1_000_000, c.RopeBaseGlobal),
            ("rotary factor", 0.25, c.PartialRotaryFactor),
        ];
        foreach ((string what, double expected, double found) in numbers)
            if (expected != found) yield return $"{what}: expected {expected}, found {found}";
        foreach (LayerConfig layer in c.Layers)
        {
            LayerConfig expected = Layer(layer.Index);
            if (layer != expected) yield return $"layer {layer.Index}: expected {expected}, found {layer}";
        }
    }

    /// <summary>The layer as published.</summary>
    private LayerConfig Layer(int i)
    {
        bool sliding = i % Period != Period - 1;
        int first = Layers - SharedKv;
        bool owns = i < first;
        int source = i;
        if (!owns) for (source = first - 1; (source % Period != Period - 1) != sliding;) source--;
        return new LayerConfig(i, sliding, sliding ? HeadDimSliding : HeadDimGlobal, sliding ? KvSliding : KvGlobal,
            owns ? FeedForward : FeedForwardShared, owns, source, !sliding && ValueIsKey);
    }
}
