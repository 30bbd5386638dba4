namespace GemmaServer.Compute;

/// <summary>
/// Where one sequence's keys and values live: per layer group a list of page ids, indexed by
/// <c>position / tokensPerPage(group)</c>. Pages that left a sliding window are <see cref="Released"/>.
/// </summary>
public sealed class BlockTable
{
    /// <summary>In place of a page that was given back.</summary>
    public const int Released = -1;

    private readonly int[][] _pages;
    private readonly int[] _counts;

    /// <summary>Empty tables; grows as pages are added.</summary>
    public BlockTable(int groups)
    {
        _pages = new int[groups][];
        _counts = new int[groups];
        for (int g = 0; g < groups; g++) _pages[g] = new int[8];
    }

    /// <summary>Logical pages of a group so far, released ones included.</summary>
    public int Count(int group) => _counts[group];

    /// <summary>The page ids of a group.</summary>
    public ReadOnlySpan<int> Pages(int group) => _pages[group].AsSpan(0, _counts[group]);

    /// <summary>Appends a page.</summary>
    public void Add(int group, int page)
    {
        if (_counts[group] == _pages[group].Length) Array.Resize(ref _pages[group], _counts[group] * 2);
        _pages[group][_counts[group]++] = page;
    }

    /// <summary>Takes a page out of the table and returns its id.</summary>
    public int Release(int group, int index)
    {
        int page = _pages[group][index];
        _pages[group][index] = Released;
        return page;
    }

    /// <summary>Forgets all pages without giving them back.</summary>
    public void Clear() => Array.Clear(_counts);
}
