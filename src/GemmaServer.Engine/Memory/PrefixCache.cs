using GemmaServer.Compute;

namespace GemmaServer.Engine;

/// <summary>Full pages by the prefix that they end, so that a sequence with the same beginning need not compute it again.</summary>
/// <remarks>
/// <para>
/// Names. Groups have pages of different lengths. A page of group g that ends at position e is named by (g, hash of the
/// tokens 0 … e), with a hash at every multiple of the greatest common divisor of the page lengths.
/// </para>
/// <para>
/// Hits. A sequence goes on at position P with pages that it alone writes, so P is the end of a page in every group: a
/// multiple of <see cref="Block"/>, the least common multiple of the page lengths (16 and 32 make 32), and at most the
/// number of tokens − 1, because the last one must be computed to be sampled from. It needs every global page before P, and of each sliding
/// group the pages with positions from P − Window + 1 to P − 1: the query at P sees j &gt; P − Window.
/// </para>
/// <para>
/// Life. A page is named when it is full and committed, and never written again. When nobody holds it any more it stays,
/// evictable, in <see cref="EvictionOrder"/>. Sliding pages that left their window in passing go first; those before a
/// place where conversations continue (both ends of the generation prompt, the end of a turn) are worth as much as global
/// pages, as long as they stay within a budget. Two sequences that compute the same page at the same time keep one each;
/// only the first is named.
/// </para>
/// </remarks>
internal sealed class PrefixCache
{
    private readonly KvGroup[] _groups;
    private readonly KvBlockPool _pool;
    private readonly Dictionary<Name, int> _byName;
    private readonly Name[] _names;         // by page, where its rank is not None
    private readonly CacheRank[] _ranks;    // by page
    private readonly EvictionOrder _unheld;
    private readonly int _windowBudget;

    // What lies before a turn's end or the generation prompt may come back a little changed: blanks trimmed, a word merged with
    // the next, text moved behind a call, a call's arguments in another order. An eighth of the window (64 tokens on E2B, 128 on
    // 12B) costs an eighth more pages, and holds most answers to tools whole.
    private readonly int _slack;

    /// <param name="groups">The layer groups.</param>
    /// <param name="pool">All pages.</param>
    /// <param name="windowBudget">Most unheld pages of rank Window.</param>
    public PrefixCache(KvGroup[] groups, KvBlockPool pool, int windowBudget)
    {
        _groups = groups;
        _pool = pool;
        _windowBudget = windowBudget;
        _byName = new Dictionary<Name, int>(pool.PageCount);    // never grows: a page has one name
        _names = new Name[pool.PageCount];
        _ranks = new CacheRank[pool.PageCount];
        _unheld = new EvictionOrder(pool.PageCount);

        long block = 1;
        int unit = 0;
        foreach (KvGroup group in groups)
        {
            unit = Gcd(unit, group.TokensPerPage);
            block = Math.Min(int.MaxValue, block / Gcd((int)block, group.TokensPerPage) * group.TokensPerPage);
        }
        Unit = Math.Max(1, unit);
        Block = (int)block;
        _slack = groups.Where(static g => g.Window > 0).Select(static g => g.Window).DefaultIfEmpty().Min() / 8;
    }

    /// <summary>Tokens between two hashes: every page of every group ends at a multiple.</summary>
    public int Unit { get; }

    /// <summary>Hits are multiples of this.</summary>
    public int Block { get; }

    /// <summary>Cached pages that nobody holds.</summary>
    public int Evictable => _unheld.Count;

    /// <summary>Pages forgotten so far because others needed the room.</summary>
    public long Evictions { get; private set; }

    /// <summary>Whether a page has a name, so that more than one may hold it.</summary>
    public bool IsNamed(int page) => _ranks[page] != CacheRank.None;

    /// <summary>Whether a page is here and nobody holds it.</summary>
    public bool IsUnheld(int page) => _unheld.Contains(page);

