namespace GemmaServer.Compute;

/// <summary>
/// The way of weights from a file's mapping to the device: through two pieces of pinned memory in turns, so that one is filled while
/// the other is on its way. Pinned pieces and not the mapping itself, because the driver would have to pin the whole file.
/// </summary>
internal sealed unsafe class CudaStaging(CudaContext gpu) : IDisposable
{
    /// <summary>Long enough that PCIe is busy and not the call, short enough to stay small beside a model.</summary>
    private const long PieceBytes = 16 << 20;

    /// <summary>One thread copies slower than PCIe does.</summary>
    private const int Copiers = 4;

    private readonly PinnedBuffer?[] _pieces = new PinnedBuffer?[2];
    private readonly nint[] _sent = new nint[2];
    private long _at;
    private int _turn;

    /// <summary>Queues a copy; the source has been read when this returns.</summary>
    public void Send(nint to, byte* from, long bytes)
    {
        while (bytes > 0)
        {
            PinnedBuffer piece = Piece();
            long count = Math.Min(bytes, piece.Bytes - _at);
            Copy(from, piece.Pointer + _at, count);
            gpu.Check(CudaApi.cuMemcpyHtoDAsync_v2(to, piece.Pointer + _at, (nuint)count, gpu.Stream), "copy to");
            to += (nint)count;
            from += count;
            bytes -= count;
            // Small uploads share a piece.
            _at = (_at + count + 63) / 64 * 64;
            if (_at >= piece.Bytes) Turn();
        }
    }

    public void Dispose()
    {
        foreach (PinnedBuffer? piece in _pieces) piece?.Dispose();
        foreach (nint mark in _sent)
            if (mark != 0) _ = CudaApi.cuEventDestroy_v2(mark);
    }

    private PinnedBuffer Piece()
    {
        if (_pieces[_turn] is PinnedBuffer piece) return piece;
        nint mark;
        gpu.Check(CudaApi.cuEventCreate(&mark, CudaApi.EventDisableTiming), "make an event of");
        _sent[_turn] = mark;
        return _pieces[_turn] = gpu.AllocatePinned(PieceBytes);
    }

    private void Turn()
    {
        gpu.Check(CudaApi.cuEventRecord(_sent[_turn], gpu.Stream), "mark the queue of");
        (_turn, _at) = (_turn ^ 1, 0);
        if (_sent[_turn] != 0) gpu.Check(CudaApi.cuEventSynchronize(_sent[_turn]), "copy to");
    }

    private static void Copy(byte* from, byte* to, long bytes)
    {
        if (bytes < PieceBytes / Copiers)
        {
            Buffer.MemoryCopy(from, to, bytes, bytes);
            return;
        }
        Parallel.For(0, Copiers, part =>
        {
            long start = bytes * part / Copiers, end = bytes * (part + 1) / Copiers;
            Buffer.MemoryCopy(from + start, to + start, end - start, end - start);
        });
    }
}
