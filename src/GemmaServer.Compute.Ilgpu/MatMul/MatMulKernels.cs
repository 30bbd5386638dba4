using ILGPU;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>A product's shape.</summary>
/// <param name="Blocks">Blocks of 32 columns.</param>
/// <param name="Outputs">Rows of the weights that take part.</param>
/// <param name="FirstRow">The first of them; within each expert, where there are experts.</param>
/// <param name="ExpertRows">Rows of an expert; 0 without experts.</param>
/// <param name="Rows">Rows of x; read without experts.</param>
/// <param name="XStride">Floats from one row of x to the next.</param>
/// <param name="YStride">Of y.</param>
/// <param name="YOffset">Where a row of y begins.</param>
/// <param name="BySource">Whether rows of x are looked up in the tile table's inputs (experts).</param>
internal readonly record struct MatMulShape(
    int Blocks, int Outputs, int FirstRow, int ExpertRows, int Rows, int XStride, int YStride, int YOffset, int BySource);

/// <summary>Rows of a tile.</summary>
internal readonly record struct Tile(int Expert, int First, int Count);

/// <summary>
/// y = W·x. A lane has an output row, or with slices a part of its columns; slices add up in their order through shared memory.
/// </summary>
/// <remarks>
/// A lane sums over columns in one order whatever the rows beside, so both kernels agree to the last bit in exact .NET
/// arithmetic; a GPU's compiler may fuse multiplications differently in each.
/// </remarks>
internal static class MatMulKernels
{
    /// <summary>Rows of x that a lane of <see cref="Many{TFormat}"/> takes at once.</summary>
    public const int TileRows = 8;

    /// <summary>Most floats that a group exchanges: lanes · slices · rows.</summary>
    public const int Exchange = 32 * 8 * TileRows;

    /// <summary>One row of x at a time.</summary>
    public static void One<TFormat>(
        MatMulShape s, ArrayView<uint> codes, ArrayView<ushort> scales, ArrayView<uint> supers, ArrayView<int> tiles, ArrayView<int> inputs,
        ArrayView<float> x, ArrayView<float> y) where TFormat : struct, IWeightFormat
    {
        ArrayView<float> exchange = SharedMemory.Allocate<float>(Exchange);
        ArrayView<Four> fours = x.Cast<Four>();
        int slices = Group.DimY, slice = Group.IdxY, per = (s.Blocks + slices - 1) / slices;
        int begin = slice * per, end = IntrinsicMath.Min(begin + per, s.Blocks);
        int tileCount = TileCount(s, tiles, 1);
        for (int t = Grid.IdxY; t < tileCount; t += Grid.DimY)
        {
            Tile tile = TileAt(s, tiles, t, 1);
            int x0 = Source(s, inputs, tile.First) * (s.XStride / 4);
            for (int n0 = Grid.IdxX * Group.DimX; n0 < s.Outputs; n0 += Grid.DimX * Group.DimX)
            {
                int n = IntrinsicMath.Min(n0 + Group.IdxX, s.Outputs - 1), row = tile.Expert * s.ExpertRows + s.FirstRow + n;
                float a = 0;
                for (int block = begin; block < end; block++)
                {
                    BlockScale scale = TFormat.Scale(scales, supers, At(row, s.Blocks, block), At(row, (s.Blocks + 7) / 8, block / 8));
                    long eight = At(row, 4 * s.Blocks, 4 * block);
                    int k = x0 + 8 * block;
                    a += Dot(TFormat.Load(codes, eight, scale), fours, k);
                    a += Dot(TFormat.Load(codes, eight + 32, scale), fours, k + 2);
                    a += Dot(TFormat.Load(codes, eight + 64, scale), fours, k + 4);
                    a += Dot(TFormat.Load(codes, eight + 96, scale), fours, k + 6);
                }
                if (slices > 1)
                {
                    exchange[slice * Group.DimX + Group.IdxX] = a;
                    Group.Barrier();
                    a = 0;
                    if (slice == 0)
                        for (int i = 0; i < slices; i++) a += exchange[i * Group.DimX + Group.IdxX];
                    Group.Barrier();
                }
                if (slice == 0 && n0 + Group.IdxX < s.Outputs) y[tile.First * s.YStride + s.YOffset + n] = a;
            }
        }
    }

