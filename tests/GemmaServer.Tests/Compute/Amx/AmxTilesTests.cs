using GemmaServer.Compute;
using Iced.Intel;

namespace GemmaServer.Tests;

/// <summary>The AMX kernels in the emulator: machines that have AMX are rare.</summary>
public sealed unsafe class AmxTilesTests
{
    public static TheoryData<TensorType> QuantisedTypes => TestWeight.QuantisedTypes;

    /// <summary>Tiles of every size; one, two and more blocks, since the kernel looks ahead; from the start and going on.</summary>
    [Theory]
    [MemberData(nameof(QuantisedTypes))]
    public void Kernels_of_every_size_equal_the_portable_one_bit_for_bit(TensorType type)
    {
        PanelFormat format = PanelFormat.Of(type)!;
        for (int rows = 1; rows <= AmxTiles.MostRows; rows++)
        {
            using AmxEmulator emulator = new(AmxTiles.Assemble(rows, format.Unit, format.HasOffset));
            TileProblem problem = new(type, rows, tiles: rows % 3 + 1);
            foreach ((int first, int count) in new[] { (0, 1), (1, 2), (3, 5) })
            {
                problem.RunPortable(first, count);
                problem.Run(first, count, emulator);
            }
            problem.AssertEqual();
        }
    }

    [Fact]
    public void A_lone_panel_is_computed_once_for_both_places()
    {
        PanelFormat format = PanelFormat.Of(TensorType.Q6_K)!;
        using AmxEmulator emulator = new(AmxTiles.Assemble(9, format.Unit, format.HasOffset));
        TileProblem problem = new(TensorType.Q6_K, 9, tiles: 2, lonePanel: true);
        foreach ((int first, int count) in new[] { (0, 2), (2, 6) })
        {
            problem.RunPortable(first, count);
            problem.Run(first, count, emulator);
        }
        problem.AssertEqual();
    }

    /// <summary>The tiles are used as the estimate of their cost assumes, and configured once for all tiles of a call.</summary>
    [Theory]
    [InlineData(TensorType.Q4_0, 1)]
    [InlineData(TensorType.Q6_K, 2)]
    public void A_step_takes_two_products_and_three_loads(TensorType type, int stepsInBlock)
    {
        PanelFormat format = PanelFormat.Of(type)!;
        using AmxEmulator emulator = new(AmxTiles.Assemble(12, format.Unit, format.HasOffset));
        new TileProblem(type, 12, tiles: 3).Run(0, 8, emulator);
        int steps = 3 * 8 * stepsInBlock;
        Assert.Equal(1, emulator.Counts[Mnemonic.Ldtilecfg]);
        Assert.Equal(1, emulator.Counts[Mnemonic.Tilerelease]);
        Assert.Equal(2 * steps, emulator.Counts[Mnemonic.Tdpbssd]);
        Assert.Equal(3 * steps, emulator.Counts[Mnemonic.Tileloadd]);
        Assert.Equal(2 * steps, emulator.Counts[Mnemonic.Tilestored]);
    }

    [Fact]
    public void The_self_check_passes_a_true_machine() => Assert.Null(AmxSelfCheck.Run(RunEmulated));

    [Theory]
    [InlineData(TensorType.Q4_0, 1)]
    [InlineData(TensorType.Q2_K, 12)]
    public void The_self_check_finds_one_wrong_bit(TensorType type, int wrongRows)
    {
        string? reason = AmxSelfCheck.Run((format, rows, arguments) =>
        {
            RunEmulated(format, rows, arguments);
            if (format.Type == type && rows == wrongRows && arguments->GoOn != 0) *(int*)(arguments->Y1 + 16 * rows - 1) ^= 1;
        });
        Assert.Contains($"({type}, {wrongRows} rows)", reason);
    }

    /// <summary>So the comparison sees what every single instruction does.</summary>
    [Theory]
    [InlineData(TensorType.Q4_0)]
    [InlineData(TensorType.Q4_K)]
    [InlineData(TensorType.Q6_K)]
    [InlineData(TensorType.Q2_K)]
    public void No_instruction_can_be_left_out(TensorType type)
    {
        const int rows = 3;
        PanelFormat format = PanelFormat.Of(type)!;
        Assembler code = AmxTiles.Assemble(rows, format.Unit, format.HasOffset);
        TileProblem problem = new(type, rows, tiles: 2);
        problem.RunPortable(0, 4);
        problem.RunPortable(4, 3);
        using AmxEmulator whole = new(code);
        List<Instruction> listing = whole.Listing();
        Assert.True(Passes(whole));
        for (int i = 0; i < listing.Count; i++)
        {
            // Alignment changes speed alone.
            if (listing[i].Mnemonic is Mnemonic.Nop or Mnemonic.And) continue;
            using AmxEmulator emulator = new(code);
            emulator.LeaveOut(emulator.Listing()[i]);
            Assert.False(Passes(emulator), $"Instruction {i} makes no difference: {listing[i]}");
        }

        bool Passes(AmxEmulator emulator)
        {
            problem.Reset();
            try
            {
                problem.Run(0, 4, emulator);
                problem.Run(4, 3, emulator);
                return problem.IsEqual;
            }
            catch (Exception e) when (e is EmulatedFaultException or Xunit.Sdk.XunitException)
            {
                return false;
            }
        }
    }

    private static void RunEmulated(PanelFormat format, int rows, TileArguments* arguments)
    {
        using AmxEmulator emulator = new(AmxTiles.Assemble(rows, format.Unit, format.HasOffset));
        emulator.AllowEverything();
        emulator.Call(arguments);
    }
}
