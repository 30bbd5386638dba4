namespace GemmaServer.Compute;

/// <summary>Where a <see cref="MemoryArena"/> has its slabs from: one driver's calls.</summary>
internal interface IArenaMemory
{
    /// <summary>A new slab; 0 when the driver has no more.</summary>
    nint Take(long bytes);

    /// <summary>Gives a slab back; none of its pieces is used any more.</summary>
    void GiveBack(nint slab);

    /// <summary>What a kernel is given for a piece of a slab; another one for each piece.</summary>
    nint Open(nint slab, long offset, long bytes);

    /// <summary>Ends what <see cref="Open"/> made.</summary>
    void Close(nint piece);
}

/// <summary>
/// Device memory in big slabs of the driver's, given out in aligned pieces: the driver is asked seldom, and its own rounding is paid
/// once. A large request gets a slab of its own, which goes back to the driver with it.
/// </summary>
/// <param name="memory">The driver.</param>
/// <param name="slabBytes">Size of a shared slab; a request above a quarter of it is large. 0: every request is large.</param>
/// <param name="alignment">What every piece begins at a multiple of.</param>
internal sealed class MemoryArena(IArenaMemory memory, long slabBytes, int alignment = MemoryArena.LeastAlignment)
{
    /// <summary>What <see cref="GpuContext.Allocate"/> promises.</summary>
    public const int LeastAlignment = 256;

    /// <summary>32 times CUDA's granularity; small beside any model's weights.</summary>
    public const long DefaultSlabBytes = 64L << 20;

    private readonly List<Slab> _slabs = [];
    private readonly Dictionary<nint, (Slab Slab, long Offset, long Bytes)> _given = [];

    /// <summary>Bytes given out.</summary>
    public long UsedBytes { get; private set; }

    /// <summary>Bytes taken from the driver.</summary>
    public long ReservedBytes { get; private set; }

    /// <summary>A piece, as kernels take it; 0 when the driver has no more.</summary>
    public nint Allocate(long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        if (bytes > slabBytes / 4) return AllocateAlone(bytes);
        long rounded = (bytes + alignment - 1) / alignment * alignment;
        foreach (Slab slab in _slabs)
            if (slab.IsShared && slab.TryTake(rounded, out long offset)) return Give(slab, offset, rounded);
        // Where a whole slab is not left, what is asked for may be.
        return NewSlab(slabBytes, isShared: true) is { } added && added.TryTake(rounded, out long first) ? Give(added, first, rounded) : AllocateAlone(bytes);
    }

    /// <summary>Takes a piece back; one that was not given out, or was taken back already, is ignored.</summary>
    public void Free(nint piece)
    {
        if (!_given.Remove(piece, out (Slab Slab, long Offset, long Bytes) given)) return;
        UsedBytes -= given.Bytes;
        Slab slab = given.Slab;
        if (slab.IsShared) memory.Close(piece);
        slab.Return(given.Offset, given.Bytes);
        // The last shared slab stays: a tensor made and freed in turns would ask the driver each time.
        if (!slab.IsEmpty || (slab.IsShared && _slabs.Count(static s => s.IsShared) == 1)) return;
        _slabs.Remove(slab);
        ReservedBytes -= slab.Bytes;
        memory.GiveBack(slab.Handle);
    }

    /// <summary>Gives everything back.</summary>
    public void Clear()
    {
        foreach ((nint piece, (Slab slab, _, _)) in _given)
            if (slab.IsShared) memory.Close(piece);
        foreach (Slab slab in _slabs) memory.GiveBack(slab.Handle);
        _slabs.Clear();
        _given.Clear();
        (UsedBytes, ReservedBytes) = (0, 0);
    }

    /// <summary>A slab is its own only piece: nothing is cut from it.</summary>
    private nint AllocateAlone(long bytes)
    {
        if (NewSlab(bytes, isShared: false) is not { } slab) return 0;
        slab.TryTake(bytes, out _);
        _given.Add(slab.Handle, (slab, 0, bytes));
        UsedBytes += bytes;
        return slab.Handle;
    }

    private nint Give(Slab slab, long offset, long bytes)
    {
        nint piece = memory.Open(slab.Handle, offset, bytes);
        _given.Add(piece, (slab, offset, bytes));
        UsedBytes += bytes;
        return piece;
    }

    private Slab? NewSlab(long bytes, bool isShared)
    {
        nint handle = memory.Take(bytes);
        if (handle == 0) return null;
        Slab slab = new(handle, bytes, isShared);
        _slabs.Add(slab);
        ReservedBytes += bytes;
        return slab;
    }

    /// <summary>A slab and its free ranges, by offset.</summary>
    private sealed class Slab(nint handle, long bytes, bool isShared)
    {
        private readonly List<(long Offset, long Bytes)> _free = [(0, bytes)];

        public nint Handle => handle;

        public long Bytes => bytes;

        public bool IsShared => isShared;

        public bool IsEmpty => _free.Count == 1 && _free[0].Bytes == bytes;

        public bool TryTake(long count, out long offset)
        {
            for (int i = 0; i < _free.Count; i++)
            {
                (offset, long length) = _free[i];
                if (length < count) continue;
                if (length == count) _free.RemoveAt(i);
                else _free[i] = (offset + count, length - count);
                return true;
            }
            offset = 0;
            return false;
        }

        public void Return(long offset, long count)
        {
            int at = 0;
            while (at < _free.Count && _free[at].Offset < offset) at++;
            _free.Insert(at, (offset, count));
            if (at + 1 < _free.Count && offset + count == _free[at + 1].Offset) Join(at);
            if (at > 0 && _free[at - 1].Offset + _free[at - 1].Bytes == offset) Join(at - 1);
        }

        private void Join(int at)
        {
            _free[at] = (_free[at].Offset, _free[at].Bytes + _free[at + 1].Bytes);
            _free.RemoveAt(at + 1);
        }
    }
}