    /// <summary>Up to <see cref="TileRows"/> rows of x at a time: weights are read and decoded once for them.</summary>
    public static void Many<TFormat>(
        MatMulShape s, ArrayView<uint> codes, ArrayView<ushort> scales, ArrayView<uint> supers, ArrayView<int> tiles, ArrayView<int> inputs,
        ArrayView<float> x, ArrayView<float> y) where TFormat : struct, IWeightFormat
    {
        ArrayView<float> exchange = SharedMemory.Allocate<float>(Exchange);
        ArrayView<Four> fours = x.Cast<Four>();
        int slices = Group.DimY, slice = Group.IdxY, per = (s.Blocks + slices - 1) / slices, lanes = Group.DimX * slices;
        int begin = slice * per, end = IntrinsicMath.Min(begin + per, s.Blocks);
        int tileCount = TileCount(s, tiles, TileRows);
        for (int t = Grid.IdxY; t < tileCount; t += Grid.DimY)
        {
            Tile tile = TileAt(s, tiles, t, TileRows);
            // Rows that are not there are computed as the last that is.
            int last = tile.First + tile.Count - 1, stride = s.XStride / 4;
            int x0 = Source(s, inputs, tile.First) * stride;
            int x1 = Source(s, inputs, IntrinsicMath.Min(tile.First + 1, last)) * stride;
            int x2 = Source(s, inputs, IntrinsicMath.Min(tile.First + 2, last)) * stride;
            int x3 = Source(s, inputs, IntrinsicMath.Min(tile.First + 3, last)) * stride;
            int x4 = Source(s, inputs, IntrinsicMath.Min(tile.First + 4, last)) * stride;
            int x5 = Source(s, inputs, IntrinsicMath.Min(tile.First + 5, last)) * stride;
            int x6 = Source(s, inputs, IntrinsicMath.Min(tile.First + 6, last)) * stride;
            int x7 = Source(s, inputs, IntrinsicMath.Min(tile.First + 7, last)) * stride;
            for (int n0 = Grid.IdxX * Group.DimX; n0 < s.Outputs; n0 += Grid.DimX * Group.DimX)
            {
                int n = IntrinsicMath.Min(n0 + Group.IdxX, s.Outputs - 1), row = tile.Expert * s.ExpertRows + s.FirstRow + n;
                float a0 = 0, a1 = 0, a2 = 0, a3 = 0, a4 = 0, a5 = 0, a6 = 0, a7 = 0;
                for (int block = begin; block < end; block++)
                {
                    BlockScale scale = TFormat.Scale(scales, supers, At(row, s.Blocks, block), At(row, (s.Blocks + 7) / 8, block / 8));
                    long eight = At(row, 4 * s.Blocks, 4 * block);
                    // The four eights of a block stay a loop: written out too, they would not fit in registers.
                    for (int k = 8 * block; k < 8 * block + 8; k += 2, eight += 32)
                    {
                        Eight w = TFormat.Load(codes, eight, scale);
                        a0 += Dot(w, fours, x0 + k);
                        a1 += Dot(w, fours, x1 + k);
                        a2 += Dot(w, fours, x2 + k);
                        a3 += Dot(w, fours, x3 + k);
                        a4 += Dot(w, fours, x4 + k);
                        a5 += Dot(w, fours, x5 + k);
                        a6 += Dot(w, fours, x6 + k);
                        a7 += Dot(w, fours, x7 + k);
                    }
                }
                int lane = slice * Group.DimX + Group.IdxX;
                if (slices > 1)
                {
                    exchange[lane] = a0;
                    exchange[lanes + lane] = a1;
                    exchange[2 * lanes + lane] = a2;
                    exchange[3 * lanes + lane] = a3;
                    exchange[4 * lanes + lane] = a4;
                    exchange[5 * lanes + lane] = a5;
                    exchange[6 * lanes + lane] = a6;
                    exchange[7 * lanes + lane] = a7;
                    Group.Barrier();
                    // Each slice adds up some of the rows.
                    for (int r = slice; r < tile.Count; r += slices)
                    {
                        float sum = 0;
                        for (int i = 0; i < slices; i++) sum += exchange[r * lanes + i * Group.DimX + Group.IdxX];
                        if (n0 + Group.IdxX < s.Outputs) y[(tile.First + r) * s.YStride + s.YOffset + n] = sum;
                    }
                    Group.Barrier();
                }
                else if (n0 + Group.IdxX < s.Outputs)
                {
                    int at = tile.First * s.YStride + s.YOffset + n;
                    y[at] = a0;
                    if (tile.Count > 1) y[at + s.YStride] = a1;
                    if (tile.Count > 2) y[at + 2 * s.YStride] = a2;
                    if (tile.Count > 3) y[at + 3 * s.YStride] = a3;
                    if (tile.Count > 4) y[at + 4 * s.YStride] = a4;
                    if (tile.Count > 5) y[at + 5 * s.YStride] = a5;
                    if (tile.Count > 6) y[at + 6 * s.YStride] = a6;
                    if (tile.Count > 7) y[at + 7 * s.YStride] = a7;
                }
            }
        }
    }

