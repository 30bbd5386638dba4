namespace GemmaServer.Engine;

/// <summary>
/// How many may wait, in all and by client, and how long the queue takes. Submitters ask here, the engine thread tells who left.
/// </summary>
internal sealed class QueueLimits(int maxQueue, int maxPerClient, EngineMetrics metrics)
{
    /// <summary>Weight of the newest admission in the mean: some sixteen admissions are remembered.</summary>
    private const double Newest = 1.0 / 16;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, int> _byClient = new(StringComparer.Ordinal);    // empty without a limit by client
    private long _lastAdmission;
    private double _meanInterval;       // in timestamp units, over times when somebody waited

    /// <summary>Makes room for all of a client's requests, or for none. A set larger than a limit is let in where nobody waits: it could never come in otherwise.</summary>
    public SubmitResult TryEnter(string client, int count)
    {
        lock (_lock)
        {
            SubmitResult result = SubmitResult.Accepted;
            if (IsOver(_byClient.GetValueOrDefault(client), count, maxPerClient)) result = SubmitResult.ClientQueueFull;
            else if (IsOver(metrics.Waiting, count, maxQueue)) result = SubmitResult.QueueFull;

            if (result == SubmitResult.Accepted) Change(client, count);
            else metrics.AddRejected();
            return result;
        }
    }

    /// <summary>One came back that was admitted before.</summary>
    public void Return(string client)
    {
        lock (_lock) Change(client, 1);
    }

    /// <summary>One left the queue.</summary>
    public void Leave(string client)
    {
        lock (_lock) Change(client, -1);
    }

    /// <summary>One that waited since <paramref name="queuedAt"/> got its place.</summary>
    public void Admitted(long queuedAt, long now)
    {
        lock (_lock)
        {
            double interval = now - Math.Max(_lastAdmission, queuedAt);
            _meanInterval = _lastAdmission == 0 ? interval : _meanInterval + (interval - _meanInterval) * Newest;
            _lastAdmission = now;
        }
    }

    /// <summary>Timestamp units until what waits now, of all or of one client, is probably admitted.</summary>
    public double Estimate(string? client, long now)
    {
        lock (_lock)
        {
            if (_lastAdmission == 0) return 0;
            int waiting = client is null ? metrics.Waiting : _byClient.GetValueOrDefault(client);
            return waiting * _meanInterval + (now - _lastAdmission);    // the second part grows while nothing moves
        }
    }

    private static bool IsOver(int waiting, int more, int limit) => limit > 0 && waiting > 0 && waiting + more > limit;

    private void Change(string client, int change)
    {
        metrics.AddWaiting(change);
        if (maxPerClient == 0) return;
        int waiting = _byClient.GetValueOrDefault(client) + change;
        if (waiting > 0) _byClient[client] = waiting;
        else _byClient.Remove(client);
    }
}
