using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>When AMX kernels may run, on made-up machines.</summary>
public sealed class AmxSupportTests
{
    private const int Eax = 0, Ebx = 1, Ecx = 2, Edx = 3;

    private readonly Dictionary<(int Leaf, int Sub), int[]> _cpuId = new()
    {
        // As a Xeon 8480 says.
        [(0, 0)] = [0x20, 0, 0, 0],
        [(1, 0)] = [0, 0, 1 << 27, 0],
        [(7, 0)] = [0, 0, 0, 1 << 22 | 1 << 24 | 1 << 25],
        [(0x1D, 0)] = [1, 0, 0, 0],
        [(0x1D, 1)] = [0x0400_2000, 0x0008_0040, 0x10, 0],
        [(0x1E, 0)] = [0, 0x4010, 0, 0],
    };

    private ulong _xcr0 = 0x602E7;
    private bool _isLinux = true, _hasWideVectors = true;
    private int _error, _requests;

    [Fact]
    public void A_machine_that_has_everything_is_asked_once_and_used()
    {
        Assert.Null(Missing());
        Assert.Equal(1, _requests);
    }

    [Theory]
    [InlineData(0, 0, Eax, 0x16, "the processor has none")]                       // no leaves about tiles
    [InlineData(7, 0, Edx, 1 << 22 | 1 << 25, "the processor has none")]          // bytes without tiles
    [InlineData(7, 0, Edx, 1 << 22 | 1 << 24, "the processor has none")]          // tiles of bfloat16 alone
    [InlineData(1, 0, Ecx, 0, "the system does not save tile registers")]         // no XGETBV
    [InlineData(0x1D, 0, Eax, 0, "the processor's tiles have another size")]
    [InlineData(0x1D, 1, Eax, 0x0200_2000, "the processor's tiles have another size")]
    [InlineData(0x1D, 1, Eax, 0x0400_1000, "the processor's tiles have another size")]
    [InlineData(0x1D, 1, Ebx, 0x0004_0040, "the processor's tiles have another size")]
    [InlineData(0x1D, 1, Ebx, 0x0008_0020, "the processor's tiles have another size")]
    [InlineData(0x1D, 1, Ecx, 8, "the processor's tiles have another size")]
    [InlineData(0x1E, 0, Ebx, 0x4004, "the processor's tiles have another size")]
    [InlineData(0x1E, 0, Ebx, 0x2010, "the processor's tiles have another size")]
    public void A_processor_that_lacks_something_is_not_used_nor_the_system_asked(int leaf, int sub, int register, int value, string reason)
    {
        _cpuId[(leaf, sub)][register] = value;
        Assert.Equal(reason, Missing());
        Assert.Equal(0, _requests);
    }

    [Theory]
    [InlineData(0x602E7 & ~(1ul << 17))]
    [InlineData(0x602E7 & ~(1ul << 18))]
    [InlineData(0x602E7 & ~(1ul << 6))]
    [InlineData(0x7ul)]
    public void A_system_that_does_not_save_the_registers_is_not_asked(ulong xcr0)
    {
        _xcr0 = xcr0;
        Assert.Equal("the system does not save tile registers", Missing());
        Assert.Equal(0, _requests);
    }

    [Fact]
    public void A_refusal_of_the_system_counts()
    {
        _error = 95;
        Assert.Equal("the system refuses tile registers (error 95)", Missing());
    }

    [Fact]
    public void Other_systems_and_runtimes_without_wide_vectors_do_without()
    {
        _hasWideVectors = false;
        Assert.Equal("the runtime does not use AVX-512", Missing());
        _isLinux = false;
        Assert.Equal("it is used on 64-bit x86 Linux only", Missing());
        Assert.Equal(0, _requests);
    }

    [Fact]
    public void Few_rows_and_machines_without_tiles_take_the_other_kernels()
    {
        TileKind other = AssembledTiles.IsSupported ? TileKind.Vnni : TileKind.Portable;
        Assert.Equal(other, TileKinds.For(AmxTiles.FewestInputs - 1, hasAmx: true));
        Assert.Equal(other, TileKinds.For(512, hasAmx: false));
        Assert.Equal(TileKind.Amx, TileKinds.For(AmxTiles.FewestInputs, hasAmx: true));
    }

    /// <summary>Whatever this machine is, it answers; and the device's name says the answer.</summary>
    [Fact]
    public void The_device_names_the_kernels_that_it_uses()
    {
        using CpuDevice device = new(1, ActivationType.Int8), without = new(1, ActivationType.Int8, amx: false), exact = new(1, ActivationType.F32);
        Assert.Equal(AmxSupport.IsUsable, device.Name.Contains(", AMX,", StringComparison.Ordinal));
        Assert.Equal(AmxSupport.IsInProcessor && !AmxSupport.IsUsable, device.Remark is not null);
        Assert.DoesNotContain("AMX", without.Name);
        Assert.Equal(AssembledTiles.IsSupported, without.Name.Contains("512-bit VNNI", StringComparison.Ordinal));
        Assert.Null(without.Remark);
        Assert.DoesNotContain("VNNI", exact.Name);
    }

    /// <summary>The runtime turns faults into exceptions on this stack, and frees it with the thread.</summary>
    [Fact]
    public void A_wider_signal_stack_serves_null_references()
    {
        if (!OperatingSystem.IsLinux()) return;
        (long before, long after, bool caught) = (0, 0, false);
        for (int i = 0; i < 3; i++)
        {
            Thread thread = new(() =>
            {
                before = SignalStack.Size();
                SignalStack.Widen();
                SignalStack.Widen();
                after = SignalStack.Size();
                try
                {
                    string? nothing = Environment.GetEnvironmentVariable("no such variable");
                    _ = nothing!.Length;
                }
                catch (NullReferenceException)
                {
                    caught = true;
                }
            });
            thread.Start();
            thread.Join();
            Assert.True(before < SignalStack.Bytes);
            Assert.Equal(SignalStack.Bytes, after);
            Assert.True(caught);
        }
    }

    private string? Missing() => AmxSupport.Missing(new AmxMachine(_isLinux, _hasWideVectors, CpuId, () => _xcr0, () =>
    {
        _requests++;
        return _error;
    }));

    private (int, int, int, int) CpuId(int leaf, int sub) => _cpuId.TryGetValue((leaf, sub), out int[]? r) ? (r[Eax], r[Ebx], r[Ecx], r[Edx]) : default;
}
