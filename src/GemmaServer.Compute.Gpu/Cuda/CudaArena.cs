namespace GemmaServer.Compute;

/// <summary>
/// Device memory in big chunks of the driver's, given out in pieces of 256 bytes: the driver is asked seldom, and its own rounding to
/// 2 MiB is paid once. A large request gets a chunk of its own, which goes back to the driver with it.
/// </summary>
/// <param name="chunkBytes">Size of a shared chunk; a request above a quarter of it is large. 0: every request is large.</param>
/// <param name="reserve">Asks the driver; 0 when it has no more.</param>
/// <param name="giveBack">Gives a chunk back.</param>
internal sealed class CudaArena(long chunkBytes, Func<long, nint> reserve, Action<nint> giveBack)
{
    public const int Alignment = 256;

    /// <summary>32 tensors of the driver's granularity; small beside any model's weights.</summary>
    public const long DefaultChunkBytes = 64L << 20;

    private readonly List<Chunk> _chunks = [];
    private readonly Dictionary<nint, (Chunk Chunk, long Bytes)> _given = [];

    /// <summary>Bytes given out.</summary>
    public long UsedBytes { get; private set; }

    /// <summary>Bytes taken from the driver.</summary>
    public long ReservedBytes { get; private set; }

    /// <summary>An address; 0 when the driver has no more.</summary>
    public nint Allocate(long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        if (bytes > chunkBytes / 4) return Give(NewChunk(bytes, isShared: false), bytes, bytes);
        long rounded = (bytes + Alignment - 1) / Alignment * Alignment;
        foreach (Chunk chunk in _chunks)
            if (chunk.IsShared && chunk.TryTake(rounded, out long offset)) return Give(chunk, rounded, rounded, offset);
        return Give(NewChunk(chunkBytes, isShared: true), rounded, rounded);
    }

    /// <summary>Takes an address back; one that was not given out, or was taken back already, is ignored.</summary>
    public void Free(nint address)
    {
        if (!_given.Remove(address, out (Chunk Chunk, long Bytes) piece)) return;
        UsedBytes -= piece.Bytes;
        piece.Chunk.Return(address - piece.Chunk.Address, piece.Bytes);
        // The last shared chunk stays: a tensor made and freed in turns would ask the driver each time.
        if (!piece.Chunk.IsEmpty || (piece.Chunk.IsShared && _chunks.Count(static c => c.IsShared) == 1)) return;
        _chunks.Remove(piece.Chunk);
        ReservedBytes -= piece.Chunk.Bytes;
        giveBack(piece.Chunk.Address);
    }

    /// <summary>Gives everything back.</summary>
    public void Clear()
    {
        foreach (Chunk chunk in _chunks) giveBack(chunk.Address);
        _chunks.Clear();
        _given.Clear();
        (UsedBytes, ReservedBytes) = (0, 0);
    }

    private nint Give(Chunk? chunk, long bytes, long rounded, long offset = -1)
    {
        if (chunk is null || (offset < 0 && !chunk.TryTake(rounded, out offset))) return 0;
        nint address = (nint)(chunk.Address + offset);
        _given.Add(address, (chunk, bytes));
        UsedBytes += bytes;
        return address;
    }

    private Chunk? NewChunk(long bytes, bool isShared)
    {
        nint address = reserve(bytes);
        if (address == 0) return null;
        Chunk chunk = new(address, bytes, isShared);
        _chunks.Add(chunk);
        ReservedBytes += bytes;
        return chunk;
    }

    /// <summary>A chunk and its free ranges, by offset.</summary>
    private sealed class Chunk(nint address, long bytes, bool isShared)
    {
        private readonly List<(long Offset, long Bytes)> _free = [(0, bytes)];

        public nint Address => address;

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
