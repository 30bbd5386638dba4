using System.Runtime.InteropServices;
using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>Packing, and the kernels over panels against plain loops.</summary>
[Trait("Category", "Kernels")]
public sealed unsafe class PanelTests
{
    private const int Columns = 768, Blocks = Columns / 32;

    public static TheoryData<TensorType> QuantisedTypes => TestWeight.QuantisedTypes;

    [Theory]
    [MemberData(nameof(QuantisedTypes))]
    public void Unpacked_panels_give_the_decoded_values(TensorType type)
    {
        const int rows = 13;
        TestWeight w = new(type, rows, Columns, seed: 41);
        PanelFormat format = PanelFormat.Of(type)!;
        byte[] unpacked = Unpack(format, w);
        int unitBytes = format.HasOffset ? 192 : 128;
        for (int row = 0; row < rows; row++)
        {
            ReadOnlySpan<float> expected = w.Row(row);
            for (int k = 0; k < Columns; k++)
            {
                Span<byte> block = unpacked.AsSpan(k / 32 * format.UnpackedBytes, format.UnpackedBytes);
                Span<byte> unit = block[(512 + k % 32 / format.Unit * unitBytes)..];
                double scale = MemoryMarshal.Cast<byte, float>(unit[64..])[row], offset = format.HasOffset ? MemoryMarshal.Cast<byte, float>(unit[128..])[row] : 0;
                double value = scale * Code(block, row, k % 32) + offset;
                // The decoded value is this one rounded to f32 once.
                Assert.Equal(expected[k], value, Math.Abs(value) * 6e-8);
                if (k % format.Unit != 0) continue;
                int sum = 0;
                for (int i = 0; i < format.Unit; i++) sum += Code(block, row, k % 32 + i);
                Assert.Equal(-128 * sum, MemoryMarshal.Cast<byte, int>(unit)[row]);
            }
        }
    }

    [Theory]
    [MemberData(nameof(QuantisedTypes))]
    public void One_row_and_tiles_of_every_size_equal_the_plain_loops_bit_for_bit(TensorType type)
    {
        PanelFormat format = PanelFormat.Of(type)!;
        TestWeight[] panels = [new(type, 16, Columns, seed: 42), new(type, 16, Columns, seed: 43)];
        byte[][] unpacked = [.. panels.Select(p => Unpack(format, p))];
        for (int m = 1; m <= AssembledTiles.MostRows; m++)
        {
            float[] x = TestWeight.RandomRows(m, Columns, seed: 44 + m);
            byte[] memory = new byte[QuantisedRows.Bytes(m, Columns)];
            float[] expected = new float[2 * m * 16], portable = new float[2 * m * 16], assembled = new float[2 * m * 16];
            fixed (float* from = x, toPortable = portable, toAssembled = assembled)
            fixed (byte* codes = memory, w0 = unpacked[0], w1 = unpacked[1])
            {
                QuantisedRows rows = new(codes, m, Columns, TileKind.Vnni);
                Assert.Equal(m, rows.TileRows);
                for (int i = 0; i < m; i++) rows.Quantise(i, from + i * Columns);
                for (int p = 0; p < 2; p++)
                    for (int i = 0; i < m; i++)
                        for (int j = 0; j < 16; j++) expected[(p * m + i) * 16 + j] = Plain(format, unpacked[p], j, x.AsSpan(i * Columns, Columns));

                if (m == 1)
                {
                    byte[] packed = Pack(format, panels[0]);
                    fixed (byte* panel = packed) format.Gemv(panel, Columns, codes, toPortable);
                    Assert.Equal(expected.AsSpan(0, 16), portable.AsSpan(0, 16));
                    continue;
                }
                // In two portions: the second goes on from the first's sums.
                foreach ((int first, int count) in new[] { (0, 5), (5, Blocks - 5) })
                {
                    TileArguments a = new()
                    {
                        X = rows.Tile(0, first, m), W0 = w0 + first * format.UnpackedBytes, W1 = w1 + first * format.UnpackedBytes,
                        Y0 = toPortable, Y1 = toPortable + 16 * m, Blocks = count, GoOn = first,
                    };
                    format.MultiplyTile(in a, m);
                    a.Y0 = toAssembled;
                    a.Y1 = toAssembled + 16 * m;
                    delegate* unmanaged[SuppressGCTransition]<TileArguments*, void> kernel = AssembledTiles.For(format, m);
                    Assert.Equal(AssembledTiles.IsSupported, kernel != null);
                    if (kernel != null) kernel(&a);
                }
            }
            Assert.Equal(expected, portable);
            // On a machine without AVX-512 VNNI there is only the one in C#.
            if (AssembledTiles.IsSupported) Assert.Equal(expected, assembled);
        }
    }

