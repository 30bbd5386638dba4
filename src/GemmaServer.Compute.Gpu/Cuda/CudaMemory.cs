namespace GemmaServer.Compute;

/// <summary>Slabs of <c>cuMemAlloc</c>; a piece is an address in one.</summary>
internal sealed unsafe class CudaMemory(CudaContext gpu) : IArenaMemory
{
    public nint Take(long bytes)
    {
        nint address;
        int error = CudaApi.cuMemAlloc_v2(&address, (nuint)bytes);
        if (error == CudaApi.OutOfMemory) return 0;
        gpu.Check(error, "take memory of");
        return address;
    }

    // What still uses it was queued before, and this waits for it.
    public void GiveBack(nint slab) => _ = CudaApi.cuMemFree_v2(slab);

    public nint Open(nint slab, long offset, long bytes) => (nint)(slab + offset);

    public void Close(nint piece)
    {
    }
}
