using System.Runtime.InteropServices;
using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>Two packed panels of a type and some tiles of input rows, for kernels to multiply; what they may touch ends where their data ends.</summary>
internal sealed unsafe class TileProblem
{
    private const int Columns = 256, Blocks = Columns / 32;

    private readonly PanelFormat _format;
    private readonly int _rows, _tiles, _m;
    private readonly byte[] _forTiles, _forPortable, _weights;
    private readonly float[] _expected, _results;
    private readonly bool _lonePanel;
    private readonly int _tileBytes;

    public TileProblem(TensorType type, int rows, int tiles, bool lonePanel = false)
    {
        _format = PanelFormat.Of(type)!;
        (_rows, _tiles, _m, _lonePanel) = (rows, tiles, rows * tiles, lonePanel);
        _tileBytes = rows * Blocks * QuantisedRows.BlockBytes;
        _forTiles = Pinned<byte>((int)QuantisedRows.Bytes(_m, Columns));
        _forPortable = Pinned<byte>(_forTiles.Length);
        _weights = Pinned<byte>(2 * Blocks * _format.UnpackedBytes);
        _expected = Pinned<float>(2 * 16 * _m);
        _results = Pinned<float>(2 * 16 * _m);
        Array.Fill(_expected, float.NaN);
        Reset();
        float[] x = TestWeight.RandomRows(_m, Columns, seed: 70 + rows);
        fixed (float* from = x)
        {
            QuantisedRows forTiles = new(At(_forTiles), _m, Columns, TileKind.Amx, rows), forPortable = new(At(_forPortable), _m, Columns, TileKind.Portable, rows);
            for (int i = 0; i < _m; i++)
            {
                forTiles.Quantise(i, from + i * Columns);
                forPortable.Quantise(i, from + i * Columns);
            }
        }
        // A row alone has signed codes everywhere; the kernel in C# wants them unsigned.
        if (_m == 1)
            for (int b = 0; b < Blocks; b++)
                for (int k = 0; k < 32; k++) _forPortable[b * QuantisedRows.BlockBytes + k] ^= 0x80;
        for (int p = 0; p < 2; p++)
        {
            TensorSource source = new TestWeight(type, 16, Columns, seed: 80 + p).Source;
            byte[] panel = Pinned<byte>((int)_format.PanelBytes(Columns));
            _format.Pack((byte*)source.Data, source.Bytes / source.Rows, 16, Columns, At(panel));
            _format.Unpack(At(panel), Columns, 0, Blocks, At(_weights) + p * Blocks * _format.UnpackedBytes, At(panel));
        }
    }

    /// <summary>Adds some blocks to the results.</summary>
    public void Run(int firstBlock, int blocks, AmxEmulator emulator)
    {
        emulator.Allow(At(_forTiles), _forTiles.Length, writable: false);
        emulator.Allow(At(_weights), _weights.Length, writable: false);
        emulator.Allow(At(_results), 4L * _results.Length, writable: true);
        TileArguments a = Arguments(_forTiles, _results, 0, firstBlock, blocks);
        a.Tiles = _tiles;
        a.TileStride = _tileBytes;
        emulator.Allow(&a, sizeof(TileArguments), writable: false);
        emulator.Call(&a);
    }

    /// <summary>The same in C#.</summary>
    public void RunPortable(int firstBlock, int blocks)
    {
        for (int tile = 0; tile < _tiles; tile++)
        {
            TileArguments a = Arguments(_forPortable, _expected, tile, firstBlock, blocks);
            _format.MultiplyTile(in a, _rows);
        }
    }

    /// <summary>Forgets the results, not what is expected. They are nothing that one could begin with.</summary>
    public void Reset() => Array.Fill(_results, float.NaN);

    public bool IsEqual => MemoryMarshal.Cast<float, int>(_expected).SequenceEqual(MemoryMarshal.Cast<float, int>(_results));

    public void AssertEqual()
    {
        Assert.Equal(MemoryMarshal.Cast<float, int>(_expected), MemoryMarshal.Cast<float, int>(_results));
        Assert.Contains(_results, static v => v != 0);
    }

    private TileArguments Arguments(byte[] x, float[] y, int tile, int firstBlock, int blocks)
    {
        byte* weights = At(_weights) + firstBlock * _format.UnpackedBytes;
        float* sums = At(y) + 16 * _rows * tile;
        return new TileArguments
        {
            X = At(x) + tile * _tileBytes + firstBlock * _rows * QuantisedRows.BlockBytes,
            W0 = weights, W1 = _lonePanel ? weights : weights + Blocks * _format.UnpackedBytes,
            Y0 = sums, Y1 = _lonePanel ? sums : sums + 16 * _m, Blocks = blocks, GoOn = firstBlock,
        };
    }

    private static T[] Pinned<T>(int length) => GC.AllocateArray<T>(length, pinned: true);

    private static T* At<T>(T[] pinned) where T : unmanaged => (T*)Marshal.UnsafeAddrOfPinnedArrayElement(pinned, 0);
}
