namespace GemmaServer.Engine;

/// <summary>
/// Who is admitted next: preempted sequences, then by priority, then the client that was served least, then the oldest.
/// </summary>
/// <remarks>
/// Each client has a line for each priority it uses; the lines are a heap by (priority, counter, arrival of the first). A
/// counter grows with every token, and the heap does not hear of it: as counters never shrink, it is enough to move a line
/// down when it comes to the top with an old one. So adding, removing and picking take the logarithm of the lines, and a token nothing.
/// <para>
/// Beside the lines stand followers: they wait for a running sequence that computes their prefix right now, and others may
/// pass them.
/// </para>
/// </remarks>
internal sealed class WaitingQueue
{
    private readonly ClientAccounts _accounts = new();
    private readonly Dictionary<(ClientAccount, int), ClientLine> _byKey = [];
    private readonly Heap<ClientLine> _lines = new();
    private readonly LinkedList<Sequence> _preempted = new();    // those that outrank others first

    /// <summary>All that wait, followers included.</summary>
    public int Count { get; private set; }

    /// <summary>Puts a new sequence into its client's line.</summary>
    public void Add(Sequence sequence)
    {
        sequence.Place.Account = _accounts.Join(sequence.Place.Client);
        Count++;
        Enter(sequence);
    }

    /// <summary>Puts a preempted sequence before all new ones.</summary>
    public void AddPreempted(Sequence sequence)
    {
        Count++;
        LinkedListNode<Sequence>? next = _preempted.First;
        while (next is not null && next.Value.Place.Outranks(sequence.Place)) next = next.Next;
        if (next is null) _preempted.AddLast(sequence.Place.Node);
        else _preempted.AddBefore(next, sequence.Place.Node);
    }

    /// <summary>Whose turn it is; null when nobody waits but followers.</summary>
    public Sequence? Peek()
    {
        if (_preempted.First is { } first) return first.Value;
        if (_lines.Count == 0) return null;
        while (_lines.Top.Known != _lines.Top.Account.Counter)
        {
            _lines.Top.Known = _lines.Top.Account.Counter;
            _lines.Moved(_lines.Top);
        }
        return _lines.Top.Sequences.First!.Value;
    }

    /// <summary>Takes a sequence out, wherever it stands. Its client stays active until <see cref="Ended"/>.</summary>
    public void Remove(Sequence sequence)
    {
        if (sequence.Place.Node.List is null) return;
        Count--;
        Leave(sequence);
    }

    /// <summary>A sequence ended: its client has one less.</summary>
    public void Ended(Sequence sequence)
    {
        if (sequence.Place.Account is { } account) _accounts.Leave(account);
        sequence.Place.Account = null;
    }

    /// <summary>Lets a sequence wait until another one computed the first <paramref name="until"/> tokens, which they share.</summary>
    public void Follow(Sequence sequence, Sequence leader, int until)
    {
        Leave(sequence);
        QueuePlace place = sequence.Place;
        place.SharedUntil = until;
        place.TimesFollowed++;
        (leader.Place.Followers ??= new LinkedList<Sequence>()).AddLast(place.Node);
    }

    /// <summary>Puts those back into their lines who wait for at most the first <paramref name="computed"/> tokens of a sequence.</summary>
    public void Wake(Sequence leader, int computed)
    {
        // The youngest first, so that each finds its place at the head of its line.
        for (LinkedListNode<Sequence>? node = leader.Place.Followers?.Last; node is not null;)
        {
            Sequence sequence = node.Value;
            node = node.Previous;
            if (sequence.Place.SharedUntil > computed) continue;
            Leave(sequence);
            Enter(sequence);
        }
    }

    private void Enter(Sequence sequence)
    {
        QueuePlace place = sequence.Place;
        (ClientAccount, int) key = (place.Account!, place.Priority);
        if (!_byKey.TryGetValue(key, out ClientLine? line)) _byKey.Add(key, line = new ClientLine(place.Account!, place.Priority));
        place.Line = line;

        LinkedList<Sequence> all = line.Sequences;
        if (all.Last is not { } last || last.Value.Place.Arrival < place.Arrival)
        {
            all.AddLast(place.Node);
        }
        else
        {
            // One that comes back from its leader is older than nearly all.
            LinkedListNode<Sequence> next = all.First!;
            while (next.Value.Place.Arrival < place.Arrival) next = next.Next!;
            all.AddBefore(next, place.Node);
        }
        if (line.HeapIndex < 0) _lines.Add(line);
        else if (all.First == place.Node) _lines.Moved(line);
    }

    private void Leave(Sequence sequence)
    {
        QueuePlace place = sequence.Place;
        place.Node.List!.Remove(place.Node);
        if (place.Line is not { } line) return;
        place.Line = null;
        if (line.Sequences.Count > 0)
        {
            _lines.Moved(line);
            return;
        }
        // Its place in the heap is compared no more once the list is empty.
        _byKey.Remove((line.Account, line.Priority));
        _lines.Remove(line);
    }
}
