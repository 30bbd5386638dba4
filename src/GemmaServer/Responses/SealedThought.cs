using System.Security.Cryptography;
using System.Text;

namespace GemmaServer;

/// <summary>
/// A thought as <c>encrypted_content</c>: opaque to clients, who bring it back where nothing is stored. It is the client's own
/// conversation, so it is not secret; a checksum finds what was damaged or comes from elsewhere.
/// </summary>
internal static class SealedThought
{
    private const int ChecksumLength = 8;

    private static ReadOnlySpan<byte> Mark => "gs1\0"u8;

    public static string Seal(string thought)
    {
        byte[] text = Encoding.UTF8.GetBytes(thought);
        return Convert.ToBase64String([.. Mark, .. Checksum(text), .. text]);
    }

    /// <summary>The thought; null when it is none of ours, or damaged.</summary>
    public static string? Open(string content)
    {
        byte[] bytes = new byte[content.Length * 3L / 4 + 3];
        if (!Convert.TryFromBase64String(content, bytes, out int length)) return null;
        ReadOnlySpan<byte> all = bytes.AsSpan(0, length);
        if (!all.StartsWith(Mark) || all.Length < Mark.Length + ChecksumLength) return null;
        ReadOnlySpan<byte> checksum = all.Slice(Mark.Length, ChecksumLength), text = all[(Mark.Length + ChecksumLength)..];
        return checksum.SequenceEqual(Checksum(text)) ? Encoding.UTF8.GetString(text) : null;
    }

    private static ReadOnlySpan<byte> Checksum(ReadOnlySpan<byte> text) => SHA256.HashData(text).AsSpan(0, ChecksumLength);
}
