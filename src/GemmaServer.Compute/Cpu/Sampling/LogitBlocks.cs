using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>
/// A row of logits seen in blocks, each with its greatest value: what looks for the best tokens reads a thousand numbers and then
/// a few blocks instead of a quarter of a million logits.
/// </summary>
internal static class LogitBlocks
{
    /// <summary>Logits in a block; the last one may be short.</summary>
    public const int Size = 256;

    public static int Count(int logits) => (logits + Size - 1) / Size;

    /// <summary>Writes every block's greatest value.</summary>
    public static void Survey(ReadOnlySpan<float> logits, Span<float> maxima)
    {
        for (int b = 0; b * Size < logits.Length; b++) maxima[b] = Max(Block(logits, b));
    }

    public static ReadOnlySpan<float> Block(ReadOnlySpan<float> logits, int block) =>
        logits.Slice(block * Size, Math.Min(Size, logits.Length - block * Size));

    /// <summary>Changes one logit and keeps its block's maximum true.</summary>
    public static void Set(Span<float> logits, Span<float> maxima, int token, float value)
    {
        int block = token / Size;
        float before = logits[token];
        logits[token] = value;
        if (value >= maxima[block]) maxima[block] = value;
        else if (before == maxima[block]) maxima[block] = Max(Block(logits, block));
    }

    /// <summary>The greatest value; −∞ of nothing.</summary>
    public static float Max(ReadOnlySpan<float> values)
    {
        Vector512<float> max = Vector512.Create(float.NegativeInfinity);
        int i = 0;
        for (; i + 16 <= values.Length; i += 16) max = Vector512.MaxNative(max, Vector512.Create(values.Slice(i, 16)));
        Vector256<float> eight = Vector256.MaxNative(max.GetLower(), max.GetUpper());
        Vector128<float> four = Vector128.MaxNative(eight.GetLower(), eight.GetUpper());
        float best = MathF.Max(MathF.Max(four[0], four[1]), MathF.Max(four[2], four[3]));
        for (; i < values.Length; i++) best = MathF.Max(best, values[i]);
        return best;
    }
}
