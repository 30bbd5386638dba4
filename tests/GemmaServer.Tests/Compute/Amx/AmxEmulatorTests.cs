using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace GemmaServer.Tests;

/// <summary>The emulator against cases worked out by hand: kernels are only as right as it is.</summary>
public sealed unsafe class AmxEmulatorTests
{
    /// <summary>Two rows of four bytes times one row of eight: <c>[1 2 −3 4; −128 127 0 −1] · [[5 6 7 8], [−128 127 −1 1]]ᵀ</c>.</summary>
    [Fact]
    public void A_product_of_signed_bytes_is_added_to_the_sums()
    {
        byte[] memory = GC.AllocateArray<byte>(64 + 8 + 8 + 16, pinned: true);
        Configure(memory, (0, 2, 8), (1, 2, 4), (2, 1, 8));
        sbyte[] left = [1, 2, -3, 4, -128, 127, 0, -1], right = [5, 6, 7, 8, -128, 127, -1, 1];
        left.CopyTo((sbyte[])(object)memory, 64);
        right.CopyTo((sbyte[])(object)memory, 72);
        Run(memory, static a =>
        {
            Load(a, tmm1, 64, 4);
            Load(a, tmm2, 72, 8);
            a.tdpbssd(tmm0, tmm1, tmm2);
            a.tdpbssd(tmm0, tmm1, tmm2);
            a.mov(rax, 8);
            a.tilestored(__[rdi + rax * 1 + 80], tmm0);
        });
        fixed (byte* m = memory)
        {
            int* sums = (int*)(m + 80);
            Assert.Equal([2 * 28, 2 * (-128 + 254 + 3 + 4), 2 * (-640 + 762 - 8), 2 * (16384 + 16129 - 1)], new[] { sums[0], sums[1], sums[2], sums[3] });
        }
    }

    public static TheoryData<string, int> Mistakes => new()
    {
        { "#UD: tiles are not configured", 0 }, { "#UD: TMM3 is not configured", 1 }, { "#UD: no instruction", 2 },
        { "#UD: sums have 2 rows, the left side 3", 3 }, { "#UD: the left side is 8 bytes wide, the right side 1 rows deep", 4 },
        { "#UD: sums are 12 bytes wide, the right side 8", 5 }, { "#GP: tile 5 is too big", 6 }, { "#GP: tile 5 has rows without bytes", 7 },
        { "#GP: reserved bytes are set", 8 }, { "#PF: reads 4 bytes", 9 }, { "#GP: there is no palette 2", 10 },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void What_a_processor_refuses_is_a_fault(string message, int mistake)
    {
        byte[] memory = GC.AllocateArray<byte>(128, pinned: true);
        (int, int, int) sums = mistake == 5 ? (0, 2, 12) : (0, 2, 8), left = mistake switch { 3 => (1, 3, 4), 4 => (1, 2, 8), _ => (1, 2, 4) };
        Configure(memory, sums, left, (2, 1, 8), mistake switch { 6 => (5, 17, 4), 7 => (5, 4, 0), _ => (5, 4, 4) });
        if (mistake == 8) memory[60] = 1;
        if (mistake == 10) memory[0] = 2;
        EmulatedFaultException fault = Assert.Throws<EmulatedFaultException>(() => Run(memory, a =>
        {
            if (mistake == 0) a.tilerelease();
            if (mistake == 1) a.tilezero(tmm3);
            if (mistake == 9) Load(a, tmm1, 122, 4);
            // One tile as two operands: the decoder knows.
            else if (mistake == 2) a.tdpbssd(tmm0, tmm1, tmm1);
            else a.tdpbssd(tmm0, tmm1, tmm2);
        }));
        Assert.StartsWith(message, fault.Message);
    }

    [Fact]
    public void Tile_state_that_stays_behind_is_noticed()
    {
        byte[] memory = GC.AllocateArray<byte>(64, pinned: true);
        Configure(memory, (0, 1, 4));
        Assert.ThrowsAny<Xunit.Sdk.XunitException>(() => Run(memory, static _ => { }, release: false));
    }

    private static void Load(Assembler a, AssemblerRegisterTMM tile, int at, int stride)
    {
        a.mov(rax, (long)stride);
        a.tileloadd(tile, __[rdi + rax * 1 + at]);
    }

    private static void Configure(byte[] memory, params ReadOnlySpan<(int Tile, int Rows, int RowBytes)> tiles)
    {
        memory[0] = 1;
        foreach ((int tile, int rows, int bytes) in tiles) (memory[48 + tile], memory[16 + 2 * tile]) = ((byte)rows, (byte)bytes);
    }

    /// <summary>Code between the configuration at the memory's beginning and the tiles' release; rdi is the memory.</summary>
    private static void Run(byte[] memory, Action<Assembler> write, bool release = true)
    {
        Assembler a = new(64);
        a.ldtilecfg(__[rdi]);
        write(a);
        if (release) a.tilerelease();
        a.ret();
        using AmxEmulator emulator = new(a);
        fixed (byte* m = memory)
        {
            emulator.Allow(m, memory.Length, writable: true);
            emulator.Call(m);
        }
    }
}
