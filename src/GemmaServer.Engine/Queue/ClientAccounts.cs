namespace GemmaServer.Engine;

/// <summary>What a client was served, in tokens.</summary>
internal sealed class ClientAccount : IHeapItem<ClientAccount>
{
    /// <summary>A generated token costs twice a prompt token: prompts are computed many rows at once.</summary>
    private const int OutputWeight = 2;

    public ClientAccount(string client)
    {
        Client = client;
        IdlePlace = new LinkedListNode<ClientAccount>(this);
    }

    public string Client { get; }

    /// <summary>Prompt tokens computed and, with double weight, tokens generated. Only grows.</summary>
    public long Counter { get; set; }

    /// <summary>Sequences that wait or run.</summary>
    public int Active { get; set; }

    public LinkedListNode<ClientAccount> IdlePlace { get; }

    /// <summary>The counter as of its last move in the heap.</summary>
    public long Known { get; set; }

    public int HeapIndex { get; set; } = -1;

    public void ChargePrompt(int computed) => Counter += computed;

    public void ChargeOutput() => Counter += OutputWeight;

    public bool ComesBefore(ClientAccount other) => Known < other.Known;
}

/// <summary>
/// Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024): who was served less goes
/// first. A client that comes back is lifted to the smallest counter of the active ones: idling saves up no credit.
/// </summary>
/// <remarks>
/// A client that went idle keeps its counter for a while, or one request at a time would always look new. At most
/// <see cref="MaxIdle"/> of them are remembered, and none when nobody is active: then nobody was kept waiting.
/// </remarks>
internal sealed class ClientAccounts
{
    /// <summary>Idle clients remembered at most; each is about 200 bytes and its name.</summary>
    public const int MaxIdle = 1024;

    private readonly Dictionary<string, ClientAccount> _byClient = new(StringComparer.Ordinal);
    private readonly Heap<ClientAccount> _active = new();
    private readonly LinkedList<ClientAccount> _idle = new();    // longest idle first

    /// <summary>Clients that are remembered.</summary>
    public int Count => _byClient.Count;

    /// <summary>One more sequence of a client.</summary>
    public ClientAccount Join(string client)
    {
        if (!_byClient.TryGetValue(client, out ClientAccount? account)) _byClient.Add(client, account = new ClientAccount(client));
        if (account.Active++ > 0) return account;

        if (account.IdlePlace.List is not null) _idle.Remove(account.IdlePlace);
        if (_active.Count > 0) account.Counter = Math.Max(account.Counter, Least());
        account.Known = account.Counter;
        _active.Add(account);
        return account;
    }

    /// <summary>One sequence of a client less.</summary>
    public void Leave(ClientAccount account)
    {
        if (--account.Active > 0) return;
        _active.Remove(account);
        if (_active.Count == 0)
        {
            _byClient.Clear();
            _idle.Clear();
            return;
        }
        _idle.AddLast(account.IdlePlace);
        if (_idle.Count <= MaxIdle) return;
        _byClient.Remove(_idle.First!.Value.Client);
        _idle.RemoveFirst();
    }

    /// <summary>Counters only grow, so the smallest is found by moving those down that grew since they last moved.</summary>
    private long Least()
    {
        while (_active.Top.Known != _active.Top.Counter)
        {
            _active.Top.Known = _active.Top.Counter;
            _active.Moved(_active.Top);
        }
        return _active.Top.Counter;
    }
}
