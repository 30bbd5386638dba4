namespace GemmaServer.Text;

/// <summary>Free text around fixed words. All of it is regular, so it costs an answer no more than any text does.</summary>
internal static class FreeText
{
    private static readonly GrammarNode s_someText = GrammarNode.Repeat(GrammarNode.AnyChar, 1, null);

    /// <summary>Text in which none of the words is.</summary>
    public static GrammarNode Without(IReadOnlyList<string> words) => words.Count == 0
        ? GrammarParts.AnyText
        : GrammarNode.Except(AnyText(words), GrammarNode.Sequence(GrammarParts.AnyText, GrammarParts.Words(words), GrammarParts.AnyText));

    /// <summary>Text up to the first place where a stop ends, that stop with it, if it is one of the words.</summary>
    /// <param name="words">Some of the stops, or all.</param>
    /// <param name="stops">What the text ends with, wherever it comes first.</param>
    /// <param name="excluded">What must not be in the text before.</param>
    public static GrammarNode Through(IReadOnlyList<string> words, IReadOnlyList<string> stops, IReadOnlyList<string> excluded) => GrammarNode.Except(
        GrammarNode.Sequence(excluded.Count == 0 ? AnyText(stops) : Without(excluded), GrammarParts.Words(words)),
        GrammarNode.Sequence(GrammarParts.AnyText, GrammarParts.Words(stops), s_someText));

    /// <summary>Any text, put so that the characters no word begins with are a set of their own: masks know its tokens beforehand.</summary>
    private static GrammarNode AnyText(IReadOnlyList<string> words)
    {
        CodePointRange[] firsts = [.. words.Select(static w => w.EnumerateRunes().First().Value).Select(static c => new CodePointRange(c, c))];
        return GrammarNode.Repeat(GrammarNode.Choice(GrammarNode.Chars(CodePointSet.Complement(firsts)), GrammarNode.Chars(firsts)), 0, null);
    }
}
