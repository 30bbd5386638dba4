namespace GemmaServer.Text;

/// <summary>Sets of code points as sorted ranges that neither touch nor overlap. Surrogates are in none.</summary>
internal static class CodePointSet
{
    public const int Last = 0x10FFFF;

    /// <summary>Sorted, merged, without surrogates.</summary>
    public static CodePointRange[] Normalize(IEnumerable<CodePointRange> ranges)
    {
        List<CodePointRange> parts = [];
        foreach (CodePointRange range in ranges)
        {
            int first = Math.Max(range.First, 0), last = Math.Min(range.Last, Last);
            if (first <= Math.Min(last, 0xD7FF)) parts.Add(new(first, Math.Min(last, 0xD7FF)));
            if (Math.Max(first, 0xE000) <= last) parts.Add(new(Math.Max(first, 0xE000), last));
        }
        parts.Sort(static (a, b) => a.First != b.First ? a.First.CompareTo(b.First) : a.Last.CompareTo(b.Last));
        List<CodePointRange> merged = [];
        foreach (CodePointRange part in parts)
        {
            if (merged.Count > 0 && part.First <= merged[^1].Last + 1)
            {
                if (part.Last > merged[^1].Last) merged[^1] = merged[^1] with { Last = part.Last };
            }
            else merged.Add(part);
        }
        return [.. merged];
    }

    /// <summary>All code points that are not in <paramref name="ranges"/>.</summary>
    public static CodePointRange[] Complement(IEnumerable<CodePointRange> ranges)
    {
        List<CodePointRange> rest = [];
        int next = 0;
        foreach (CodePointRange range in Normalize(ranges))
        {
            if (range.First > next) rest.Add(new(next, range.First - 1));
            next = range.Last + 1;
        }
        if (next <= Last) rest.Add(new(next, Last));
        return Normalize(rest);
    }

    /// <summary>How many code points normalized ranges hold.</summary>
    public static int Count(ReadOnlySpan<CodePointRange> ranges)
    {
        int count = 0;
        foreach (CodePointRange range in ranges) count += range.Last - range.First + 1;
        return count;
    }
}

/// <summary>Sets that hold the same code points are equal.</summary>
internal sealed class RangesComparer : IEqualityComparer<CodePointRange[]>
{
    public static RangesComparer Instance { get; } = new();

    public bool Equals(CodePointRange[]? x, CodePointRange[]? y) => x.AsSpan().SequenceEqual(y);

    public int GetHashCode(CodePointRange[] ranges)
    {
        HashCode hash = new();
        foreach (CodePointRange range in ranges) hash.Add(range);
        return hash.ToHashCode();
    }
}