    /// <summary>Forgets the least valuable page; ask <see cref="Evictable"/> first.</summary>
    public void EvictOne()
    {
        int page = _unheld.Worst();
        _unheld.Remove(page, _ranks[page]);
        _byName.Remove(_names[page]);
        _ranks[page] = CacheRank.None;
        _pool.Free(page);
        Evictions++;
    }

    /// <summary>Forgets all pages that nobody holds, and says how many.</summary>
    public int EvictAll()
    {
        int count = Evictable;
        for (int i = 0; i < count; i++) EvictOne();
        return count;
    }

    /// <summary>Takes one that its last holder let go; false when it has no name.</summary>
    public bool TryKeep(int page)
    {
        if (!IsNamed(page)) return false;
        _unheld.Add(page, _ranks[page]);
        HoldToBudget();
        return true;
    }

    /// <summary>Fills an empty table with the longest known prefix and returns its length.</summary>
    /// <param name="hashes">Names of the sequence's prefixes, up to <paramref name="limit"/> at least.</param>
    /// <param name="limit">Most tokens to find.</param>
    /// <param name="blocks">The table.</param>
    public int Adopt(TokenHashes hashes, int limit, BlockTable blocks)
    {
        int length = Find(hashes, limit);
        if (length == 0) return 0;
        for (int g = 0; g < _groups.Length; g++)
        {
            int first = FirstSeen(g, length);
            for (int i = 0; i < length / _groups[g].TokensPerPage; i++)
                blocks.Add(g, i < first ? BlockTable.Released : Hold(_byName[NameOf(hashes, g, i)]));
        }
        return length;
    }

    /// <summary>The length of the longest known prefix.</summary>
    public int Length(TokenHashes hashes, int limit) => Find(hashes, limit);

    /// <summary>
    /// Of the pages that <see cref="Adopt"/> would find for a sequence of <paramref name="count"/> tokens, those that others
    /// hold and that it still needs when all its tokens are computed.
    /// </summary>
    public int Shared(TokenHashes hashes, int count)
    {
        int length = Find(hashes, count - 1);
        int shared = 0;
        for (int g = 0; g < _groups.Length; g++)
            for (int i = FirstSeen(g, count); i < length / _groups[g].TokensPerPage; i++)
                if (!IsUnheld(_byName[NameOf(hashes, g, i)])) shared++;
        return shared;
    }

    /// <summary>Names the pages that became full between two positions.</summary>
    public void Add(TokenHashes hashes, BlockTable blocks, int from, int to, int promptLength)
    {
        for (int g = 0; g < _groups.Length; g++)
        {
            int perPage = _groups[g].TokensPerPage;
            ReadOnlySpan<int> pages = blocks.Pages(g);
            for (int i = from / perPage; i < to / perPage; i++)
            {
                Name name = NameOf(hashes, g, i);
                if (!_byName.TryAdd(name, pages[i])) continue;
                _names[pages[i]] = name;
                _ranks[pages[i]] = _groups[g].Window == 0 ? CacheRank.Global : (i + 1) * perPage <= promptLength ? CacheRank.Cold : CacheRank.Spent;
            }
        }
    }

    /// <summary>
    /// Makes the windows worth keeping that a conversation needs to go on anywhere between two positions, or a little before
    /// them (<see cref="_slack"/>): one before each block there, if all its pages are left. Neighbours differ in a block only.
    /// </summary>
    public void KeepWindows(TokenHashes hashes, int from, int to)
    {
        for (int position = Math.Max(0, from - _slack) / Block * Block; position <= to; position += Block) KeepWindow(hashes, position);
        HoldToBudget();
    }

    private void KeepWindow(TokenHashes hashes, int position)
    {
        for (int g = 0; g < _groups.Length; g++)
            if (_groups[g].Window > 0 && LastMissing(hashes, g, FirstSeen(g, position), position) >= 0) return;

        for (int g = 0; g < _groups.Length; g++)
        {
            if (_groups[g].Window == 0) continue;
            for (int i = FirstSeen(g, position); i < position / _groups[g].TokensPerPage; i++) Promote(_byName[NameOf(hashes, g, i)], CacheRank.Window);
        }
    }

