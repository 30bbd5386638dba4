namespace GemmaServer.Compute;

/// <summary>Slabs are memory objects; a piece is a sub-buffer of one.</summary>
/// <remarks>The driver keeps an object until what was queued with it has run, so nothing here waits.</remarks>
internal sealed unsafe class OpenClMemory(OpenClContext gpu, nint context) : IArenaMemory
{
    public nint Take(long bytes)
    {
        int error;
        nint slab = OpenClApi.clCreateBuffer(context, OpenClApi.MemReadWrite, (nuint)bytes, null, &error);
        if (OpenClApi.IsOutOfMemory(error)) return 0;
        gpu.Check(error, "take memory of");
        return slab;
    }

    public void GiveBack(nint slab) => _ = OpenClApi.clReleaseMemObject(slab);

    public nint Open(nint slab, long offset, long bytes)
    {
        (nuint Origin, nuint Bytes) region = ((nuint)offset, (nuint)bytes);
        int error;
        nint piece = OpenClApi.clCreateSubBuffer(slab, OpenClApi.MemReadWrite, OpenClApi.BufferCreateTypeRegion, &region, &error);
        gpu.Check(error, "cut memory of");
        return piece;
    }

    public void Close(nint piece) => _ = OpenClApi.clReleaseMemObject(piece);
}
