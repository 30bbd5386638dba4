namespace GemmaServer.Engine;

/// <summary>All pages of the KV cache by id: which are free, and how many hold each of the others.</summary>
internal sealed class KvBlockPool
{
    private readonly int[] _free;       // a stack: the top is at FreePages − 1
    private readonly int[] _holders;    // by page

    public KvBlockPool(int pageCount)
    {
        _free = new int[pageCount];
        _holders = new int[pageCount];
        for (int i = 0; i < pageCount; i++) _free[i] = pageCount - 1 - i;
        FreePages = pageCount;
    }

    public int PageCount => _free.Length;

    public int FreePages { get; private set; }

    /// <summary>Takes a free page; ask <see cref="FreePages"/> first.</summary>
    public int Take()
    {
        int page = _free[--FreePages];
        _holders[page] = 1;
        return page;
    }

    /// <summary>How many hold a page.</summary>
    public int Holders(int page) => _holders[page];

    /// <summary>One more holds a page.</summary>
    public void Share(int page) => _holders[page]++;

    /// <summary>One holder lets a page go; true for the last one, who says then whether it is cached or <see cref="Free"/>.</summary>
    public bool LetGo(int page)
    {
        if (_holders[page] <= 0) throw new InvalidOperationException($"Page {page} was given back twice.");
        return --_holders[page] == 0;
    }

    /// <summary>A page that nobody holds can be taken again.</summary>
    public void Free(int page) => _free[FreePages++] = page;

    /// <summary>Gives a page back.</summary>
    public void Return(int page)
    {
        if (LetGo(page)) Free(page);
    }

    /// <summary>Free + held + cached = all, and no page twice.</summary>
    /// <param name="held">Pages that sequences hold, by their own count.</param>
    /// <param name="cached">Pages that nobody holds and that are not free, by the cache's count.</param>
    /// <exception cref="InvalidOperationException">It is not so.</exception>
    public void CheckIntegrity(int held, int cached = 0)
    {
        if (FreePages + held + cached != PageCount)
            throw new InvalidOperationException($"The KV pool leaks: {FreePages} free + {held} held + {cached} cached ≠ {PageCount} pages.");

        int unheld = 0;
        foreach (int holders in _holders) if (holders == 0) unheld++;
        if (unheld != FreePages + cached)
            throw new InvalidOperationException($"The KV pool has {FreePages} free and {cached} cached pages, but {unheld} have no holder.");
        for (int i = 0; i < FreePages; i++)
            if (_holders[_free[i]] != 0) throw new InvalidOperationException($"Page {_free[i]} is free and held at once.");
    }
}
