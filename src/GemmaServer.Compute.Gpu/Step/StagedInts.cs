namespace GemmaServer.Compute;

/// <summary>
/// Whole numbers that change with each step: written into pinned memory and copied to one fixed place on the device. Two host
/// copies take turns, because a step may still be copying when the next one is written; not three, because the one before that
/// was collected.
/// </summary>
internal sealed class StagedInts(GpuContext gpu, int capacity) : IDisposable
{
    private readonly PinnedBuffer[] _host = [gpu.AllocatePinned((long)capacity * sizeof(int)), gpu.AllocatePinned((long)capacity * sizeof(int))];
    private int _turn;

    public int Capacity => capacity;

    /// <summary>On the device; its address never changes.</summary>
    public GpuBuffer Buffer { get; } = gpu.Allocate((long)capacity * sizeof(int), "step inputs");

    /// <summary>Where the next step is written: what was there is of the step before last.</summary>
    public Span<int> Next()
    {
        _turn ^= 1;
        return _host[_turn].Span<int>();
    }

    /// <summary>Queues the copy of the first <paramref name="count"/>.</summary>
    public void Send(int count)
    {
        if (count > 0) gpu.Write(Buffer, 0, _host[_turn], 0, (long)count * sizeof(int));
    }

    public void Dispose()
    {
        gpu.Free(Buffer);
        foreach (PinnedBuffer host in _host) host.Dispose();
    }
}
