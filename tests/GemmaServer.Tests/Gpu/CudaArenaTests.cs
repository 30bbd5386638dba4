using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>Device memory in pieces, over a driver that hands out numbers.</summary>
public sealed class CudaArenaTests
{
    private const long Chunk = 1 << 20;

    private readonly Dictionary<nint, long> _chunks = [];
    private nint _next = 1 << 20;
    private long _left = 16 * Chunk;

    [Fact]
    public void Small_pieces_share_a_chunk_and_large_ones_have_their_own()
    {
        CudaArena arena = Arena();
        nint a = arena.Allocate(1), b = arena.Allocate(257), c = arena.Allocate(Chunk / 4 + 1);
        Assert.Equal(2, _chunks.Count);
        Assert.Equal(CudaArena.Alignment, b - a);
        Assert.Contains(c, _chunks.Keys);
        Assert.Equal(256 + 512 + Chunk / 4 + 1, arena.UsedBytes);
        Assert.Equal(Chunk + Chunk / 4 + 1, arena.ReservedBytes);
        arena.Free(c);
        Assert.Single(_chunks);
        arena.Clear();
        Assert.Empty(_chunks);
    }

    [Fact]
    public void Freed_neighbours_join()
    {
        CudaArena arena = Arena();
        nint[] pieces = [.. Enumerable.Range(0, 8).Select(_ => arena.Allocate(Chunk / 8))];
        foreach (int i in (int[])[1, 3, 2]) arena.Free(pieces[i]);
        // Three eighths in a row, and only if they were joined.
        Assert.Equal(pieces[1], arena.Allocate(Chunk / 4));
        Assert.Single(_chunks);
    }

    [Fact]
    public void Pieces_never_overlap_whatever_the_order()
    {
        CudaArena arena = Arena();
        Random random = new(5);
        Dictionary<nint, long> held = [];
        for (int turn = 0; turn < 5000; turn++)
        {
            if (held.Count > 0 && random.Next(5) < 2)
            {
                nint gone = held.Keys.ElementAt(random.Next(held.Count));
                arena.Free(gone);
                held.Remove(gone);
                continue;
            }
            long bytes = random.Next(1, random.Next(8) == 0 ? (int)Chunk : 40000);
            nint address = arena.Allocate(bytes);
            if (address == 0) continue;
            Assert.Equal(0, address % CudaArena.Alignment);
            Assert.DoesNotContain(held, h => address < h.Key + h.Value && h.Key < address + bytes);
            Assert.Contains(_chunks, c => c.Key <= address && address + bytes <= c.Key + c.Value);
            held.Add(address, bytes);
        }
        foreach (nint address in held.Keys) arena.Free(address);
        Assert.Equal(0, arena.UsedBytes);
        Assert.True(_chunks.Count <= 1);
    }

    [Fact]
    public void A_driver_without_memory_gives_none_and_what_was_freed_is_given_again()
    {
        CudaArena arena = Arena();
        nint large = arena.Allocate(15 * Chunk);
        Assert.Equal(0, arena.Allocate(2 * Chunk));
        arena.Free(large);
        arena.Free(large);
        Assert.NotEqual(0, arena.Allocate(2 * Chunk));
        Assert.Equal(2 * Chunk, arena.UsedBytes);
    }

    private CudaArena Arena() => new(
        Chunk,
        bytes =>
        {
            if (bytes > _left) return 0;
            _left -= bytes;
            nint address = _next;
            _next += (nint)((bytes + 4095) / 4096 * 4096);
            _chunks.Add(address, bytes);
            return address;
        },
        address =>
        {
            _left += _chunks[address];
            _chunks.Remove(address);
        });
}
