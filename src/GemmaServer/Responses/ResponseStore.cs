namespace GemmaServer;

/// <summary>
/// The responses of late, for <c>previous_response_id</c> and <c>GET /v1/responses/{id}</c>: in memory, bounded in number and bytes,
/// those unused for longest leave first. Each belongs to who asked for it.
/// </summary>
/// <param name="capacity">Most responses; 0 keeps none.</param>
/// <param name="maxBytes">Most memory that they may hold together.</param>
internal sealed class ResponseStore(int capacity, long maxBytes = ResponseStore.DefaultMaxBytes)
{
    /// <summary>64 MiB: a thousand responses of usual length with room to spare.</summary>
    public const long DefaultMaxBytes = 64L << 20;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, LinkedListNode<StoredResponse>> _byId = new(StringComparer.Ordinal);
    private readonly Dictionary<(string Owner, string Item), StoredResponse> _byItem = [];
    private readonly LinkedList<StoredResponse> _byUse = [];    // latest first
    private long _bytes;

    /// <summary>Whether anything is kept.</summary>
    public bool IsOn => capacity > 0;

    public int Count
    {
        get { lock (_lock) return _byId.Count; }
    }

    public long Bytes
    {
        get { lock (_lock) return _bytes; }
    }

    /// <summary>Keeps a response, unless it alone is larger than the store.</summary>
    public void Add(StoredResponse response)
    {
        if (!IsOn || response.Bytes > maxBytes) return;
        lock (_lock)
        {
            while (_byId.Count >= capacity || _bytes + response.Bytes > maxBytes) Drop(_byUse.Last!);
            _byId.Add(response.Id, _byUse.AddFirst(response));
            // An item that was sent again keeps its id; the latest response with it is the one that stays longest.
            foreach (string item in response.ItemIds) _byItem[(response.Owner, item)] = response;
            _bytes += response.Bytes;
        }
    }

    /// <summary>The response; null when there is none for this owner.</summary>
    public StoredResponse? Find(string id, string owner)
    {
        lock (_lock) return Use(id, owner);
    }

    /// <summary>The response that holds an item; null when there is none for this owner.</summary>
    public StoredResponse? FindItem(string itemId, string owner)
    {
        lock (_lock) return _byItem.TryGetValue((owner, itemId), out StoredResponse? response) ? Use(response.Id, owner) : null;
    }

    /// <summary>A conversation up to and with a response, oldest first; or the id of the first one that is not there.</summary>
    public (IReadOnlyList<StoredResponse> Chain, string? Missing) FindChain(string id, string owner)
    {
        List<StoredResponse> chain = [];
        lock (_lock)
        {
            // The beginning is used last: without it nothing behind it can be gone on from, so it leaves last.
            for (string? next = id; next is not null; next = chain[^1].PreviousId)
            {
                if (Use(next, owner) is not { } response) return ([], next);
                chain.Add(response);
            }
        }
        chain.Reverse();
        return (chain, null);
    }

    /// <summary>Forgets a response; false when there is none for this owner.</summary>
    public bool Remove(string id, string owner)
    {
        lock (_lock)
        {
            if (!_byId.TryGetValue(id, out LinkedListNode<StoredResponse>? node) || node.Value.Owner != owner) return false;
            Drop(node);
            return true;
        }
    }

    private StoredResponse? Use(string id, string owner)
    {
        if (!_byId.TryGetValue(id, out LinkedListNode<StoredResponse>? node) || node.Value.Owner != owner) return null;
        _byUse.Remove(node);
        _byUse.AddFirst(node);
        return node.Value;
    }

    private void Drop(LinkedListNode<StoredResponse> node)
    {
        StoredResponse response = node.Value;
        _byUse.Remove(node);
        _byId.Remove(response.Id);
        foreach (string item in response.ItemIds)
        {
            (string, string) key = (response.Owner, item);
            if (_byItem.TryGetValue(key, out StoredResponse? holder) && ReferenceEquals(holder, response)) _byItem.Remove(key);
        }
        _bytes -= response.Bytes;
    }
}
