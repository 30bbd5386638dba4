using GemmaServer.Compute;

namespace GemmaServer.Engine;

/// <summary>Knows which positions of a sequence need a page in which layer group, and when a sliding group needs one no longer.</summary>
internal sealed class BlockAllocator
{
    private readonly KvGroup[] _groups;
    private readonly KvBlockPool _pool;
    private readonly PrefixCache _cache;
    private readonly int[] _seen;       // scratch of the integrity check, which runs whenever the engine goes idle

    /// <param name="plan">Groups and pages.</param>
    /// <param name="windowShare">Share of the pages that may keep windows of past prompts and turns.</param>
    public BlockAllocator(KvCachePlan plan, double windowShare = 0)
    {
        _groups = [.. plan.Groups];
        _pool = new KvBlockPool(plan.PageCount);
        _cache = new PrefixCache(_groups, _pool, (int)(plan.PageCount * windowShare));
        _seen = new int[plan.PageCount];
    }

    /// <summary>Pages that can be taken: free ones, and cached ones that nobody holds.</summary>
    public int FreePages => _pool.FreePages + _cache.Evictable;

    /// <inheritdoc cref="PrefixCache.Evictions"/>
    public long Evictions => _cache.Evictions;

    /// <summary>Tokens between two hashes of a sequence that takes part in the prefix cache.</summary>
    public int HashUnit => _cache.Unit;

    /// <summary>Prefixes are found in multiples of this.</summary>
    public int HashBlock => _cache.Block;

    /// <summary>Forgets the cached pages that nobody holds, and says how many.</summary>
    public int ForgetUnheld() => _cache.EvictAll();

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
            for (int missing = Pages(g, end) - blocks.Count(g); missing > 0; missing--) blocks.Add(g, Take());
        return before - FreePages;
    }

    /// <summary>
    /// Gives back the sliding pages that nothing to come can see, and returns how many. A query at position p sees the keys
    /// j &gt; p − Window. The lowest query to come, in flight or not yet launched, is at <paramref name="committed"/>, so a page
    /// may go when its last position is ≤ committed − Window.
    /// </summary>
    public int ReleaseLeftWindow(BlockTable blocks, int committed)
    {
        int released = 0;
        for (int g = 0; g < _groups.Length; g++)
        {
            KvGroup group = _groups[g];
            if (group.Window == 0) continue;

            // Page i ends at (i + 1) · T − 1 ≤ committed − W  ⇔  i + 1 ≤ (committed − W + 1) / T.
            int leaving = Math.Max(0, committed - group.Window + 1) / group.TokensPerPage;
            ReadOnlySpan<int> pages = blocks.Pages(g);
            for (int i = leaving - 1; i >= 0 && pages[i] != BlockTable.Released; i--)
            {
                Return(blocks.Release(g, i));
                released++;
            }
        }
        return released;
    }

    /// <summary>Gives back all pages, the last ones first: a prefix is worth more than what follows it.</summary>
    public void ReleaseAll(BlockTable blocks)
    {
        for (int g = 0; g < _groups.Length; g++)
        {
            ReadOnlySpan<int> pages = blocks.Pages(g);
            for (int i = pages.Length - 1; i >= 0; i--)
                if (pages[i] != BlockTable.Released) Return(pages[i]);
        }
        blocks.Clear();
    }

    /// <summary>Fills an empty table with pages of the longest known prefix, of at most <paramref name="limit"/> tokens, and returns its length.</summary>
    /// <param name="hashes">Names of the sequence's prefixes.</param>
    /// <param name="limit">Most tokens to find.</param>
    /// <param name="blocks">The table.</param>
    /// <param name="pages">How many pages the table holds then.</param>
    public int Adopt(TokenHashes hashes, int limit, BlockTable blocks, out int pages)
    {
        int length = _cache.Adopt(hashes, limit, blocks);
        pages = 0;
        for (int g = 0; g < _groups.Length; g++) pages += blocks.Count(g) - blocks.Pages(g).Count(BlockTable.Released);
        return length;
    }

    /// <inheritdoc cref="PrefixCache.Length"/>
    public int LengthFound(TokenHashes hashes, int limit) => _cache.Length(hashes, limit);

    /// <inheritdoc cref="PrefixCache.Shared"/>
    public int PagesShared(TokenHashes hashes, int count) => _cache.Shared(hashes, count);

    /// <summary>Makes the pages that became full between two committed positions known to others.</summary>
    public void AddToCache(TokenHashes hashes, BlockTable blocks, int from, int to, int promptLength) =>
        _cache.Add(hashes, blocks, from, to, promptLength);

    /// <inheritdoc cref="PrefixCache.KeepWindows"/>
    public void KeepWindows(TokenHashes hashes, int from, int to) => _cache.KeepWindows(hashes, from, to);

    /// <summary>Free + held + cached = all over these tables, and no page in two places but those that the cache shares.</summary>
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
                    if (_seen[page]++ == 0) held++;
                    else if (!_cache.IsNamed(page)) throw new InvalidOperationException($"Page {page} is in two places.");
                }
        for (int page = 0; page < _seen.Length; page++)
            if (_seen[page] != _pool.Holders(page)) throw new InvalidOperationException($"Page {page} has {_seen[page]} holders, not {_pool.Holders(page)}.");
        _cache.CheckIntegrity();
        _pool.CheckIntegrity(held, _cache.Evictable);
    }

    private int Take()
    {
        if (_pool.FreePages == 0) _cache.EvictOne();
        return _pool.Take();
    }

    private void Return(int page)
    {
        if (_pool.LetGo(page) && !_cache.TryKeep(page)) _pool.Free(page);
    }

    private int Pages(int group, int positions) => (positions + _groups[group].TokensPerPage - 1) / _groups[group].TokensPerPage;
}
