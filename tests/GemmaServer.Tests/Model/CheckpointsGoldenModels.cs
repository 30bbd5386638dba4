using GemmaServer.Model;

namespace GemmaServer.Tests.Model;

/// <summary>The reference checkpoints at hand: all of them, or the subset of a clone.</summary>
internal static class GoldenModels
{
    /// <summary>Models in a format each that can be compared; fails when there are none, so that nothing passes by absence.</summary>
    public static string[] Names { get; } = Find();

    public static string Folder(string model) => GoldenData.At(model, "hf");

    public static string[] Ggufs(string model) => [.. Directory.GetFiles(GoldenData.At(model), "*.gguf").Order(StringComparer.Ordinal)];

    /// <summary>The smallest GGUF of a model, for tests that copy it many times.</summary>
    public static string SmallestGguf(string model) => Ggufs(model).MinBy(p => new FileInfo(p).Length)!;

    /// <summary>True when a clone's subset leaves the model out; the full set never does, so a test may end there without a lie.</summary>
    public static bool IsLeftOut(string model)
    {
        bool there = Names.Contains(model);
        Assert.True(there || !GoldenData.IsFull, $"the full reference set lacks {model}");
        return !there;
    }

    private static string[] Find()
    {
        string[] names = [.. Directory.GetDirectories(GoldenData.Root, "tiny-*").Select(d => Path.GetFileName(d)!)
            .Where(n => !n.EndsWith("-assistant", StringComparison.Ordinal) && GoldenData.Has(n, "hf", "config.json") && Ggufs(n).Length > 0)
            .Order(StringComparer.Ordinal)];
        return names.Length > 0 ? names : throw new InvalidOperationException($"No reference checkpoints in {GoldenData.Root}.");
    }
}

/// <summary>Compares configurations by value, the lists in them too.</summary>
internal static class ConfigAssert
{
    public static void Equal(ModelConfig expected, ModelConfig actual)
    {
        Assert.Equal(expected.Layers, actual.Layers);
        Assert.Equal(expected.GlobalRopeDivisors, actual.GlobalRopeDivisors);
        Assert.Equal(expected with { Layers = [], GlobalRopeDivisors = [] }, actual with { Layers = [], GlobalRopeDivisors = [] });
    }
}
