namespace GemmaServer.Engine;

/// <summary>A sequence's side of the queue: who asks, how urgent it is, until when, and where it stands.</summary>
internal sealed class QueuePlace : IHeapItem<QueuePlace>
{
    /// <param name="sequence">Whose place it is.</param>
    /// <param name="request">The request, checked.</param>
    /// <param name="serveBy">Timestamp at which it leaves the queue unserved; long.MaxValue for never.</param>
    /// <param name="endBy">Timestamp at which it ends wherever it is; long.MaxValue for never.</param>
    public QueuePlace(Sequence sequence, GenerationRequest request, long serveBy, long endBy)
    {
        Node = new LinkedListNode<Sequence>(sequence);
        Client = request.Client ?? "";
        Priority = request.Priority;
        EndBy = endBy;
        NextDeadline = Math.Min(serveBy, endBy);
    }

    public Sequence Sequence => Node.Value;

    public string Client { get; }

    /// <summary>Lower is served earlier.</summary>
    public int Priority { get; }

    /// <summary>Counts the accepted requests.</summary>
    public long Arrival { get; set; }

    /// <summary>When it ends wherever it is.</summary>
    public long EndBy { get; }

    /// <summary>The deadline that counts now; the heap is ordered by it.</summary>
    public long NextDeadline { get; set; }

    public int HeapIndex { get; set; } = -1;

    /// <summary>In no list while it runs.</summary>
    public LinkedListNode<Sequence> Node { get; }

    /// <summary>What its client was served; null before the engine took it in.</summary>
    public ClientAccount? Account { get; set; }

    /// <summary>The line it stands in, if any.</summary>
    public ClientLine? Line { get; set; }

    /// <summary>Up to where it waits for a running sequence with the same prefix.</summary>
    public int SharedUntil { get; set; }

    /// <summary>How often it waited for one.</summary>
    public int TimesFollowed { get; set; }

    /// <summary>Who waits for this one's prefix; null when nobody ever did.</summary>
    public LinkedList<Sequence>? Followers { get; set; }

    /// <summary>Whether it is worth more than another one: more urgent, or as urgent and older.</summary>
    public bool Outranks(QueuePlace other) => Priority != other.Priority ? Priority < other.Priority : Arrival < other.Arrival;

    public bool ComesBefore(QueuePlace other) => NextDeadline < other.NextDeadline;
}

/// <summary>What one client has waiting at one priority, first come first served.</summary>
internal sealed class ClientLine(ClientAccount account, int priority) : IHeapItem<ClientLine>
{
    public ClientAccount Account => account;

    public int Priority => priority;

    public LinkedList<Sequence> Sequences { get; } = new();

    /// <summary>The client's counter as of the line's last move in the heap.</summary>
    public long Known { get; set; } = account.Counter;

    public int HeapIndex { get; set; } = -1;

    private long FirstArrival => Sequences.First!.Value.Place.Arrival;

    public bool ComesBefore(ClientLine other) =>
        priority != other.Priority ? priority < other.Priority : Known != other.Known ? Known < other.Known : FirstArrival < other.FirstArrival;
}
