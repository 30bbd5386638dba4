using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>The text of <c>gemmaserver inspect</c>: what a checkpoint holds.</summary>
public static class CheckpointInspector
{
    /// <summary>A report of some twenty lines.</summary>
    /// <param name="checkpoint">Opened, so already known to be complete.</param>
    /// <param name="memoryPlan">Lines about memory, which only the host can work out; none are printed when null.</param>
    public static string Describe(Checkpoint checkpoint, IReadOnlyList<string>? memoryPlan = null)
    {
        StringBuilder text = new();
        Line(text, "Checkpoint", $"{checkpoint.Path} ({checkpoint.Format})");
        DescribeModel(text, checkpoint.Config, checkpoint.Drafter);
        DescribeTensors(text, checkpoint);
        DescribeText(text, checkpoint);
        foreach (string note in checkpoint.Notes) Line(text, "Note", note);
        foreach (string line in memoryPlan ?? []) Line(text, "Memory", line);
        return text.ToString();
    }

    private static void DescribeModel(StringBuilder text, ModelConfig c, DrafterConfig? drafter)
    {
        string name = drafter is null ? $"Gemma 4 {c.SizeName}" : $"Drafter (MTP assistant) for a Gemma 4 {drafter.TargetSize} of width {drafter.BackboneSize}";
        Line(text, "Model", $"{name}: {c.LayerCount} layers, width {c.HiddenSize}, vocabulary {c.VocabularySize}, context {c.ContextLength}");
        Line(text, "Layers", $"{Pattern(c)} (S sliding, window {c.SlidingWindow}; G global)");
        foreach (bool sliding in (bool[])[true, false])
        {
            if (c.Layers.FirstOrDefault(l => l.IsSliding == sliding) is not LayerConfig l) continue;
            string kv = drafter is not null && l.KvHeadCount == 0 ? "the model's" : string.Join("/", c.Layers.Where(x => x.IsSliding == sliding).Select(x => x.KvHeadCount).Distinct());
            string rope = sliding ? $"base {c.RopeBaseSliding}" : $"base {c.RopeBaseGlobal}, {c.PartialRotaryFactor:P0} of the pairs";
            Line(text, sliding ? "  sliding" : "  global",
                $"{c.HeadCount} heads of {l.HeadDim}, {kv} KV heads, RoPE {rope}{(l.ValueIsKey ? ", values are keys" : "")}");
        }
        if (drafter is not null)
        {
            Line(text, "KV sharing", "all layers read the keys and values of the model's last layer of their kind");
            Line(text, "Head", drafter.CentroidCount == 0 ? "every token" : $"the tokens of {drafter.CentroidsUsed} of {drafter.CentroidCount} clusters of {c.VocabularySize / drafter.CentroidCount}");
        }
        else if (c.SharedKvLayers > 0)
            Line(text, "KV sharing", $"the last {c.SharedKvLayers} layers read layers {string.Join(" and ", c.Layers.Where(l => !l.OwnsKv).Select(l => l.KvSource).Distinct().Order())}");
        Line(text, "MLP", $"width {string.Join(" and ", c.Layers.Select(l => l.FeedForwardWidth).Distinct())}"
            + (c.ExpertCount > 0 ? $"; {c.ExpertsUsed} of {c.ExpertCount} experts of width {c.ExpertWidth}" : "")
            + (c.PerLayerInputSize > 0 ? $"; per-layer input of {c.PerLayerInputSize}" : ""));
        Line(text, "Logits", c.LogitSoftcap > 0 ? $"soft-capped at {c.LogitSoftcap}" : "not capped");
    }

    private static void DescribeTensors(StringBuilder text, Checkpoint checkpoint)
    {
        long stored = checkpoint.StoredTensors.Sum(Elements), used = checkpoint.Tensors.Values.Sum(Elements);
        Line(text, "Parameters", $"{Count(stored)} in {checkpoint.StoredTensors.Count} tensors; {Count(used)} in {checkpoint.Tensors.Count} are used");
        foreach (IGrouping<TensorType, TensorSource> group in checkpoint.Tensors.Values.GroupBy(t => t.Type).OrderByDescending(g => g.Sum(t => t.Bytes)))
            Line(text, $"  {group.Key}", $"{group.Count()} tensors, {Count(group.Sum(Elements))} parameters, {Mebibytes(group.Sum(t => t.Bytes))}");
        long bytes = checkpoint.Tensors.Values.Sum(t => t.Bytes);
        Line(text, "  together", $"{Mebibytes(bytes)}, {bytes * 8.0 / used:F2} bits per parameter");
    }

    private static void DescribeText(StringBuilder text, Checkpoint checkpoint)
    {
        VocabularySource v = checkpoint.Vocabulary;
        Line(text, "Tokenizer",
            v.TokenizerJsonPath ?? (v.Tokens is null ? "none" : $"{v.Model}, {v.Tokens.Count} pieces, {v.Merges?.Count ?? 0} merges, begin token {v.BosId}"));
        Line(text, "Template", checkpoint.ChatTemplate is string template
            ? $"{template.Length} characters, SHA-256 {Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(template)))}"
            : "none");
        GenerationDefaults g = checkpoint.Generation;
        Line(text, "Defaults", $"temperature {Value(g.Temperature)}, top-k {Value(g.TopK)}, top-p {Value(g.TopP)}, "
            + $"end tokens [{string.Join(", ", g.EosTokenIds)}], suppressed [{string.Join(", ", g.SuppressTokens)}]");

        static string Value<T>(T? value) where T : struct, IFormattable => value?.ToString(null, CultureInfo.InvariantCulture) ?? "–";
    }

    /// <summary>"SSSSSG × 8" where the layers repeat, otherwise all letters.</summary>
    private static string Pattern(ModelConfig c)
    {
        string all = string.Concat(c.Layers.Select(l => l.IsSliding ? 'S' : 'G'));
        int period = all.IndexOf('G', StringComparison.Ordinal) + 1;
        if (period <= 0 || all.Length % period != 0 || all.Length == period) return all;
        string unit = all[..period];
        return all == string.Concat(Enumerable.Repeat(unit, all.Length / period)) ? $"{unit} × {all.Length / period}" : all;
    }

    private static void Line(StringBuilder text, string label, string value) => text.Append($"{label,-12}").Append(' ').Append(value).Append('\n');

    private static long Elements(TensorSource t) => t.Rows * t.Columns;

    private static string Count(long n) => n >= 1_000_000_000
        ? FormattableString.Invariant($"{n / 1e9:F3} B")
        : FormattableString.Invariant($"{n / 1e6:F3} M");

    private static string Mebibytes(long bytes) => FormattableString.Invariant($"{bytes / 1048576.0:F1} MiB");
}
