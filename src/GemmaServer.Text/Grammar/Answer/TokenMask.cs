using System.Runtime.Intrinsics;

namespace GemmaServer.Text;

/// <summary>Sets of token ids as constraints give them out: one bit for each id.</summary>
public static class TokenMask
{
    /// <summary>Every token of a vocabulary.</summary>
    public static ulong[] All(int vocabularySize)
    {
        ulong[] mask = new ulong[(vocabularySize + 63) / 64];
        Array.Fill(mask, ulong.MaxValue);
        if (vocabularySize % 64 != 0) mask[^1] = (1ul << (vocabularySize % 64)) - 1;
        return mask;
    }

    /// <summary>These tokens.</summary>
    public static ulong[] Of(int vocabularySize, params ReadOnlySpan<int> tokens)
    {
        ulong[] mask = new ulong[(vocabularySize + 63) / 64];
        foreach (int token in tokens) mask[token / 64] |= 1ul << (token % 64);
        return mask;
    }

    /// <summary>Whether a token is in a set, where null is all.</summary>
    public static bool Has(ulong[]? mask, int token) => mask is null || ((uint)token / 64 < (uint)mask.Length && (mask[token / 64] >> (token % 64) & 1) != 0);

    /// <summary>A copy without these tokens; null where nothing would be left.</summary>
    public static ulong[]? Without(ulong[] mask, params ReadOnlySpan<int> tokens)
    {
        ulong[] left = [.. mask];
        foreach (int token in tokens) left[token / 64] &= ~(1ul << (token % 64));
        return left.AsSpan().IndexOfAnyExcept(0ul) < 0 ? null : left;
    }

    /// <summary>Adds tokens to a set that nobody else has yet.</summary>
    internal static void Add(Span<ulong> mask, ReadOnlySpan<ulong> more)
    {
        int i = 0;
        for (; i + 8 <= mask.Length; i += 8) (Vector512.Create<ulong>(mask[i..]) | Vector512.Create(more[i..])).CopyTo(mask[i..]);
        for (; i < mask.Length; i++) mask[i] |= more[i];
    }

    /// <summary>What two sets have in common; null where that is nothing.</summary>
    public static ulong[]? Common(ulong[] a, ulong[] b)
    {
        ulong[] both = new ulong[Math.Min(a.Length, b.Length)];
        for (int i = 0; i < both.Length; i++) both[i] = a[i] & b[i];
        return both.AsSpan().IndexOfAnyExcept(0ul) < 0 ? null : both;
    }
}
