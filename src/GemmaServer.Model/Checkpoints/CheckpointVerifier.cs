using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>One line of <c>gemmaserver inspect --verify</c>.</summary>
/// <param name="Passed">Whether the checkpoint is as published.</param>
/// <param name="Text">What was compared, with both values when they differ.</param>
public readonly record struct VerificationLine(bool Passed, string Text)
{
    /// <inheritdoc/>
    public override string ToString() => (Passed ? "pass  " : "FAIL  ") + Text;
}

/// <summary>
/// Compares a real checkpoint with what is known of the published models: this is how somebody with real weights finds out
/// that this program reads them rightly, since its own tests run on small random ones.
/// </summary>
public static class CheckpointVerifier
{
    /// <summary>
    /// A text that every language model knows by heart, so that even a chat model without its template finds it easy. A wrong
    /// rotary base or a lost norm makes perplexity thousands; the bound only has to tell the two apart.
    /// </summary>
    public const string PerplexityText =
        "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, and dedicated "
        + "to the proposition that all men are created equal. Now we are engaged in a great civil war, testing whether that nation, or any "
        + "nation so conceived and so dedicated, can long endure. We are met on a great battle-field of that war. We have come to dedicate a "
        + "portion of that field, as a final resting place for those who here gave their lives that that nation might live. It is altogether "
        + "fitting and proper that we should do this.";

    /// <summary>Judged, not measured: see <see cref="PerplexityText"/>.</summary>
    public const double MaxPerplexity = 20;

    private const int BosId = 2;

    /// <summary>What llama.cpp's vocabulary test expects of the published vocabulary, without a begin token.</summary>
    /// <remarks>Source: llama.cpp, <c>models/ggml-vocab-gemma-4.gguf.inp/.out</c>.</remarks>
    internal static readonly (string Text, int[] Ids)[] TokenVectors =
    [
        ("Hello world", [9259, 1902]),
        (" Hello world", [26352, 1902]),
        ("Hello World", [9259, 4109]),
        (" Hello World!", [26352, 4109, 236888]),
        ("Hello, world!", [9259, 236764, 1902, 236888]),
        (" this is 🦙.cpp", [672, 563, 236743, 478, 397, 404, 391, 236761, 12362]),
        ("w048 7tuijk dsdfhu", [236765, 236771, 236812, 236828, 236743, 236832, 11372, 12065, 31806, 3405, 9360]),
        ("ied 4 ½ months", [1178, 236743, 236812, 47041, 3794]),
        ("Äpfel", [239122, 22744, 535]),
        ("нещо на Български", [1337, 12515, 1333, 4632, 165543, 3830]),
        ("Cửa Việt", [236780, 29719, 33154]),
        ("\n", [107]),
        ("\n\n", [108]),
        ("\n\n\n", [109]),
        (" ", [236743]),
        ("  ", [138]),
        ("   ", [139]),
        ("\t", [255968]),
        ("\t\n", [255968, 107]),
        ("    Hello\n    Hello", [140, 9259, 107, 140, 9259]),
        ("\n =", [107, 578]),
        ("' era", [236789, 6933]),
        ("3333", [236800, 236800, 236800, 236800]),
        ("!!!!!!", [123947]),
        ("Hello, y'all! How are you 😁 ?我想在apple工作1314151天～",
            [9259, 236764, 570, 236789, 712, 236888, 2088, 659, 611, 170124, 2360, 62133, 237075, 17641, 11700, 236770, 236800, 236770,
             236812, 236770, 236810, 236770, 237471, 238352]),
    ];

