using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>
/// Rows of activations as bytes: blocks of 32 with <c>scale = max|x| / 127</c> and <c>q = x / scale</c> rounded to the nearest,
/// ties to even. Rows stand in tiles of as many as the kernel takes at once, so that a product of a tile reads one stream; for each
/// block of a tile of T rows:
/// <code>| codes [T][32] | scale [T] float | sums of the codes' halves [T], two shorts |</code>
/// A row alone has signed codes q, and so have rows for AMX; other rows together have q + 128, because the instruction wants
/// one unsigned side and weights that many rows share are signed.
/// </summary>
/// <param name="memory"><see cref="Bytes"/>.</param>
/// <param name="m">Rows.</param>
/// <param name="k">Row length, a multiple of 32.</param>
/// <param name="kind">The kernel that reads them, unless a row is alone.</param>
/// <param name="mostTileRows">Rows of a tile.</param>
internal readonly unsafe struct QuantisedRows(byte* memory, int m, int k, TileKind kind, int mostTileRows)
{
    /// <summary>Bytes of a row's block.</summary>
    public const int BlockBytes = 40;

    // Below this 127 / max would overflow; such a block counts as zero.
    private const float Smallest = 1e-36f;

    /// <summary>Rows in tiles as the kernel likes them best.</summary>
    public QuantisedRows(byte* memory, int m, int k, TileKind kind) : this(memory, m, k, kind, kind.MostRows())
    {
    }

    public static long Bytes(int m, int k) => (long)m * (k / 32) * BlockBytes;

    public int Count => m;

    /// <summary>Rows of every tile but the last, which may have fewer. Tiles are alike in size.</summary>
    public int TileRows { get; } = (m + (m + mostTileRows - 1) / mostTileRows - 1) / Math.Max(1, (m + mostTileRows - 1) / mostTileRows);

    /// <summary>The kernel they are for.</summary>
    public TileKind Kind => kind;

    /// <summary>First byte of the tile that begins with <paramref name="row"/>, at block <paramref name="block"/>.</summary>
    public byte* Tile(int row, int block, int tileRows) => memory + (long)row * (k / 32) * BlockBytes + (long)block * tileRows * BlockBytes;

    /// <summary>Fills row <paramref name="row"/> from <paramref name="x"/>, <c>[k]</c>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Quantise(int row, float* x)
    {
        int first = row / TileRows * TileRows, tileRows = Math.Min(TileRows, m - first), place = row - first;
        byte* block = Tile(first, 0, tileRows);
        Vector256<byte> flip = Vector256.Create((byte)(m > 1 && kind != TileKind.Amx ? 0x80 : 0));
        Vector512<float> magic = Vector512.Create(12582912f);   // 1.5 · 2^23: adding it rounds to a whole number
        for (int i = 0; i < k; i += 32, block += tileRows * BlockBytes)
        {
            Vector512<float> a = Vector512.Load(x + i), b = Vector512.Load(x + i + 16);
            float max = Largest(Vector512.Max(Vector512.Abs(a), Vector512.Abs(b)));
            float inverse = max > Smallest ? 127f / max : 0f;   // NaN gives 0 here and stays in the scale
            Vector512<int> ia = (a * inverse + magic).AsInt32() - magic.AsInt32();
            Vector512<int> ib = (b * inverse + magic).AsInt32() - magic.AsInt32();
            Vector512<short> both = Vector512.Narrow(ia, ib);
            (Vector256.Narrow(both.GetLower(), both.GetUpper()).AsByte() ^ flip).Store(block + 32 * place);
            byte* behind = block + 32 * tileRows + 4 * place;
            *(float*)behind = max / 127f;
            *(uint*)(behind + 4 * tileRows) = (ushort)Vector512.Sum(ia) | (uint)Vector512.Sum(ib) << 16;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Largest(Vector512<float> v)
    {
        Vector256<float> eight = Vector256.Max(v.GetLower(), v.GetUpper());
        Vector128<float> four = Vector128.Max(eight.GetLower(), eight.GetUpper());
        Vector128<float> two = Vector128.Max(four, Vector128.Shuffle(four, Vector128.Create(2, 3, 0, 1)));
        return MathF.Max(two.ToScalar(), two.GetElement(1));
    }
}
