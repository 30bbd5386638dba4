namespace GemmaServer.Text;

/// <summary>
/// Part of a structural tag: fixed text, a schema, free text, or a composition of these. Free text has no end of its own, so each
/// part is written together with what ends it.
/// </summary>
public abstract class TagFormat
{
    private protected TagFormat()
    {
    }

    /// <summary>The grammar of an answer that has this format.</summary>
    public GrammarNode ToGrammar() => Write([]);

    /// <summary>What a grammar describes: a constant, a schema, a regular expression.</summary>
    public static TagFormat Of(GrammarNode node) => new FixedFormat(node);

    /// <summary>Free text up to the end of what it is in.</summary>
    /// <param name="excluded">What must not be in it.</param>
    public static TagFormat AnyText(IReadOnlyList<string> excluded) => new FreeFormat(excluded);

    /// <summary>One after another.</summary>
    public static TagFormat Sequence(IReadOnlyList<TagFormat> parts) => new SequenceFormat(parts);

    /// <summary>One of them.</summary>
    public static TagFormat Choice(IReadOnlyList<TagFormat> options) => new ChoiceFormat(options);

    /// <summary>So many times.</summary>
    public static TagFormat Repeat(TagFormat body, int min, int? max) => new RepeatFormat(body, min, max);

    /// <summary>The format followed by one of these texts; by nothing where there are none.</summary>
    internal abstract GrammarNode Write(IReadOnlyList<string> ends);

    private protected static GrammarNode End(IReadOnlyList<string> ends) => ends.Count == 0 ? GrammarNode.Empty : GrammarParts.Words(ends);
}

/// <summary>Something between a begin and an end.</summary>
/// <param name="Begin">How it begins.</param>
/// <param name="Content">What stands between.</param>
/// <param name="Ends">How it may end; none where the content ends by itself or with what the tag is in.</param>
public sealed record FormatTag(string Begin, TagFormat Content, IReadOnlyList<string> Ends)
{
    /// <summary>The tag as a format of its own.</summary>
    public TagFormat AsFormat() => new TaggedFormat(this);

    /// <summary>What stands behind the begin, and what ends the format that the tag is in.</summary>
    internal GrammarNode WriteRest(IReadOnlyList<string> outerEnds)
    {
        if (Ends.Count == 0) return Content.Write(outerEnds);
        return GrammarParts.Seq(Content.Write(Ends), outerEnds.Count == 0 ? GrammarNode.Empty : GrammarParts.Words(outerEnds));
    }
}

internal sealed class FixedFormat(GrammarNode node) : TagFormat
{
    internal override GrammarNode Write(IReadOnlyList<string> ends) => GrammarParts.Seq(node, End(ends));
}

internal sealed class FreeFormat(IReadOnlyList<string> excluded) : TagFormat
{
    internal override GrammarNode Write(IReadOnlyList<string> ends) => ends.Count == 0 ? FreeText.Without(excluded) : FreeText.Through(ends, ends, excluded);
}

internal sealed class TaggedFormat(FormatTag tag) : TagFormat
{
    internal override GrammarNode Write(IReadOnlyList<string> ends) => GrammarParts.Seq(GrammarNode.Literal(tag.Begin), tag.WriteRest(ends));
}

internal sealed class SequenceFormat(IReadOnlyList<TagFormat> parts) : TagFormat
{
    internal override GrammarNode Write(IReadOnlyList<string> ends)
    {
        GrammarNode[] nodes = new GrammarNode[parts.Count];
        for (int i = 0; i < nodes.Length; i++) nodes[i] = parts[i].Write(i == nodes.Length - 1 ? ends : []);
        return GrammarParts.Seq(nodes);
    }
}

internal sealed class ChoiceFormat(IReadOnlyList<TagFormat> options) : TagFormat
{
    internal override GrammarNode Write(IReadOnlyList<string> ends)
    {
        GrammarNode[] nodes = new GrammarNode[options.Count];
        for (int i = 0; i < nodes.Length; i++) nodes[i] = options[i].Write(ends);
        return GrammarParts.Alt(nodes);
    }
}

internal sealed class RepeatFormat(TagFormat body, int min, int? max) : TagFormat
{
    internal override GrammarNode Write(IReadOnlyList<string> ends)
    {
        // Only the last one stands before the end.
        if ((min, max) is (0, 1)) return GrammarParts.Alt(body.Write(ends), End(ends));
        return GrammarParts.Seq(GrammarParts.Times(body.Write([]), min, max), End(ends));
    }
}
