using GemmaServer.Model;

namespace GemmaServer;

/// <summary>A published size cut down: the same widths with fewer layers or a smaller vocabulary.</summary>
internal static class RandomShape
{
    /// <summary>Control tokens, byte tokens and letters take about 620 ids; below this there would be nothing else.</summary>
    public const int LeastVocabulary = 1024;

    /// <summary>Words for the command line: <c>e2b</c>, <c>26b-a4b</c>.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. PublishedSize.All.Select(static s => s.Name.ToLowerInvariant())];

    /// <summary>The size with this word.</summary>
    public static PublishedSize Find(string name) => PublishedSize.All.First(s => s.Name.Equals(name, StringComparison.OrdinalIgnoreCase));

    /// <summary>
    /// The configuration. Every so-manieth layer is global, and the last one always is (as Hugging Face forces it). The KV-shared
    /// layers keep their share of all layers, and the last layer below them is global as in E2B and E4B, so that each has a donor.
    /// </summary>
    /// <param name="size">Where the widths are from.</param>
    /// <param name="layers">1 up to the published number; more are refused by the caller.</param>
    /// <param name="vocabulary">At least <see cref="LeastVocabulary"/>.</param>
    public static ModelConfig Config(PublishedSize size, int layers, int vocabulary)
    {
        // At least two layers keep keys of their own: a sliding and a global one.
        int shared = Math.Clamp((int)Math.Round((double)size.SharedKv * layers / size.Layers), 0, Math.Max(0, layers - 2));
        int lastOwner = layers - shared - 1;
        bool[] sliding = [.. Enumerable.Range(0, layers).Select(i => i % size.Period != size.Period - 1 && i != layers - 1 && i != lastOwner)];
        ConfigFacts facts = new()
        {
            File = size.Name,
            LayerCount = layers,
            HiddenSize = size.Hidden,
            HeadCount = size.Heads,
            VocabularySize = vocabulary,
            ContextLength = size.Context,
            SlidingWindow = size.Window,
            PerLayerInputSize = size.PerLayerInput,
            SharedKvLayers = shared,
            ExpertCount = size.Experts,
            ExpertsUsed = size.ExpertsUsed,
            ExpertWidth = size.ExpertWidth,
            ValueIsKeyOnGlobal = size.ValueIsKey,
            IsSliding = sliding,
            HeadDim = [.. sliding.Select(static s => (int?)(s ? PublishedSize.HeadDimSliding : PublishedSize.HeadDimGlobal))],
            KvHeadCount = [.. sliding.Select(s => (int?)(s ? size.KvSliding : size.KvGlobal))],
            FeedForwardWidth = [.. Enumerable.Range(0, layers).Select(i => (int?)(i < layers - shared ? size.FeedForward : size.FeedForwardShared))],
        };
        return ModelConfigBuilder.Build(facts, new Dictionary<string, StoredTensor>());
    }
}
