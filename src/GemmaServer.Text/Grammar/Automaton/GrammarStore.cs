namespace GemmaServer.Text;

/// <summary>
/// The states and frames that answers came through, equal ones once, and the memory of what states hold: when that passes its bound,
/// those that were not used for longest let go of it, a few at a time, so that no token pays for all.
/// </summary>
/// <param name="maxBytes">About what all of it may take.</param>
internal sealed class GrammarStore(long maxBytes)
{
    private const int StateBytes = 160, PlaceBytes = 16, FrameBytes = 80, ReturnBytes = 16;
    private const int Buckets = 4096;            // fixed: to grow a large table would cost one token milliseconds
    private const int MostSpared = 256;          // states in use that one call passes over

    private readonly GrammarState?[] _states = new GrammarState?[Buckets];
    private readonly Frame?[] _frames = new Frame?[Buckets];
    private readonly Queue<GrammarState> _holders = new();
    private long _heldBytes, _nameBytes;
    private int _frameCount;

    /// <summary>About what is kept.</summary>
    public long Bytes => _heldBytes + _nameBytes;

    /// <summary>States that can be found.</summary>
    public int Count { get; private set; }

    /// <summary>The one state with these places.</summary>
    public GrammarState StateOf(ReadOnlySpan<Place> places, bool isComplete)
    {
        HashCode hashing = new();
        hashing.Add(isComplete);
        foreach (Place place in places)
        {
            hashing.Add(place.State);
            hashing.Add(place.Frame.Id);
        }
        int hash = hashing.ToHashCode();
        ref GrammarState? first = ref _states[hash & (Buckets - 1)];
        for (GrammarState? state = first; state is not null; state = state.NextInBucket)
            if (state.Hash == hash && state.IsComplete == isComplete && state.Places.AsSpan().SequenceEqual(places)) return state;
        _nameBytes += StateBytes + PlaceBytes * places.Length;
        Count++;
        return first = new GrammarState(hash, places.ToArray(), isComplete) { NextInBucket = first };
    }

    /// <summary>The one frame with these returns.</summary>
    /// <param name="returns">Sorted, each once.</param>
    /// <param name="isNew">It was made now.</param>
    public Frame FrameOf(ReadOnlySpan<Return> returns, out bool isNew)
    {
        int hash = Frame.Hashed(returns);
        ref Frame? first = ref _frames[hash & (Buckets - 1)];
        isNew = false;
        for (Frame? frame = first; frame is not null; frame = frame.NextInBucket)
            if (frame.Hash == hash && frame.Returns.AsSpan().SequenceEqual(returns)) return frame;
        isNew = true;
        _nameBytes += FrameBytes + ReturnBytes * returns.Length;
        return first = new Frame(_frameCount++, hash, returns.ToArray()) { NextInBucket = first };
    }

    /// <summary>Counts memory that a state came to hold.</summary>
    public void Hold(GrammarState state, long bytes)
    {
        if (state.HeldBytes == 0) _holders.Enqueue(state);
        state.HeldBytes += bytes;
        state.IsUsed = true;
        _heldBytes += bytes;
    }

    /// <summary>Lets go of what passes the bound. States in use stay and find out anew.</summary>
    public void Trim()
    {
        // Names cannot go one by one, as rows of other states lead to them. The old ones go with those rows.
        if (_nameBytes > maxBytes / 4)
        {
            Array.Clear(_states);
            Array.Clear(_frames);
            _nameBytes = 0;
            Count = 0;
        }
        int spared = 0;
        while (_heldBytes > maxBytes / 4 * 3 && _holders.TryDequeue(out GrammarState? oldest))
        {
            if (oldest.IsUsed && spared++ < MostSpared)
            {
                oldest.IsUsed = false;
                _holders.Enqueue(oldest);
                continue;
            }
            _heldBytes -= oldest.HeldBytes;
            oldest.Forget();
        }
    }
}
