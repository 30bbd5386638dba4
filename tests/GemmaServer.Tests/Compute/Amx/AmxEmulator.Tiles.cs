using Iced.Intel;

namespace GemmaServer.Tests;

/// <summary>Tile registers: palette 1, eight of sixteen rows of 64 bytes.</summary>
internal sealed unsafe partial class AmxEmulator
{
    private const int MostRows = 16, MostBytes = 64;

    private readonly byte[][] _tiles = [.. Enumerable.Range(0, 8).Select(static _ => new byte[MostRows * MostBytes])];
    private readonly int[] _rows = new int[8], _rowBytes = new int[8];
    private bool _configured;

    private bool TryTile(in Instruction i)
    {
        switch (i.Mnemonic)
        {
            case Mnemonic.Ldtilecfg: Configure(new Span<byte>(Memory(in i, 0, 64, write: false), 64)); break;
            case Mnemonic.Tilerelease: Release(); break;
            case Mnemonic.Tilezero: Array.Clear(_tiles[Tile(i.Op0Register)]); break;
            case Mnemonic.Tileloadd: Load(in i, Tile(i.Op0Register)); break;
            case Mnemonic.Tilestored: Store(in i, Tile(i.Op1Register)); break;
            case Mnemonic.Tdpbssd: Multiply(Tile(i.Op0Register), Tile(i.Op1Register), Tile(i.Op2Register)); break;
            default: return false;
        }
        return true;
    }

    private static EmulatedFaultException Undefined(string why) => new($"#UD: {why}.");

    /// <summary>A tile that may be used.</summary>
    private int Tile(Register register)
    {
        int t = register - Register.TMM0;
        if (t is < 0 or > 7) throw Unknown($"register {register}");
        if (!_configured) throw Undefined("tiles are not configured");
        return _rows[t] > 0 && _rowBytes[t] > 0 ? t : throw Undefined($"{register} is not configured");
    }

    private void Configure(Span<byte> c)
    {
        EmulatedFaultException Protection(string why) => new($"#GP: {why}.");
        Release();
        if (c[0] > 1) throw Protection($"there is no palette {c[0]}");
        if (c[1] != 0) throw Unknown("tile instructions that begin at a later row");
        // Reserved: bytes 2 to 15, and places of tiles that palette 1 has not.
        if (c[2..16].ContainsAnyExcept((byte)0) || c[32..48].ContainsAnyExcept((byte)0) || c[56..].ContainsAnyExcept((byte)0)) throw Protection("reserved bytes are set");
        if (c[0] == 0) return;
        for (int t = 0; t < 8; t++)
        {
            (_rowBytes[t], _rows[t]) = (c[16 + 2 * t] | c[17 + 2 * t] << 8, c[48 + t]);
            if (_rowBytes[t] > MostBytes || _rows[t] > MostRows) throw Protection($"tile {t} is too big");
            if (_rowBytes[t] == 0 != (_rows[t] == 0)) throw Protection($"tile {t} has rows without bytes, or bytes without rows");
        }
        _configured = true;
    }

    private void Release()
    {
        _configured = false;
        foreach (byte[] tile in _tiles) Array.Clear(tile);
        Array.Clear(_rows);
        Array.Clear(_rowBytes);
    }

    /// <summary>Base and displacement: the first row; scaled index: from one row to the next.</summary>
    private (ulong Start, ulong Stride) Place(in Instruction i)
    {
        if (i.MemoryBase == Register.None || i.IsIPRelativeMemoryOperand) throw Undefined("a tile's address has a base");
        return (this[i.MemoryBase] + i.MemoryDisplacement64, i.MemoryIndex == Register.None ? 0 : this[i.MemoryIndex] * (ulong)i.MemoryIndexScale);
    }

    private void Load(in Instruction i, int t)
    {
        (ulong start, ulong stride) = Place(in i);
        Array.Clear(_tiles[t]);
        for (int row = 0; row < _rows[t]; row++)
            new Span<byte>(Check(start + (ulong)row * stride, _rowBytes[t], write: false), _rowBytes[t]).CopyTo(_tiles[t].AsSpan(MostBytes * row));
    }

    private void Store(in Instruction i, int t)
    {
        (ulong start, ulong stride) = Place(in i);
        for (int row = 0; row < _rows[t]; row++)
            _tiles[t].AsSpan(MostBytes * row, _rowBytes[t]).CopyTo(new Span<byte>(Check(start + (ulong)row * stride, _rowBytes[t], write: true), _rowBytes[t]));
    }

    /// <summary>TDPBSSD: <c>c[m, n] += Σ a[m, 4 k + i] · b[k, 4 n + i]</c>, both signed.</summary>
    private void Multiply(int c, int a, int b)
    {
        if (_rowBytes[c] % 4 != 0 || _rowBytes[a] % 4 != 0 || _rowBytes[b] % 4 != 0) throw Undefined("a row is no whole number of fours");
        if (_rows[c] != _rows[a]) throw Undefined($"sums have {_rows[c]} rows, the left side {_rows[a]}");
        if (_rowBytes[a] / 4 != _rows[b]) throw Undefined($"the left side is {_rowBytes[a]} bytes wide, the right side {_rows[b]} rows deep");
        if (_rowBytes[c] != _rowBytes[b]) throw Undefined($"sums are {_rowBytes[c]} bytes wide, the right side {_rowBytes[b]}");
        fixed (byte* sums = _tiles[c], left = _tiles[a], right = _tiles[b])
        {
            for (int m = 0; m < _rows[c]; m++)
            {
                for (int k = 0; k < _rowBytes[a] / 4; k++)
                {
                    for (int n = 0; n < _rowBytes[c] / 4; n++)
                    {
                        sbyte* x = (sbyte*)left + MostBytes * m + 4 * k, w = (sbyte*)right + MostBytes * k + 4 * n;
                        *(int*)(sums + MostBytes * m + 4 * n) += x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3];
                    }
                }
            }
        }
    }
}