    [Theory]
    [MemberData(nameof(QuantisedTypes))]
    public void Sums_stay_exact_where_every_code_and_every_input_is_extreme(TensorType type)
    {
        // Where products are summed in 16 bits, these come nearest to what fits.
        PanelFormat format = PanelFormat.Of(type)!;
        int codeBytes = type switch
        {
            TensorType.Q5_0 or TensorType.Q5_1 or TensorType.Q5_K => 320, TensorType.Q6_K => 384, TensorType.Q8_0 => 512, _ => 256,
        };
        byte[] packed = Pack(format, new(type, 16, Columns, seed: 45)), unpacked = new byte[Blocks * format.UnpackedBytes];
        foreach (byte fill in new byte[] { 0x00, 0x77, 0xFF })
        {
            for (int b = 0; b < Blocks; b += PanelFormat.GroupBlocks)
                packed.AsSpan(b / PanelFormat.GroupBlocks * format.GroupBytes, Math.Min(PanelFormat.GroupBlocks, Blocks - b) * codeBytes).Fill(fill);
            foreach (int m in new[] { 1, 2, 3, 6 })
            {
                float[] x = new float[m * Columns], y = new float[2 * 16 * m];
                for (int i = 0; i < x.Length; i++) x[i] = i / Columns % 2 == 0 ? 1 : -1;
                byte[] memory = new byte[QuantisedRows.Bytes(m, Columns)];
                fixed (float* from = x, to = y)
                fixed (byte* codes = memory, panel = packed, w = unpacked)
                {
                    QuantisedRows rows = new(codes, m, Columns, TileKind.Portable);
                    for (int i = 0; i < m; i++) rows.Quantise(i, from + i * Columns);
                    format.Unpack(panel, Columns, 0, Blocks, w, panel);
                    TileArguments a = new() { X = codes, W0 = w, W1 = w, Y0 = to, Y1 = to, Blocks = Blocks };
                    if (m == 1) format.Gemv(panel, Columns, codes, to);
                    else format.MultiplyTile(in a, m);
                }
                for (int i = 0; i < m; i++)
                    for (int j = 0; j < 16; j++) Assert.Equal(Plain(format, unpacked, j, x.AsSpan(i * Columns, Columns)), y[16 * i + j]);
            }
        }
    }

    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(6, 6, 6)]
    [InlineData(7, 4, 7)]
    [InlineData(13, 5, 7)]
    [InlineData(512, 6, 12)]
    public void Tiles_are_alike_in_size(int rows, int forVectors, int forTiles)
    {
        Assert.Equal(forVectors, new QuantisedRows(null, rows, 32, TileKind.Vnni).TileRows);
        Assert.Equal(forTiles, new QuantisedRows(null, rows, 32, TileKind.Amx).TileRows);
    }

    private static byte[] Pack(PanelFormat format, TestWeight w)
    {
        byte[] panel = new byte[format.PanelBytes(Columns)];
        TensorSource source = w.Source;
        fixed (byte* to = panel) format.Pack((byte*)source.Data, source.Bytes / source.Rows, w.Rows, Columns, to);
        return panel;
    }

    private static byte[] Unpack(PanelFormat format, TestWeight w)
    {
        byte[] unpacked = new byte[Blocks * format.UnpackedBytes];
        fixed (byte* panel = Pack(format, w), to = unpacked)
        {
            format.Unpack(panel, Columns, 0, 8, to, panel);
            format.Unpack(panel, Columns, 8, Blocks - 8, to + 8 * format.UnpackedBytes, panel);
        }
        return unpacked;
    }

    private static int Code(ReadOnlySpan<byte> block, int row, int k) => (sbyte)block[k / 4 * 64 + 4 * row + k % 4];

    /// <summary>The arithmetic that <see cref="PanelFormat"/> states, on codes and scales as unpacked.</summary>
    private static float Plain(PanelFormat format, ReadOnlySpan<byte> unpacked, int row, ReadOnlySpan<float> x)
    {
        float sum = 0;
        for (int b = 0; b < Blocks; b++)
        {
            ReadOnlySpan<byte> block = unpacked.Slice(b * format.UnpackedBytes, format.UnpackedBytes);
            float max = 0;
            foreach (float v in x.Slice(32 * b, 32)) max = Math.Max(max, Math.Abs(v));
            for (int first = 0; first < 32; first += format.Unit)
            {
                ReadOnlySpan<byte> unit = block[(512 + first / format.Unit * (format.HasOffset ? 192 : 128))..];
                int dot = 0, inputs = 0;
                for (int k = first; k < first + format.Unit; k++)
                {
                    int q = (int)MathF.Round(x[32 * b + k] * (127f / max), MidpointRounding.ToEven);
                    dot += q * Code(block, row, k);
                    inputs += q;
                }
                float t = dot * MemoryMarshal.Cast<byte, float>(unit[64..])[row];
                if (format.HasOffset) t = MathF.FusedMultiplyAdd(MemoryMarshal.Cast<byte, float>(unit[128..])[row], inputs, t);
                sum = MathF.FusedMultiplyAdd(t, max / 127f, sum);
            }
        }
        return sum;
    }
}
