namespace GemmaServer.Engine;

/// <summary>What a cached page that nobody holds is worth; lower ones are evicted first.</summary>
internal enum CacheRank : byte
{
    /// <summary>Not cached.</summary>
    None,

    /// <summary>A sliding page of an answer that its window has left; it serves only if the answer ends at once.</summary>
    Spent,

    /// <summary>A sliding page of a prompt that its window has left; it serves prompts that part in the middle.</summary>
    Cold,

    /// <summary>A sliding page before a place where conversations continue.</summary>
    Window,

    /// <summary>A page of a global group.</summary>
    Global,
}

/// <summary>Cached pages that nobody holds, by rank and then by the time since their last use. All operations are O(1) and allocate nothing.</summary>
internal sealed class EvictionOrder
{
    private const int Ranks = (int)CacheRank.Global + 1;

    // Rings with one sentinel for each rank behind the pages.
    private readonly int[] _next;
    private readonly int[] _previous;
    private readonly long[] _stamp;
    private readonly int[] _counts = new int[Ranks];
    private readonly int _pages;
    private long _clock;

    public EvictionOrder(int pageCount)
    {
        _pages = pageCount;
        _next = new int[pageCount + Ranks];
        _previous = new int[pageCount + Ranks];
        _stamp = new long[pageCount];
        Array.Fill(_next, -1);
        for (int i = pageCount; i < _next.Length; i++) _next[i] = _previous[i] = i;
    }

    public int Count { get; private set; }

    public int CountOf(CacheRank rank) => _counts[(int)rank];

    public bool Contains(int page) => _next[page] >= 0;

    /// <summary>The page of this rank that was not used for longest.</summary>
    public int Oldest(CacheRank rank) => _next[Sentinel(rank)];

    /// <summary>The page to lose next; ask <see cref="Count"/> first. Windows and global pages go by age alone: each is worth nothing without the other.</summary>
    public int Worst()
    {
        if (CountOf(CacheRank.Spent) > 0) return Oldest(CacheRank.Spent);
        if (CountOf(CacheRank.Cold) > 0) return Oldest(CacheRank.Cold);
        if (CountOf(CacheRank.Window) == 0) return Oldest(CacheRank.Global);
        if (CountOf(CacheRank.Global) == 0) return Oldest(CacheRank.Window);
        int window = Oldest(CacheRank.Window);
        int global = Oldest(CacheRank.Global);
        return _stamp[window] < _stamp[global] ? window : global;
    }

    /// <summary>Puts a page behind all others of its rank.</summary>
    public void Add(int page, CacheRank rank)
    {
        if (Contains(page)) throw new InvalidOperationException($"Page {page} is cached twice.");
        int end = Sentinel(rank);
        int last = _previous[end];
        (_next[last], _previous[page], _next[page], _previous[end]) = (page, last, end, page);
        _stamp[page] = ++_clock;
        _counts[(int)rank]++;
        Count++;
    }

    public void Remove(int page, CacheRank rank)
    {
        (int before, int after) = (_previous[page], _next[page]);
        (_next[before], _previous[after], _next[page]) = (after, before, -1);
        _counts[(int)rank]--;
        Count--;
    }

    private int Sentinel(CacheRank rank) => _pages + (int)rank;
}
