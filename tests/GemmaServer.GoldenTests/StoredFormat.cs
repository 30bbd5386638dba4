using System.Buffers.Binary;

namespace GemmaServer.GoldenTests;

/// <summary>Writes numbers in a file's type and says what the file then holds; the tests' own idea of the formats.</summary>
internal static class StoredFormat
{
    private const int Block = 32;

    /// <summary>ggml's type id.</summary>
    public static uint GgmlId(string type) => type switch { "F32" => 0, "F16" => 1, "BF16" => 30, "Q4_0" => 2, "Q8_0" => 8, _ => throw new ArgumentException(type) };

    public static bool IsQuantised(string type) => type[0] == 'Q';

    /// <summary>The type itself, or F16 where rows are no whole blocks, as llama.cpp's quantiser falls back.</summary>
    public static string For(string type, int columns) => IsQuantised(type) && columns % Block != 0 ? "F16" : type;

    /// <summary>Bytes as stored; <paramref name="values"/> becomes what they mean.</summary>
    public static byte[] Encode(string type, double[] values) => type switch
    {
        "F32" => Each(values, 4, static (v, to) => BinaryPrimitives.WriteSingleLittleEndian(to, (float)v), static from => BinaryPrimitives.ReadSingleLittleEndian(from)),
        "F16" => Each(values, 2, static (v, to) => BinaryPrimitives.WriteHalfLittleEndian(to, (Half)v), static from => (double)BinaryPrimitives.ReadHalfLittleEndian(from)),
        "BF16" => Each(values, 2, WriteBFloat, static from => DecodeBFloat(BinaryPrimitives.ReadUInt16LittleEndian(from))),
        "Q8_0" => Q8(values),
        "Q4_0" => Q4(values),
        _ => throw new ArgumentException(type),
    };

    public static double DecodeBFloat(ushort bits) => BitConverter.UInt32BitsToSingle((uint)bits << 16);

    // Any neighbour will do: the values follow the bytes.
    private static void WriteBFloat(double v, Span<byte> to) =>
        BinaryPrimitives.WriteUInt16LittleEndian(to, (ushort)(BitConverter.SingleToUInt32Bits((float)v) >> 16));

    private delegate void Writer(double value, Span<byte> to);

    private delegate double Reader(ReadOnlySpan<byte> from);

    private static byte[] Each(double[] values, int size, Writer write, Reader read)
    {
        byte[] bytes = new byte[values.Length * size];
        for (int i = 0; i < values.Length; i++)
        {
            write(values[i], bytes.AsSpan(i * size, size));
            values[i] = read(bytes.AsSpan(i * size, size));
        }
        return bytes;
    }

    /// <summary>32 signed bytes behind a half: value = d · q.</summary>
    private static byte[] Q8(double[] values)
    {
        byte[] bytes = new byte[values.Length / Block * 34];
        for (int b = 0; b < values.Length / Block; b++)
        {
            Span<double> x = values.AsSpan(b * Block, Block);
            Span<byte> to = bytes.AsSpan(b * 34, 34);
            double max = 0;
            foreach (double v in x) max = Math.Max(max, Math.Abs(v));
            BinaryPrimitives.WriteHalfLittleEndian(to, (Half)(max / 127));
            double d = (double)(Half)(max / 127);
            for (int i = 0; i < Block; i++)
            {
                int q = d == 0 ? 0 : (int)Math.Clamp(Math.Round(x[i] / d), -127, 127);
                to[2 + i] = (byte)(sbyte)q;
                x[i] = d * q;
            }
        }
        return bytes;
    }

    /// <summary>32 nibbles behind a half: value = d · (q − 8); byte i holds element i low and element i + 16 high.</summary>
    private static byte[] Q4(double[] values)
    {
        byte[] bytes = new byte[values.Length / Block * 18];
        for (int b = 0; b < values.Length / Block; b++)
        {
            Span<double> x = values.AsSpan(b * Block, Block);
            Span<byte> to = bytes.AsSpan(b * 18, 18);
            double extreme = 0;
            foreach (double v in x)
                if (Math.Abs(v) > Math.Abs(extreme)) extreme = v;
            BinaryPrimitives.WriteHalfLittleEndian(to, (Half)(extreme / -8));
            double d = (double)(Half)(extreme / -8);
            for (int i = 0; i < Block; i++)
            {
                int q = d == 0 ? 8 : (int)Math.Clamp(Math.Round(x[i] / d) + 8, 0, 15);
                to[2 + i % 16] |= (byte)(i < 16 ? q : q << 4);
                x[i] = d * (q - 8);
            }
        }
        return bytes;
    }
}
