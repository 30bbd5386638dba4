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

    /// <summary>Gives a page back.</summary>
    public void Return(int page)
    {
        if (_holders[page] <= 0) throw new InvalidOperationException($"Page {page} was given back twice.");
        if (--_holders[page] == 0) _free[FreePages++] = page;
    }

    /// <summary>Free + held = all, and no page twice.</summary>
    /// <param name="held">Pages that sequences hold, by their own count.</param>
    /// <exception cref="InvalidOperationException">It is not so.</exception>
    public void CheckIntegrity(int held)
    {
        if (FreePages + held != PageCount)
            throw new InvalidOperationException($"The KV pool leaks: {FreePages} free + {held} held ≠ {PageCount} pages.");

        int unheld = 0;
        foreach (int holders in _holders) if (holders == 0) unheld++;
        if (unheld != FreePages) throw new InvalidOperationException($"The KV pool lists {FreePages} pages as free, but {unheld} have no holder.");
        for (int i = 0; i < FreePages; i++)
            if (_holders[_free[i]] != 0) throw new InvalidOperationException($"Page {_free[i]} is free and held at once.");
    }
}
