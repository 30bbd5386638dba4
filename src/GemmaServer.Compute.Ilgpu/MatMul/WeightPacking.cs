using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Brings stored rows into the forms of <see cref="IWeightFormat"/>, panel by panel.</summary>
internal sealed unsafe class WeightPacking(IlgpuRuntime runtime, bool exact)
{
    private const int MostBatchBytes = 64 << 20;

    /// <summary>Bytes of 32 codes.</summary>
    public static int BlockBytes(WeightFormat format) => 4 * format switch
    {
        WeightFormat.Float => FloatFormat.EightBytes,
        WeightFormat.BFloat => BFloatFormat.EightBytes,
        WeightFormat.Q8 => Q8Format.EightBytes,
        WeightFormat.Q4 => Q4Format.EightBytes,
        _ => Q4KFormat.EightBytes,
    };

    public static bool HasScales(WeightFormat format) => format is WeightFormat.Q8 or WeightFormat.Q4 or WeightFormat.Q4K;

    /// <summary>A matrix of stacked parts; neighbours of one form become one part.</summary>
    public IlgpuMatrix Load(ReadOnlySpan<TensorSource> sources)
    {
        // For its checks of shapes.
        CpuWeights checkedShape = new(sources);
        List<WeightPart> parts = [];
        for (int i = 0, row = 0; i < sources.Length;)
        {
            WeightFormat format = FormatOf(sources[i].Type);
            bool isQuantised = WeightRows.IsQuantised(sources[i].Type);
            int end = i;
            long rows = 0;
            for (; end < sources.Length && FormatOf(sources[end].Type) == format && WeightRows.IsQuantised(sources[end].Type) == isQuantised; end++) rows += sources[end].Rows;
            WeightPart part = new(runtime, format, isQuantised, row, checked((int)rows), checkedShape.Columns);
            Pack(part, sources[i..end].ToArray());
            parts.Add(part);
            row += part.Rows;
            i = end;
        }
        return new IlgpuMatrix(checkedShape.Rows, checkedShape.Columns, [.. parts], mapped: null);
    }

    /// <summary>Types without a kernel are decoded: to floats where arithmetic is to be exact, else to bfloat16.</summary>
    private WeightFormat FormatOf(TensorType type) => type switch
    {
        TensorType.F32 => WeightFormat.Float,
        TensorType.BF16 => WeightFormat.BFloat,
        TensorType.Q8_0 => WeightFormat.Q8,
        TensorType.Q4_0 => WeightFormat.Q4,
        TensorType.Q4_K => WeightFormat.Q4K,
        _ => exact ? WeightFormat.Float : WeightFormat.BFloat,
    };

    private void Pack(WeightPart part, TensorSource[] sources)
    {
        int codeWords = part.Blocks * 32 * BlockBytes(part.Format) / 4, scaleCount = part.Blocks * 32, superCount = part.SuperBlocks * 32;
        int batch = (int)Math.Clamp(MostBatchBytes / (4L * codeWords), 1, part.Panels);
        uint[] codes = new uint[(long)batch * codeWords];
        ushort[] scales = new ushort[HasScales(part.Format) ? batch * scaleCount : 0];
        uint[] supers = new uint[part.Format == WeightFormat.Q4K ? batch * superCount : 0];
        for (int first = 0; first < part.Panels; first += batch)
        {
            int count = Math.Min(batch, part.Panels - first);
            Parallel.For(0, count, panel =>
            {
                Span<uint> c = codes.AsSpan(panel * codeWords, codeWords), u = supers.Length > 0 ? supers.AsSpan(panel * superCount, superCount) : [];
                Span<ushort> s = scales.Length > 0 ? scales.AsSpan(panel * scaleCount, scaleCount) : [];
                c.Clear();
                for (int lane = 0; lane < 32; lane++)
                {
                    int row = (first + panel) * 32 + lane;
                    if (row < part.Rows) PackRow(part, sources, row, lane, c, s, u);
                }
            });
            part.Codes.View.AsContiguous().SubView((long)first * codeWords, (long)count * codeWords).Send(codes.AsSpan(0, count * codeWords));
            if (scales.Length > 0) part.Scales.View.AsContiguous().SubView((long)first * scaleCount, (long)count * scaleCount).Send(scales.AsSpan(0, count * scaleCount));
            if (supers.Length > 0) part.Supers.View.AsContiguous().SubView((long)first * superCount, (long)count * superCount).Send(supers.AsSpan(0, count * superCount));
        }
    }

