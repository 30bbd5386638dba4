namespace GemmaServer;

/// <summary>The requests that are being answered, by the id that their clients know, so that another request can end them.</summary>
internal sealed class RunningRequests
{
    // Clients choose ids, so several may have the same.
    private readonly Dictionary<string, List<RequestWatch>> _byId = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();

    public void Add(RequestWatch request)
    {
        lock (_lock)
        {
            if (!_byId.TryGetValue(request.RequestId, out List<RequestWatch>? same)) _byId[request.RequestId] = same = [];
            same.Add(request);
        }
    }

    public void Remove(RequestWatch request)
    {
        lock (_lock)
        {
            if (!_byId.TryGetValue(request.RequestId, out List<RequestWatch>? same)) return;
            same.Remove(request);
            if (same.Count == 0) _byId.Remove(request.RequestId);
        }
    }

    /// <summary>Ends the requests with this id that the key may end: its own, and the admin key all.</summary>
    /// <returns>How many.</returns>
    public int Abort(string id, string? keyName)
    {
        RequestWatch[] found;
        lock (_lock) found = _byId.TryGetValue(id, out List<RequestWatch>? same) ? [.. same.Where(r => keyName == ApiKeys.AdminName || r.KeyName == keyName)] : [];
        foreach (RequestWatch request in found) request.Abort();
        return found.Length;
    }
}
