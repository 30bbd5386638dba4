namespace GemmaServer.Compute;

/// <summary>How a key or value element is stored.</summary>
public enum KvCacheType
{
    /// <summary>32-bit floats: exact.</summary>
    F32,

    /// <summary>IEEE half.</summary>
    F16,

    /// <summary>bfloat16.</summary>
    BF16,

    /// <summary>Blocks of 32 signed bytes with one half scale.</summary>
    Q8_0,
}

/// <summary>Layers whose keys and values share pages: all sliding or all global.</summary>
/// <param name="Layers">Layer indices, ascending; only layers that own a cache.</param>
/// <param name="Window">Keys a query sees, itself included; 0 for a global group.</param>
/// <param name="TokensPerPage">Positions in one page.</param>
/// <param name="BytesPerToken">Keys and values of all the group's layers for one position.</param>
public sealed record KvGroup(IReadOnlyList<int> Layers, int Window, int TokensPerPage, long BytesPerToken);

/// <summary>One pool of equal pages for all groups.</summary>
/// <param name="Groups">The layer groups.</param>
/// <param name="PageBytes">Bytes of a page: at least TokensPerPage × BytesPerToken of every group.</param>
/// <param name="PageCount">Pages in the pool.</param>
/// <param name="Type">Element type.</param>
public sealed record KvCachePlan(IReadOnlyList<KvGroup> Groups, long PageBytes, int PageCount, KvCacheType Type)
{
    /// <summary>
    /// Most pages that one sequence of <paramref name="tokens"/> positions holds at once, when at most
    /// <paramref name="chunk"/> rows are computed in a step: a sliding group keeps its window, the chunk and a page's worth of slack.
    /// </summary>
    public int PagesForSequence(int tokens, int chunk) => (int)PagesForSequences(1, tokens, chunk);

    /// <summary>
    /// Most pages that <paramref name="count"/> sequences of <paramref name="tokens"/> positions hold at once, when at most
    /// <paramref name="rows"/> rows of them all are computed in a step: each keeps its windows, but they share the step's rows.
    /// </summary>
    public long PagesForSequences(int count, int tokens, int rows)
    {
        long pages = 0;
        foreach (KvGroup g in Groups)
        {
            long perPage = g.TokensPerPage, all = count * ((tokens + perPage - 1) / perPage);
            // Each sequence may begin and end within a page; the sum of the rounded-up parts is at most this.
            long live = (count * (g.Window - 1 + perPage - 1) + rows) / perPage + count;
            pages += g.Window == 0 ? all : Math.Min(all, live);
        }
        return pages;
    }
}
