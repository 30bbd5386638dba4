using System.Buffers;

namespace GemmaServer.Text;

/// <summary>Finds tokens that are matched literally in raw text: leftmost first, and the longest at that place.</summary>
internal sealed class LiteralMatcher
{
    private readonly SearchValues<string> _search;
    private readonly (string Text, int Id)[] _longestFirst;

    public LiteralMatcher(IEnumerable<(string Text, int Id)> tokens)
    {
        _longestFirst = [.. tokens.Where(t => t.Text.Length > 0).OrderByDescending(t => t.Text.Length)];
        _search = SearchValues.Create([.. _longestFirst.Select(t => t.Text)], StringComparison.Ordinal);
    }

    /// <summary>Start of the first token in <paramref name="text"/>, or −1; its length and id.</summary>
    public int Find(ReadOnlySpan<char> text, out int length, out int id)
    {
        int start = text.IndexOfAny(_search);
        if (start >= 0)
        {
            ReadOnlySpan<char> rest = text[start..];
            foreach ((string token, int tokenId) in _longestFirst)
            {
                if (!rest.StartsWith(token, StringComparison.Ordinal)) continue;
                (length, id) = (token.Length, tokenId);
                return start;
            }
        }
        (length, id) = (0, -1);
        return -1;
    }
}
