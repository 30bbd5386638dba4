using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Regular expressions as grammars, in the two ways that fields mean them.</summary>
internal static class TextPatterns
{
    /// <summary>llama.cpp's notation for grammars.</summary>
    public static GrammarNode Gbnf(string grammar) => throw new GrammarException("Grammars cannot be followed yet.");

    /// <summary>Texts that are matched from beginning to end.</summary>
    public static GrammarNode Whole(string pattern) => throw new GrammarException("Regular expressions cannot be followed yet.");

    /// <summary>Texts in which the pattern is found somewhere.</summary>
    public static GrammarNode Search(string pattern) => throw new GrammarException("Regular expressions cannot be followed yet.");
}
