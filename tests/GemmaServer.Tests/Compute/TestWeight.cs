using System.Runtime.InteropServices;
using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>A random weight of any type in pinned memory, with its values.</summary>
internal sealed unsafe class TestWeight
{
    private readonly byte[] _raw;

    public TestWeight(TensorType type, int rows, int columns, int seed)
    {
        Rows = rows;
        Columns = columns;
        (byte[] raw, Values) = Make(type, rows * columns, seed);
        _raw = GC.AllocateUninitializedArray<byte>(raw.Length, pinned: true);
        raw.CopyTo(_raw, 0);
        Source = new TensorSource($"{type}", type, rows, columns, Marshal.UnsafeAddrOfPinnedArrayElement(_raw, 0), raw.Length);
    }

    /// <summary>Every type this project reads.</summary>
    public static TheoryData<TensorType> AllTypes => [.. Enum.GetValues<TensorType>()];

    public static TheoryData<TensorType> QuantisedTypes => [.. Enum.GetValues<TensorType>().Where(WeightRows.IsQuantised)];

    public int Rows { get; }

    public int Columns { get; }

    /// <summary>Plain-loop decoding, <c>[Rows, Columns]</c>.</summary>
    public float[] Values { get; }

    public TensorSource Source { get; }

    public ReadOnlySpan<float> Row(int row) => Values.AsSpan(row * Columns, Columns);

    /// <summary>Columns that suit the type: whole blocks, several of them; odd where any number will do.</summary>
    public static int ColumnsFor(TensorType type) => !WeightRows.IsQuantised(type) ? 101 : BlockFormat.Of(type).Length == 32 ? 224 : 768;

    public static float[] RandomRows(int rows, int columns, int seed)
    {
        Random random = new(seed);
        float[] x = new float[rows * columns];
        for (int i = 0; i < x.Length; i++) x[i] = (float)((random.NextDouble() + random.NextDouble() - 1) * (1 + i / columns));
        return x;
    }

    private static (byte[] Raw, float[] Values) Make(TensorType type, int count, int seed)
    {
        if (WeightRows.IsQuantised(type))
        {
            BlockFormat format = BlockFormat.Of(type);
            byte[] blocks = format.RandomBlocks(count / format.Length, seed);
            return (blocks, format.Dequantize(blocks));
        }

        Random random = new(seed);
        byte[] raw = new byte[count * (type == TensorType.F32 ? 4 : 2)];
        float[] values = new float[count];
        for (int i = 0; i < count; i++)
        {
            float value = (float)(random.NextDouble() - 0.5);
            switch (type)
            {
                case TensorType.F32:
                    MemoryMarshal.Write(raw.AsSpan(4 * i), value);
                    break;
                case TensorType.F16:
                    MemoryMarshal.Write(raw.AsSpan(2 * i), (Half)value);
                    value = (float)(Half)value;
                    break;
                default:
                    uint bits = BitConverter.SingleToUInt32Bits(value) & 0xFFFF0000;
                    MemoryMarshal.Write(raw.AsSpan(2 * i), (ushort)(bits >> 16));
                    value = BitConverter.UInt32BitsToSingle(bits);
                    break;
            }
            values[i] = value;
        }
        return (raw, values);
    }
}
