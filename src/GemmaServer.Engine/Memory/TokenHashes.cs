using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;

namespace GemmaServer.Engine;

/// <summary>
/// Names of a sequence's prefixes: one hash for every <see cref="Unit"/> tokens, each over the one before and its own
/// tokens, so that equal names mean equal tokens from the start on, and the same salt.
/// </summary>
/// <remarks>
/// SHA-256 cut to 128 bits, because whoever could make two prompts collide would read another user's context. Extending
/// allocates nothing until the room that was asked for is full.
/// </remarks>
internal sealed class TokenHashes
{
    private const int Size = 16;

    private readonly byte[] _block;     // the hash before, then a unit's tokens
    private readonly UInt128 _root;
    private UInt128[] _hashes;
    private int _count;

    /// <param name="unit">Tokens between two hashes.</param>
    /// <param name="salt">Prompts of different salts share nothing; null is a salt of its own.</param>
    /// <param name="room">Tokens expected at most.</param>
    public TokenHashes(int unit, string? salt, int room)
    {
        Unit = unit;
        _block = new byte[Size + unit * sizeof(int)];
        _root = salt is null ? UInt128.Zero : Cut(Encoding.UTF8.GetBytes(salt));
        _hashes = new UInt128[room / unit];
    }

    public int Unit { get; }

    /// <summary>Names the full units that have none yet.</summary>
    public void Extend(ReadOnlySpan<int> tokens)
    {
        int full = tokens.Length / Unit;
        if (full > _hashes.Length) Array.Resize(ref _hashes, Math.Max(full, _hashes.Length * 2));
        for (; _count < full; _count++)
        {
            BinaryPrimitives.WriteUInt128LittleEndian(_block, _count == 0 ? _root : _hashes[_count - 1]);
            MemoryMarshal.AsBytes(tokens.Slice(_count * Unit, Unit)).CopyTo(_block.AsSpan(Size));
            _hashes[_count] = Cut(_block);
        }
    }

    /// <summary>The name of the first <paramref name="position"/> tokens, a multiple of <see cref="Unit"/>.</summary>
    public UInt128 At(int position) => _hashes[position / Unit - 1];

    /// <summary>How many of the first <paramref name="limit"/> tokens are the same in both, in whole units.</summary>
    public int CommonWith(TokenHashes other, int limit)
    {
        // Equal at one unit means equal at all before.
        int equal = 0;
        int differ = Math.Min(limit / Unit, Math.Min(_count, other._count)) + 1;
        while (differ - equal > 1)
        {
            int middle = (equal + differ) / 2;
            if (_hashes[middle - 1] == other._hashes[middle - 1]) equal = middle;
            else differ = middle;
        }
        return equal * Unit;
    }

    private static UInt128 Cut(ReadOnlySpan<byte> data)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(data, hash);
        return BinaryPrimitives.ReadUInt128LittleEndian(hash);
    }
}