    /// <summary>Runs every check that the arguments allow.</summary>
    /// <param name="checkpoint">A real Gemma 4.</param>
    /// <param name="tokenize">Text to ids without begin token, special tokens not parsed; null leaves the token vectors out.</param>
    /// <param name="perplexity">Token ids, begin token first, to perplexity over all but the first; null leaves it out. Needs <paramref name="tokenize"/>.</param>
    public static IReadOnlyList<VerificationLine> Verify(
        Checkpoint checkpoint, Func<string, int[]>? tokenize = null, Func<IReadOnlyList<int>, double>? perplexity = null)
    {
        List<VerificationLine> lines = [];
        VerifySize(checkpoint, lines);
        if (tokenize is null) return lines;
        foreach ((string text, int[] expected) in TokenVectors)
        {
            int[] found = tokenize(text);
            string shown = text.Replace("\n", "\\n").Replace("\t", "\\t");
            Add(lines, $"tokens of '{shown}'", $"[{string.Join(' ', expected)}]", $"[{string.Join(' ', found)}]");
        }
        if (perplexity is null) return lines;
        double value = perplexity([BosId, .. tokenize(PerplexityText)]);
        lines.Add(new(value is >= 1 and <= MaxPerplexity, FormattableString.Invariant($"perplexity of a well-known speech: expected 1 … {MaxPerplexity}, found {value:F3}")));
        return lines;
    }

    private static void VerifySize(Checkpoint checkpoint, List<VerificationLine> lines)
    {
        ModelConfig c = checkpoint.Config;
        if (PublishedSize.All.FirstOrDefault(s => s.Name == c.SizeName) is not PublishedSize size)
        {
            lines.Add(new(false, $"size: {c.LayerCount} layers of width {c.HiddenSize} with {c.ExpertCount} experts is none of the published sizes"));
            return;
        }
        lines.Add(new(true, $"size: {size.Name}"));
        string[] differences = [.. size.Differences(c)];
        if (differences.Length == 0) lines.Add(new(true, $"configuration and shapes: all {c.LayerCount} layers as published"));
        foreach (string difference in differences) lines.Add(new(false, $"configuration: {difference}"));

        int splitExperts = checkpoint.Tensors.Keys.Count(k => k.EndsWith("ffn_gate_exps.weight", StringComparison.Ordinal));
        bool ropeFreqs = checkpoint.StoredTensors.Any(t => t.Name == "rope_freqs.weight");
        int head = checkpoint.StoredTensors.Any(t => t.Name == "output.weight") ? 1 : 0;
        Add(lines, "tensor count", size.Tensors + (ropeFreqs ? 1 : 0) + splitExperts, checkpoint.StoredTensors.Count - head);
        if (checkpoint.Format.StartsWith("GGUF", StringComparison.Ordinal)) Add(lines, "rope_freqs.weight present", true, ropeFreqs);

        // The tied head, if the file repeats it, and the generated rope_freqs are no parameters of the model.
        double billions = checkpoint.StoredTensors.Where(t => t.Name is not ("output.weight" or "rope_freqs.weight")).Sum(t => (double)t.Rows * t.Columns) / 1e9;
        lines.Add(new(Math.Abs(billions - size.Billions) < 0.0006,
            FormattableString.Invariant($"parameters: expected {size.Billions:F3} B, found {billions:F3} B")));
        VerifyText(checkpoint, lines);
    }

    private static void VerifyText(Checkpoint checkpoint, List<VerificationLine> lines)
    {
        lines.Add(new(checkpoint.Vocabulary.IsPresent, "a tokenizer is there"));
        lines.Add(new(checkpoint.ChatTemplate is not null, "a chat template is there"));
        Add(lines, "end tokens include <eos> 1 and <turn|> 106", true, checkpoint.Generation.EosTokenIds.Contains(1) && checkpoint.Generation.EosTokenIds.Contains(106));
        if (checkpoint.Vocabulary.Tokens is not IReadOnlyList<string> tokens) return;
        foreach ((int id, string piece) in ((int, string)[])
            [(0, "<pad>"), (1, "<eos>"), (2, "<bos>"), (3, "<unk>"), (48, "<|tool_call>"), (50, "<|tool_response>"), (98, "<|think|>"),
             (100, "<|channel>"), (101, "<channel|>"), (105, "<|turn>"), (106, "<turn|>"), (238, "<0x00>"), (493, "<0xFF>"), (9259, "Hello")])
            Add(lines, $"piece {id}", piece, id < tokens.Count ? tokens[id] : "nothing");
    }

    private static void Add<T>(List<VerificationLine> lines, string what, T expected, T found) where T : notnull
    {
        bool same = expected.Equals(found);
        lines.Add(new(same, same ? $"{what}: {expected}" : $"{what}: expected {expected}, found {found}"));
    }
}
