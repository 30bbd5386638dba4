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
        List<GrammarNode> triggered = [];
        foreach (string trigger in Triggers)
        {
            List<GrammarNode> rests = [];
            foreach (FormatTag tag in Tags)
                if (tag.Begin.StartsWith(trigger, StringComparison.Ordinal)) rests.Add(tag.Write(trigger.Length, []));
            if (rests.Count > 0) triggered.Add(GrammarParts.Seq(FreeText.Through([trigger], stops, Excluded), GrammarParts.Alt([.. rests])));
        }
        GrammarNode next = GrammarParts.Alt([.. triggered]);
        GrammarNode first = AtLeastOne ? GrammarParts.Alt([.. Tags.Select(static t => t.Write(0, []))]) : next;
        GrammarNode last = ends.Count == 0 ? FreeText.Without([.. Triggers, .. Excluded]) : FreeText.Through(ends, stops, Excluded);
        if (!StopAfterFirst) return GrammarParts.Seq(AtLeastOne ? first : GrammarNode.Empty, GrammarParts.Times(next, 0, null), last);
        GrammarNode only = GrammarParts.Seq(first, End(ends));
        return AtLeastOne ? only : GrammarParts.Alt(only, last);
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
        GrammarNode tag = GrammarParts.Alt([.. Tags.Select(static t => t.Write(0, []))]);
        GrammarNode tags = StopAfterFirst
            ? tag
            : GrammarParts.Seq(tag, GrammarParts.Times(GrammarParts.Seq(GrammarNode.Literal(Separator), tag), 0, null));
        return GrammarParts.Seq(AtLeastOne ? tags : GrammarParts.Maybe(tags), End(ends));
    }
}