    private static void PackRow(WeightPart part, TensorSource[] sources, int row, int lane, Span<uint> codes, Span<ushort> scales, Span<uint> supers)
    {
        int i = 0;
        while (row >= sources[i].Rows) row -= (int)sources[i++].Rows;
        TensorSource source = sources[i];
        byte* from = (byte*)source.Data + row * WeightRows.CheckedRowBytes(source);
        switch (part.Format)
        {
            case WeightFormat.Q8: PackQ8((Q8_0Block*)from, part.Blocks, lane, codes, scales); break;
            case WeightFormat.Q4: PackQ4((Q4_0Block*)from, part.Blocks, lane, codes, scales); break;
            case WeightFormat.Q4K: PackQ4K((Q4_KBlock*)from, part.SuperBlocks, lane, codes, scales, supers); break;
            default: PackFloats(part.Format, source, from, lane, codes); break;
        }
    }

    private static void PackFloats(WeightFormat format, TensorSource source, byte* from, int lane, Span<uint> codes)
    {
        float[] values = new float[(source.Columns + 31) / 32 * 32];
        fixed (float* p = values) WeightRows.Dequantize(source.Type, from, source.Columns, p);
        for (int k = 0; k < values.Length; k++)
        {
            int eight = k / 8 * 32 + lane, at = k % 8;
            uint bits = BitConverter.SingleToUInt32Bits(values[k]);
            if (format == WeightFormat.Float) codes[eight * 8 + at] = bits;
            // To the nearest, ties to even; what is bfloat16 already stays as it is.
            else codes[eight * 4 + at / 2] |= (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << at % 2 * 16;
        }
    }

    private static void PackQ8(Q8_0Block* blocks, int count, int lane, Span<uint> codes, Span<ushort> scales)
    {
        for (int b = 0; b < count; b++)
        {
            byte* block = (byte*)&blocks[b];
            scales[b * 32 + lane] = *(ushort*)block;
            // Counted from −128, so that no kernel sees a sign.
            for (int k = 0; k < 32; k++) codes[((4 * b + k / 8) * 32 + lane) * 2 + k % 8 / 4] |= (uint)(block[2 + k] ^ 0x80) << k % 4 * 8;
        }
    }

    private static void PackQ4(Q4_0Block* blocks, int count, int lane, Span<uint> codes, Span<ushort> scales)
    {
        for (int b = 0; b < count; b++)
        {
            byte* block = (byte*)&blocks[b];
            scales[b * 32 + lane] = *(ushort*)block;
            PackNibbles(block + 2, b, lane, codes, bytes: 16, shift: 0);
        }
    }

    private static void PackQ4K(Q4_KBlock* blocks, int count, int lane, Span<uint> codes, Span<ushort> scales, Span<uint> supers)
    {
        for (int s = 0; s < count; s++)
        {
            byte* block = (byte*)&blocks[s];
            supers[s * 32 + lane] = *(uint*)block;
            ReadOnlySpan<byte> packed = new(block + 4, 12);
            for (int j = 0; j < 8; j++)
            {
                (int scale, int minimum) = BlockParts.SixBitScale(packed, j);
                scales[(8 * s + j) * 32 + lane] = (ushort)(scale | minimum << 8);
                PackNibbles(block + 16 + j / 2 * 32, 8 * s + j, lane, codes, bytes: 32, shift: j % 2 * 4);
            }
        }
    }

    /// <summary>32 codes, the first of which are in bits <paramref name="shift"/> and on of as many <paramref name="bytes"/>.</summary>
    private static void PackNibbles(byte* from, int block, int lane, Span<uint> codes, int bytes, int shift)
    {
        for (int k = 0; k < 32; k++) codes[(4 * block + k / 8) * 32 + lane] |= (uint)(from[k % bytes] >> (shift + k / bytes * 4) & 15) << k % 8 * 4;
    }
}
