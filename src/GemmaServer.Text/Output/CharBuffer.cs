namespace GemmaServer.Text;

/// <summary>A growing run of characters that can be looked at as a span; reused, so it settles at its largest size.</summary>
internal sealed class CharBuffer
{
    private char[] _chars = new char[64];

    public int Length { get; private set; }

    public ReadOnlySpan<char> Span => _chars.AsSpan(0, Length);

    public void Append(char c)
    {
        if (Length == _chars.Length) Array.Resize(ref _chars, Length * 2);
        _chars[Length++] = c;
    }

    public void Append(ReadOnlySpan<char> text)
    {
        while (_chars.Length - Length < text.Length) Array.Resize(ref _chars, _chars.Length * 2);
        text.CopyTo(_chars.AsSpan(Length));
        Length += text.Length;
    }

    public void Insert(int at, char c)
    {
        Append(c);
        _chars.AsSpan(at, Length - 1 - at).CopyTo(_chars.AsSpan(at + 1));
        _chars[at] = c;
    }

    public void Clear() => Length = 0;
}
