using System.Text;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>Vocabularies of the grammar tests: 256 bytes, pieces of words with whole and broken characters, special tokens.</summary>
internal static class GrammarVocabulary
{
    public const int Special = 0, OtherSpecial = 1, FirstByte = 2;

    private static readonly string[] s_characters = ["a", "b", "c", "d", "é", "日", "😀", "\"", " "];

    public static TokenTrie Small { get; } = Make(2_000, 7);

    public static TokenTrie Make(int size, int seed, string[]? characters = null)
    {
        Random random = new(seed);
        characters ??= s_characters;
        List<byte[]> tokens = [[], []];
        for (int b = 0; b < 256; b++) tokens.Add([(byte)b]);
        while (tokens.Count < size)
        {
            byte[] text = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, random.Next(1, 7)).Select(_ => characters[random.Next(characters.Length)])));
            // Some begin or end within a character, which Gemma's own do not, but byte tokens may be joined to them.
            int start = random.Next(4) == 0 ? random.Next(text.Length) : 0;
            int end = random.Next(4) == 0 ? random.Next(start + 1, text.Length + 1) : text.Length;
            tokens.Add(text[start..end]);
        }
        return new TokenTrie([.. tokens]);
    }

    public static bool Has(ulong[] mask, int token) => (mask[token >> 6] >> token & 1) != 0;

    /// <summary>Pushes a text byte by byte.</summary>
    public static bool TryPushText(GrammarMatcher matcher, string text)
    {
        foreach (byte value in Encoding.UTF8.GetBytes(text))
            if (!matcher.TryPush(FirstByte + value)) return false;
        return true;
    }

    public static bool Matches(GrammarNode node, string text) => CompiledGrammar.Compile(node, Small).Matches(Encoding.UTF8.GetBytes(text));
}
