using System.Buffers;
using System.Text;
using System.Text.Unicode;

namespace GemmaServer.Text;

/// <summary>
/// Turns bytes that arrive in pieces into text: gives out what is complete, holds back at most 3 bytes of a scalar that may
/// still be completed, and writes one U+FFFD per byte that cannot be. Its buffers are reused.
/// </summary>
internal sealed class Utf8Assembler
{
    private byte[] _bytes = new byte[64];   // pending bytes first
    private char[] _chars = new char[64];
    private int _pending;

    /// <summary>The text now certain; valid until the next call.</summary>
    public ReadOnlySpan<char> Push(ReadOnlySpan<byte> bytes)
    {
        int count = _pending + bytes.Length;
        if (_bytes.Length < count)
        {
            Array.Resize(ref _bytes, count * 2);
            _chars = new char[_bytes.Length];   // a byte never gives more than one unit
        }
        bytes.CopyTo(_bytes.AsSpan(_pending));
        return Decode(_bytes.AsSpan(0, count));
    }

    /// <summary>One U+FFFD for each byte held back; valid until the next call.</summary>
    public ReadOnlySpan<char> Flush()
    {
        Span<char> text = _chars.AsSpan(0, _pending);
        text.Fill('\uFFFD');
        _pending = 0;
        return text;
    }

    private ReadOnlySpan<char> Decode(ReadOnlySpan<byte> rest)
    {
        int written = 0;
        while (true)
        {
            OperationStatus status = Utf8.ToUtf16(rest, _chars.AsSpan(written), out int read, out int units, replaceInvalidSequences: false, isFinalBlock: false);
            rest = rest[read..];
            written += units;
            if (status != OperationStatus.InvalidData) break;
            Rune.DecodeFromUtf8(rest, out _, out int invalid);
            _chars.AsSpan(written, invalid).Fill('\uFFFD');
            rest = rest[invalid..];
            written += invalid;
        }
        rest.CopyTo(_bytes);
        _pending = rest.Length;
        return _chars.AsSpan(0, written);
    }
}
