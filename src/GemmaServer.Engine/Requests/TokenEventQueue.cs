using System.Threading.Tasks.Sources;

namespace GemmaServer.Engine;

/// <summary>
/// Events of one request on their way from the engine thread (one writer) to its reader (one reader). Writing and waking
/// cost the engine thread no managed memory and never run the reader's code there; a reader that falls behind only makes
/// its own queue longer.
/// </summary>
/// <remarks>
/// Rings in a chain: the writer stays in its ring until that is full, then links one twice as large; the reader follows
/// when it has emptied the old one. <see cref="IThreadPoolWorkItem"/> because queueing the object itself allocates nothing,
/// where <c>RunContinuationsAsynchronously</c> would make a new work item for each token.
/// </remarks>
internal sealed class TokenEventQueue : IValueTaskSource<bool>, IThreadPoolWorkItem
{
    private Ring _writing;
    private Ring _reading;
    private bool _ended;                            // the reader's: it has seen the last event
    private int _waiting;                           // 1: the reader sleeps; who sets it back to 0 must wake it
    private ManualResetValueTaskSourceCore<bool> _wake;
    private CancellationTokenRegistration _registration;
    private CancellationToken _cancelledBy;

    /// <param name="capacity">Events in the first ring; rounded up to a power of two.</param>
    public TokenEventQueue(int capacity) => _writing = _reading = new Ring((int)uint.Max(2, System.Numerics.BitOperations.RoundUpToPowerOf2((uint)capacity)));

    /// <summary>Engine thread: adds an event and wakes the reader if it sleeps.</summary>
    public void Write(in TokenEvent tokenEvent)
    {
        Ring ring = _writing;
        int tail = ring.Tail;
        if (tail - Volatile.Read(ref ring.Head) < ring.Events.Length)
        {
            ring.Events[tail & ring.Mask] = tokenEvent;
            Volatile.Write(ref ring.Tail, tail + 1);
        }
        else
        {
            Ring larger = new(ring.Events.Length * 2) { Tail = 1 };
            larger.Events[0] = tokenEvent;
            Volatile.Write(ref ring.Next, larger);
            _writing = larger;
        }

        // The event must be visible before the look at _waiting: the reader does it the other way round.
        Interlocked.MemoryBarrier();
        if (Volatile.Read(ref _waiting) == 1) Wake();
    }

    /// <summary>Reader: takes the next event if there is one.</summary>
    public bool TryRead(out TokenEvent tokenEvent)
    {
        if (!MoveToEvent())
        {
            tokenEvent = default;
            return false;
        }
        Ring ring = _reading;
        ref TokenEvent place = ref ring.Events[ring.Head & ring.Mask];
        tokenEvent = place;
        place = default;    // do not keep its logprobs alive
        Volatile.Write(ref ring.Head, ring.Head + 1);
        _ended = tokenEvent.Finish != FinishReason.None;
        return true;
    }

    /// <summary>Reader: completes with true when there is an event, with false when the last one was read.</summary>
    /// <exception cref="OperationCanceledException">The token was cancelled before an event came.</exception>
    public ValueTask<bool> WaitToReadAsync(CancellationToken cancellation)
    {
        if (_ended) return new(false);
        if (MoveToEvent()) return new(true);
        if (cancellation.IsCancellationRequested) return ValueTask.FromCanceled<bool>(cancellation);

        if (Volatile.Read(ref _waiting) == 1) throw new InvalidOperationException("Two readers wait for one generation.");
        _wake.Reset();
        Interlocked.Exchange(ref _waiting, 1);      // a full fence, as in Write
        if (MoveToEvent() && Interlocked.Exchange(ref _waiting, 0) == 1) return new(true);
        if (cancellation.CanBeCanceled)
            _registration = cancellation.UnsafeRegister(static (queue, token) => ((TokenEventQueue)queue!).Cancel(token), this);
        return new(this, _wake.Version);
    }

    private void Cancel(CancellationToken token)
    {
        if (Interlocked.Exchange(ref _waiting, 0) == 0) return;
        _cancelledBy = token;
        ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
    }

    private void Wake()
    {
        if (Interlocked.Exchange(ref _waiting, 0) == 1) ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
    }

    private bool MoveToEvent()
    {
        while (true)
        {
            Ring ring = _reading;
            if (ring.Head != Volatile.Read(ref ring.Tail)) return true;
            Ring? next = Volatile.Read(ref ring.Next);
            if (next is null) return false;
            // The writer may have filled this ring between the two looks; once Next is there it never comes back.
            if (ring.Head == Volatile.Read(ref ring.Tail)) _reading = next;
        }
    }

    void IThreadPoolWorkItem.Execute()
    {
        CancellationToken cancelledBy = _cancelledBy;
        _cancelledBy = default;
        if (cancelledBy.IsCancellationRequested) _wake.SetException(new OperationCanceledException(cancelledBy));
        else _wake.SetResult(true);
    }

    bool IValueTaskSource<bool>.GetResult(short token)
    {
        _registration.Dispose();
        _registration = default;
        return _wake.GetResult(token);
    }

    ValueTaskSourceStatus IValueTaskSource<bool>.GetStatus(short token) => _wake.GetStatus(token);

    void IValueTaskSource<bool>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _wake.OnCompleted(continuation, state, token, flags);

    private sealed class Ring(int capacity)
    {
        public readonly TokenEvent[] Events = new TokenEvent[capacity];
        public readonly int Mask = capacity - 1;
        public int Head;    // the reader's
        public int Tail;    // the writer's
        public Ring? Next;
    }
}
