namespace GemmaServer.Text;

/// <summary>One to four byte ranges, one after another: some code points in UTF-8, all of the same length.</summary>
/// <param name="Length">Number of bytes.</param>
/// <param name="First">Lowest bytes; the first one in the low eight bits.</param>
/// <param name="Last">Highest bytes.</param>
internal readonly record struct Utf8Range(int Length, uint First, uint Last)
{
    public byte Low(int at) => (byte)(First >> (8 * at));

    public byte High(int at) => (byte)(Last >> (8 * at));
}

/// <summary>Splits ranges of code points so that each byte of a piece varies independently of the others.</summary>
internal static class Utf8Ranges
{
    /// <summary>Appends the pieces of normalized ranges.</summary>
    public static void Split(ReadOnlySpan<CodePointRange> ranges, List<Utf8Range> output)
    {
        foreach (CodePointRange range in ranges) Split(range.First, range.Last, output);
    }

    private static void Split(int first, int last, List<Utf8Range> output)
    {
        foreach (int longest in (ReadOnlySpan<int>)[0x7F, 0x7FF, 0xFFFF])
        {
            if (first > longest || last <= longest) continue;
            Split(first, longest, output);
            Split(longest + 1, last, output);
            return;
        }
        // Where leading bytes differ, the trailing ones must run over their whole range.
        for (int i = 1; last > 0x7F && i < 4; i++)
        {
            int trailing = (1 << (6 * i)) - 1;
            if ((first & ~trailing) == (last & ~trailing)) continue;
            if ((first & trailing) != 0)
            {
                Split(first, first | trailing, output);
                Split((first | trailing) + 1, last, output);
                return;
            }
            if ((last & trailing) == trailing) continue;
            Split(first, (last & ~trailing) - 1, output);
            Split(last & ~trailing, last, output);
            return;
        }
        output.Add(new(Length(first), Encode(first), Encode(last)));
    }

    private static int Length(int codePoint) => codePoint <= 0x7F ? 1 : codePoint <= 0x7FF ? 2 : codePoint <= 0xFFFF ? 3 : 4;

    private static uint Encode(int c) => (uint)(Length(c) switch
    {
        1 => c,
        2 => 0xC0 | (c >> 6) | (Tail(c) << 8),
        3 => 0xE0 | (c >> 12) | (Tail(c >> 6) << 8) | (Tail(c) << 16),
        _ => 0xF0 | (c >> 18) | (Tail(c >> 12) << 8) | (Tail(c >> 6) << 16) | (Tail(c) << 24),
    });

    private static int Tail(int bits) => 0x80 | (bits & 0x3F);
}