    /// <summary>y[row, j] = W[picks[row, j]] · x[row]: a lane for each.</summary>
    public static void Picked<TFormat>(
        int blocks, int rows, int count, int xStride, ArrayView<uint> codes, ArrayView<ushort> scales, ArrayView<uint> supers, ArrayView<int> picks,
        ArrayView<float> x, ArrayView<float> y) where TFormat : struct, IWeightFormat
    {
        ArrayView<Four> fours = x.Cast<Four>();
        for (int i = Lanes.Global; i < rows * count; i += Lanes.Count)
        {
            int row = picks[i], x0 = i / count * (xStride / 4);
            float a = 0;
            for (int block = 0; block < blocks; block++)
            {
                BlockScale scale = TFormat.Scale(scales, supers, At(row, blocks, block), At(row, (blocks + 7) / 8, block / 8));
                long eight = At(row, 4 * blocks, 4 * block);
                int k = x0 + 8 * block;
                a += Dot(TFormat.Load(codes, eight, scale), fours, k);
                a += Dot(TFormat.Load(codes, eight + 32, scale), fours, k + 2);
                a += Dot(TFormat.Load(codes, eight + 64, scale), fours, k + 4);
                a += Dot(TFormat.Load(codes, eight + 96, scale), fours, k + 6);
            }
            y[i] = a;
        }
    }

    /// <summary>y[row] = W[token of the row] · scale: a lane for eight columns.</summary>
    /// <param name="blocks">Blocks of 32 columns.</param>
    /// <param name="rows">Rows of y.</param>
    /// <param name="yStride">Floats from one to the next; room for whole blocks.</param>
    /// <param name="scale">On each value.</param>
    /// <param name="codes">Weights.</param>
    /// <param name="scales">Weights.</param>
    /// <param name="supers">Weights.</param>
    /// <param name="step">Of the rows, tokens first.</param>
    /// <param name="y">Output.</param>
    public static void Gather<TFormat>(
        int blocks, int rows, int yStride, float scale, ArrayView<uint> codes, ArrayView<ushort> scales, ArrayView<uint> supers, ArrayView<int> step,
        ArrayView<float> y) where TFormat : struct, IWeightFormat
    {
        ArrayView<Four> fours = y.Cast<Four>();
        for (int i = Lanes.Global; i < rows * blocks * 4; i += Lanes.Count)
        {
            int row = i / (blocks * 4), eight = i % (blocks * 4), token = step[row * IlgpuStep.RowInts];
            BlockScale of = TFormat.Scale(scales, supers, At(token, blocks, eight / 4), At(token, (blocks + 7) / 8, eight / 32));
            Eight w = TFormat.Load(codes, At(token, 4 * blocks, eight), of);
            int to = row * (yStride / 4) + 2 * eight;
            fours[to] = w.Low.Times(scale);
            fours[to + 1] = w.High.Times(scale);
        }
    }

    /// <summary>Where part <paramref name="part"/> of a row lies among the parts of all rows.</summary>
    private static long At(int row, int parts, int part) => ((long)(row / 32) * parts + part) * 32 + row % 32;

    private static float Dot(Eight w, ArrayView<Four> x, int at) => w.Low.Dot(x[at]) + w.High.Dot(x[at + 1]);

    private static int TileCount(MatMulShape s, ArrayView<int> tiles, int rows) => s.ExpertRows > 0 ? tiles[0] : (s.Rows + rows - 1) / rows;

    private static Tile TileAt(MatMulShape s, ArrayView<int> tiles, int t, int rows) => s.ExpertRows > 0
        ? new Tile(tiles[4 * t + 4], tiles[4 * t + 5], tiles[4 * t + 6])
        : new Tile(0, t * rows, IntrinsicMath.Min(rows, s.Rows - t * rows));

    private static int Source(MatMulShape s, ArrayView<int> inputs, int place) => s.BySource != 0 ? inputs[place] : place;
}
