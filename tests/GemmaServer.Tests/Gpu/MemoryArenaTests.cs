using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>Device memory in pieces, over a driver that hands out numbers, and over OpenCL's.</summary>
public sealed unsafe class MemoryArenaTests
{
    private const long Slab = 1 << 20;
    private const int Alignment = 512;

    private readonly CountingMemory _memory = new();

    [Fact]
    public void Small_pieces_share_a_slab_and_large_ones_have_their_own()
    {
        MemoryArena arena = Arena();
        nint a = arena.Allocate(1), b = arena.Allocate(513), c = arena.Allocate(Slab / 4 + 1);
        Assert.Equal(2, _memory.Slabs.Count);
        Assert.Equal(Alignment, b - a);
        // Nothing is cut from a large one's slab.
        Assert.Contains(c, _memory.Slabs.Keys);
        Assert.DoesNotContain(c, _memory.Pieces.Keys);
        Assert.Equal(512 + 1024 + Slab / 4 + 1, arena.UsedBytes);
        Assert.Equal(Slab + Slab / 4 + 1, arena.ReservedBytes);
        arena.Free(c);
        Assert.Single(_memory.Slabs);
        arena.Clear();
        Assert.Empty(_memory.Slabs);
        Assert.Empty(_memory.Pieces);
    }

    [Fact]
    public void Freed_neighbours_join()
    {
        MemoryArena arena = Arena();
        nint[] pieces = [.. Enumerable.Range(0, 8).Select(_ => arena.Allocate(Slab / 8))];
        foreach (int i in (int[])[1, 3, 2]) arena.Free(pieces[i]);
        // Three eighths in a row, and only if they were joined.
        Assert.Equal(pieces[1], arena.Allocate(Slab / 4));
        Assert.Single(_memory.Slabs);
    }

    [Fact]
    public void Pieces_never_overlap_whatever_the_order()
    {
        MemoryArena arena = Arena();
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
            long bytes = random.Next(1, random.Next(8) == 0 ? (int)Slab : 40000);
            nint address = arena.Allocate(bytes);
            if (address == 0) continue;
            Assert.Equal(0, address % Alignment);
            Assert.DoesNotContain(held, h => address < h.Key + h.Value && h.Key < address + bytes);
            Assert.Contains(_memory.Slabs, c => c.Key <= address && address + bytes <= c.Key + c.Value);
            held.Add(address, bytes);
        }
        foreach (nint address in held.Keys) arena.Free(address);
        Assert.Equal(0, arena.UsedBytes);
        Assert.True(_memory.Slabs.Count <= 1);
        Assert.Empty(_memory.Pieces);
    }

    [Fact]
    public void A_driver_without_memory_gives_none_and_what_was_freed_is_given_again()
    {
        MemoryArena arena = Arena();
        nint large = arena.Allocate(15 * Slab);
        Assert.Equal(0, arena.Allocate(2 * Slab));
        arena.Free(large);
        arena.Free(large);
        Assert.NotEqual(0, arena.Allocate(2 * Slab));
        Assert.Equal(2 * Slab, arena.UsedBytes);
    }

    [Fact]
    public void Where_no_slab_is_left_a_small_request_gets_what_it_needs()
    {
        MemoryArena arena = Arena();
        _memory.Left = Slab / 2;
        nint small = arena.Allocate(5000);
        Assert.Equal(5000, _memory.Slabs[small]);
        Assert.Equal(Slab / 2 - 5000, _memory.Left);
        arena.Free(small);
        Assert.Equal(Slab / 2, _memory.Left);
    }

    /// <summary>Sub-buffers side by side: uploads, fills, kernels and downloads of one leave its neighbours alone.</summary>
    [OpenClTheory]
    [InlineData(MemoryArena.DefaultSlabBytes)]
    [InlineData(1 << 16)]
    [InlineData(0)]
    public void Pieces_of_a_device_are_apart(long slabBytes)
    {
        const int Pieces = 40, Ints = 1000;
        using OpenClContext gpu = new(0, slabBytes: slabBytes);
        GpuKernel add = gpu.Kernel(KernelSource.FromText("add.cl", "KERNEL(64) add(GLOBAL int* x, GLOBAL const int* y, const int n) { const int i = GROUP_X * 64 + LANE; if (i < n) x[i] += y[i]; }"), "add");
        GpuBuffer[] buffers = new GpuBuffer[Pieces];
        int[] values = new int[Ints];
        for (int i = 0; i < Pieces; i++)
        {
            buffers[i] = gpu.Allocate(Ints * sizeof(int), "a test");
            Send(i, i);
        }
        // Every third is given back and taken again, which makes it another's place.
        for (int i = 0; i < Pieces; i += 3) gpu.Free(buffers[i]);
        for (int i = Pieces - 1; i >= 0; i--)
        {
            if (i % 3 != 0) continue;
            buffers[i] = gpu.Allocate(Ints * sizeof(int), "a test");
            gpu.Clear(buffers[i], buffers[i].Bytes);
            add.Begin().Add(buffers[i]).Add(buffers[1]).Add(Ints).Run(64, (Ints + 63) / 64);
        }
        Assert.Equal(Pieces, buffers.Distinct().Count());
        for (int i = 0; i < Pieces; i++)
        {
            fixed (int* p = values) gpu.Download(p, buffers[i], 0, Ints * sizeof(int));
            Assert.All(values, v => Assert.Equal(i % 3 == 0 ? 1 : i, v));
            fixed (int* p = values) gpu.Download(p, buffers[i], 400, 8);
            Assert.Equal(i % 3 == 0 ? 1 : i, values[1]);
        }
        Assert.InRange(gpu.UsedBytes, Pieces * Ints * sizeof(int), Pieces * 4096);
        foreach (GpuBuffer buffer in buffers) gpu.Free(buffer);
        Assert.Equal(0, gpu.UsedBytes);

        void Send(int i, int value)
        {
            Array.Fill(values, value);
            fixed (int* p = values) gpu.Upload(buffers[i], 0, p, Ints * sizeof(int));
        }
    }

    [OpenClFact]
    public void A_buffer_larger_than_the_device_gives_is_named()
    {
        using OpenClContext gpu = new(0);
        GpuException e = Assert.Throws<GpuException>(() => gpu.Allocate(gpu.Info.LargestBuffer + 1, "the table"));
        Assert.Contains("the table", e.Message);
        Assert.Contains($"{gpu.Info.LargestBuffer} bytes", e.Message);
        Assert.Equal(0, gpu.UsedBytes);
    }

    private MemoryArena Arena() => new(_memory, Slab, Alignment);

    /// <summary>Addresses that nothing stands behind.</summary>
    private sealed class CountingMemory : IArenaMemory
    {
        private nint _next = 1 << 20;

        public long Left { get; set; } = 16 * Slab;

        public Dictionary<nint, long> Slabs { get; } = [];

        public Dictionary<nint, long> Pieces { get; } = [];

        public nint Take(long bytes)
        {
            if (bytes > Left) return 0;
            Left -= bytes;
            nint address = _next;
            _next += (nint)((bytes + 4095) / 4096 * 4096);
            Slabs.Add(address, bytes);
            return address;
        }

        public void GiveBack(nint slab)
        {
            Left += Slabs[slab];
            Slabs.Remove(slab);
        }

        public nint Open(nint slab, long offset, long bytes)
        {
            Pieces.Add((nint)(slab + offset), bytes);
            return (nint)(slab + offset);
        }

        public void Close(nint piece) => Assert.True(Pieces.Remove(piece));
    }
}
