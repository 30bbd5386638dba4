namespace GemmaServer.Text;

/// <summary>
/// Free text in which, wherever one of the triggers has appeared, a tag that begins with it follows. A trigger without a tag never
/// appears.
/// </summary>
public sealed class TriggeredFormat : TagFormat
{
    /// <summary>What opens a tag; the one that is complete first counts.</summary>
    public required IReadOnlyList<string> Triggers { get; init; }

    /// <summary>Each begins with a trigger.</summary>
    public required IReadOnlyList<FormatTag> Tags { get; init; }

    /// <summary>What must not be in the free text.</summary>
    public IReadOnlyList<string> Excluded { get; init; } = [];

    /// <summary>A tag comes first, without free text before it.</summary>
    public bool AtLeastOne { get; init; }

    /// <summary>Nothing comes behind the first tag.</summary>
    public bool StopAfterFirst { get; init; }

    internal override GrammarNode Write(IReadOnlyList<string> ends)
    {
        string[] stops = [.. Triggers, .. ends];
        // Written once each: in formats within formats, twice would be twice at every level.
        GrammarNode[] rests = [.. Tags.Select(static t => t.WriteRest([]))];
        List<GrammarNode> triggered = [];
        foreach (string trigger in Triggers)
        {
            GrammarNode tags = AnyTag(trigger, rests);
            if (!GrammarParts.IsNothing(tags)) triggered.Add(GrammarParts.Seq(FreeText.Through([trigger], stops, Excluded), tags));
        }
        GrammarNode next = GrammarParts.Alt([.. triggered]);
        GrammarNode first = AtLeastOne ? AnyTag("", rests) : next;
        GrammarNode last = ends.Count == 0 ? FreeText.Without([.. Triggers, .. Excluded]) : FreeText.Through(ends, stops, Excluded);
        if (!StopAfterFirst) return GrammarParts.Seq(AtLeastOne ? first : GrammarNode.Empty, GrammarParts.Times(next, 0, null), last);
        GrammarNode only = GrammarParts.Seq(first, End(ends));
        return AtLeastOne ? only : GrammarParts.Alt(only, last);
    }

    /// <summary>Those tags that begin with a text, without it.</summary>
    private GrammarNode AnyTag(string begin, GrammarNode[] rests)
    {
        List<GrammarNode> options = [];
        for (int i = 0; i < rests.Length; i++)
            if (Tags[i].Begin.StartsWith(begin, StringComparison.Ordinal)) options.Add(GrammarParts.Seq(GrammarNode.Literal(Tags[i].Begin[begin.Length..]), rests[i]));
        return GrammarParts.Alt([.. options]);
    }
}

/// <summary>Tags with a separator between them, and nothing else.</summary>
public sealed class SeparatedFormat : TagFormat
{
    /// <summary>Those that may stand there.</summary>
    public required IReadOnlyList<FormatTag> Tags { get; init; }

    /// <summary>What stands between two of them.</summary>
    public required string Separator { get; init; }

    /// <summary>There is one or more.</summary>
    public bool AtLeastOne { get; init; }

    /// <summary>There is no second one.</summary>
    public bool StopAfterFirst { get; init; }

    internal override GrammarNode Write(IReadOnlyList<string> ends)
    {
        GrammarNode tag = GrammarParts.Alt([.. Tags.Select(static t => t.AsFormat().Write([]))]);
        GrammarNode tags = StopAfterFirst
            ? tag
            : GrammarParts.Seq(tag, GrammarParts.Times(GrammarParts.Seq(GrammarNode.Literal(Separator), tag), 0, null));
        return GrammarParts.Seq(AtLeastOne ? tags : GrammarParts.Maybe(tags), End(ends));
    }
}
