using System.Runtime.InteropServices;
using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>A block format behind one face, for tests that walk over all of them.</summary>
internal abstract class BlockFormat
{
    /// <summary>Elements in a block.</summary>
    public abstract int Length { get; }

    /// <summary>Plain-loop decoding of whole blocks.</summary>
    public abstract float[] Dequantize(ReadOnlySpan<byte> raw);

    /// <summary>Blocks of random bytes whose scales are ordinary numbers of both signs.</summary>
    public abstract byte[] RandomBlocks(int count, int seed);

    public static BlockFormat Of(TensorType type) => type switch
    {
        TensorType.Q4_0 => new Format<Q4_0Block>(0),
        TensorType.Q4_1 => new Format<Q4_1Block>(0, 2),
        TensorType.Q5_0 => new Format<Q5_0Block>(0),
        TensorType.Q5_1 => new Format<Q5_1Block>(0, 2),
        TensorType.Q8_0 => new Format<Q8_0Block>(0),
        TensorType.Q2_K => new Format<Q2_KBlock>(80, 82),
        TensorType.Q3_K => new Format<Q3_KBlock>(108),
        TensorType.Q4_K => new Format<Q4_KBlock>(0, 2),
        TensorType.Q5_K => new Format<Q5_KBlock>(0, 2),
        TensorType.Q6_K => new Format<Q6_KBlock>(208),
        TensorType.IQ4_NL => new Format<IQ4_NLBlock>(0),
        TensorType.IQ4_XS => new Format<IQ4_XSBlock>(0),
        TensorType.MXFP4 => new Format<MXFP4Block>(),
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "No block format."),
    };

    /// <param name="halfOffsets">Bytes at which a block holds an f16 scale or minimum; none: byte 0 is an exponent.</param>
    private sealed class Format<TBlock>(params int[] halfOffsets) : BlockFormat where TBlock : unmanaged, IQuantBlock<TBlock>
    {
        public override int Length => TBlock.Length;

        public override float[] Dequantize(ReadOnlySpan<byte> raw)
        {
            ReadOnlySpan<TBlock> blocks = MemoryMarshal.Cast<byte, TBlock>(raw);
            float[] values = new float[blocks.Length * TBlock.Length];
            for (int i = 0; i < blocks.Length; i++) TBlock.Dequantize(in blocks[i], values.AsSpan(i * TBlock.Length, TBlock.Length));
            return values;
        }

        public override byte[] RandomBlocks(int count, int seed)
        {
            Random random = new(seed);
            TBlock[] blocks = new TBlock[count];
            Span<byte> raw = MemoryMarshal.AsBytes(blocks.AsSpan());
            random.NextBytes(raw);
            int size = raw.Length / count;
            for (int i = 0; i < count; i++)
            {
                if (halfOffsets.Length == 0) raw[i * size] = (byte)random.Next(118, 126);
                foreach (int offset in halfOffsets)
                {
                    MemoryMarshal.Write(raw[(i * size + offset)..], (Half)((random.NextDouble() - 0.5) * 0.01));
                }
            }
            return raw.ToArray();
        }
    }
}
