using GemmaServer.Compute;

namespace GemmaServer.Engine;

/// <summary>Knows which positions of a sequence need a page in which layer group, and when a sliding group needs one no longer.</summary>
internal sealed class BlockAllocator
{
    private readonly KvGroup[] _groups;
    private readonly KvBlockPool _pool;
    private readonly bool[] _seen;      // scratch of the integrity check, which runs whenever the engine goes idle

    public BlockAllocator(KvCachePlan plan)
    {
        _groups = [.. plan.Groups];
        _pool = new KvBlockPool(plan.PageCount);
        _seen = new bool[plan.PageCount];
    }

    public int FreePages => _pool.FreePages;

    public BlockTable NewTable() => new(_groups.Length);

    /// <summary>Pages to take before positions up to <paramref name="end"/> (exclusive) can be computed.</summary>
    public int PagesMissing(BlockTable blocks, int end)
    {
        int missing = 0;
        for (int g = 0; g < _groups.Length; g++) missing += Math.Max(0, Pages(g, end) - blocks.Count(g));
        return missing;
    }

    /// <summary>Of <paramref name="rows"/> positions from <paramref name="start"/> on, how many the free pages are enough for.</summary>
    public int RowsThatFit(BlockTable blocks, int start, int rows)
    {
        if (PagesMissing(blocks, start + rows) <= FreePages) return rows;
        int fit = 0;
        int tooMany = rows;
        while (tooMany - fit > 1)
        {
            int middle = (fit + tooMany) / 2;
            if (PagesMissing(blocks, start + middle) <= FreePages) fit = middle;
            else tooMany = middle;
        }
        return fit;
    }

    /// <summary>Takes the missing pages and returns how many.</summary>
    public int Grow(BlockTable blocks, int end)
    {
        int before = FreePages;
        for (int g = 0; g < _groups.Length; g++)
            for (int missing = Pages(g, end) - blocks.Count(g); missing > 0; missing--) blocks.Add(g, _pool.Take());
        return before - FreePages;
    }

    /// <summary>
    /// Gives back the sliding pages that nothing to come can see, and returns how many. A query at position p sees the keys
    /// j &gt; p − Window. The lowest query to come, in flight or not yet launched, is at <paramref name="committed"/>, so a page
    /// may go when its last position is ≤ committed − Window.
    /// </summary>
    public int ReleaseLeftWindow(BlockTable blocks, int committed)
    {
        int before = FreePages;
        for (int g = 0; g < _groups.Length; g++)
        {
            KvGroup group = _groups[g];
            if (group.Window == 0) continue;

            // Page i ends at (i + 1) · T − 1 ≤ committed − W  ⇔  i + 1 ≤ (committed − W + 1) / T.
            int leaving = Math.Max(0, committed - group.Window + 1) / group.TokensPerPage;
            ReadOnlySpan<int> pages = blocks.Pages(g);
            for (int i = leaving - 1; i >= 0 && pages[i] != BlockTable.Released; i--) _pool.Return(blocks.Release(g, i));
        }
        return FreePages - before;
    }

    /// <summary>Gives back all pages.</summary>
    public void ReleaseAll(BlockTable blocks)
    {
        for (int g = 0; g < _groups.Length; g++)
            foreach (int page in blocks.Pages(g))
                if (page != BlockTable.Released) _pool.Return(page);
        blocks.Clear();
    }

    /// <summary>Free + held = all over these tables, and no page in two places.</summary>
    /// <exception cref="InvalidOperationException">It is not so.</exception>
    public void CheckIntegrity(ReadOnlySpan<BlockTable> tables)
    {
        Array.Clear(_seen);
        int held = 0;
        foreach (BlockTable table in tables)
            for (int g = 0; g < _groups.Length; g++)
                foreach (int page in table.Pages(g))
                {
                    if (page == BlockTable.Released) continue;
                    if (_seen[page]) throw new InvalidOperationException($"Page {page} is in two places.");
                    _seen[page] = true;
                    held++;
                }
        _pool.CheckIntegrity(held);
    }

    private int Pages(int group, int positions) => (positions + _groups[group].TokensPerPage - 1) / _groups[group].TokensPerPage;
}