    /// <summary>Names, ranks and lists agree.</summary>
    /// <exception cref="InvalidOperationException">They do not.</exception>
    public void CheckIntegrity()
    {
        int named = 0;
        for (int page = 0; page < _ranks.Length; page++)
        {
            if (!IsNamed(page))
            {
                if (IsUnheld(page)) throw new InvalidOperationException($"Page {page} is cached without a name.");
                continue;
            }
            named++;
            if (!_byName.TryGetValue(_names[page], out int found) || found != page) throw new InvalidOperationException($"Page {page} cannot be found by its name.");
            if (IsUnheld(page) != (_pool.Holders(page) == 0)) throw new InvalidOperationException($"Page {page} is cached and held at once, or neither.");
        }
        if (named != _byName.Count) throw new InvalidOperationException($"{_byName.Count} names for {named} pages.");
        if (_unheld.CountOf(CacheRank.Window) > _windowBudget) throw new InvalidOperationException("The kept windows exceed their budget.");
    }

    /// <summary>The longest prefix whose pages are all here.</summary>
    private int Find(TokenHashes hashes, int limit)
    {
        int length = limit - limit % Block;
        for (int g = 0; g < _groups.Length; g++)
            if (_groups[g].Window == 0) length = Math.Min(length, PagesFromStart(hashes, g, length) * _groups[g].TokensPerPage);
        length -= length % Block;

        // A page missing before `length` rules out every length down to its start.
        for (int g = 0; g < _groups.Length && length > 0;)
        {
            int missing = _groups[g].Window == 0 ? -1 : LastMissing(hashes, g, FirstSeen(g, length), length);
            if (missing < 0)
            {
                g++;
                continue;
            }
            length = missing * _groups[g].TokensPerPage;
            length -= length % Block;
            g = 0;
        }
        return length;
    }

    private int PagesFromStart(TokenHashes hashes, int group, int length)
    {
        int pages = 0;
        while (pages < length / _groups[group].TokensPerPage && _byName.ContainsKey(NameOf(hashes, group, pages))) pages++;
        return pages;
    }

    /// <summary>The last page from <paramref name="first"/> on and before <paramref name="length"/> that is not here; −1 when all are.</summary>
    private int LastMissing(TokenHashes hashes, int group, int first, int length)
    {
        for (int i = length / _groups[group].TokensPerPage - 1; i >= first; i--)
            if (!_byName.ContainsKey(NameOf(hashes, group, i))) return i;
        return -1;
    }

    /// <summary>The first page that the query at <paramref name="position"/> sees.</summary>
    private int FirstSeen(int group, int position)
    {
        KvGroup g = _groups[group];
        return g.Window == 0 ? 0 : Math.Max(0, position - g.Window + 1) / g.TokensPerPage;
    }

    private int Hold(int page)
    {
        if (IsUnheld(page)) _unheld.Remove(page, _ranks[page]);
        _pool.Share(page);
        if (_ranks[page] == CacheRank.Spent) _ranks[page] = CacheRank.Cold;     // part of a prompt now
        return page;
    }

    private void Promote(int page, CacheRank rank)
    {
        bool unheld = IsUnheld(page);
        if (unheld) _unheld.Remove(page, _ranks[page]);
        _ranks[page] = rank;
        if (unheld) _unheld.Add(page, rank);
    }

    private void HoldToBudget()
    {
        while (_unheld.CountOf(CacheRank.Window) > _windowBudget) Promote(_unheld.Oldest(CacheRank.Window), CacheRank.Cold);
    }

    private Name NameOf(TokenHashes hashes, int group, int page) => new(group, hashes.At((page + 1) * _groups[group].TokensPerPage));

    private static int Gcd(int a, int b) => b == 0 ? a : Gcd(b, a % b);

    private readonly record struct Name(int Group, UInt128 Hash)
    {
        // The hash is uniform already.
        public override int GetHashCode() => (int)(ulong)Hash ^ Group;
    }
}
