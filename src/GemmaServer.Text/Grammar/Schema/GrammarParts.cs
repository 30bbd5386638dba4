namespace GemmaServer.Text;

/// <summary>Builders over <see cref="GrammarNode"/> that keep what matches nothing from hiding inside larger nodes.</summary>
internal static class GrammarParts
{
    /// <summary>Matches no text at all.</summary>
    public static GrammarNode Nothing { get; } = GrammarNode.Choice();

    /// <summary>Any text, the empty one too.</summary>
    public static GrammarNode AnyText { get; } = GrammarNode.Repeat(GrammarNode.AnyChar, 0, null);

    /// <summary>A decimal digit.</summary>
    public static GrammarNode Digit { get; } = Range('0', '9');

    public static bool IsNothing(GrammarNode node) => node switch
    {
        GrammarChoice choice => choice.Options.Count == 0,
        GrammarChars chars => chars.Ranges.Count == 0,
        _ => false,
    };

    public static GrammarNode Range(int first, int last) => GrammarNode.Chars(new CodePointRange(first, last));

    /// <summary>One of the characters of an ASCII list: single ones and ranges as in <c>a-z</c>; a hyphen comes first or last.</summary>
    public static GrammarNode OneOf(string list)
    {
        List<CodePointRange> ranges = [];
        for (int i = 0; i < list.Length; i++)
        {
            bool isRange = i + 2 < list.Length && list[i + 1] == '-';
            ranges.Add(new(list[i], isRange ? list[i + 2] : list[i]));
            if (isRange) i += 2;
        }
        return GrammarNode.Chars([.. ranges]);
    }

    /// <summary>One after another; nothing where a part is nothing.</summary>
    public static GrammarNode Seq(params ReadOnlySpan<GrammarNode> parts)
    {
        List<GrammarNode> kept = [];
        foreach (GrammarNode part in parts)
        {
            if (IsNothing(part)) return Nothing;
            if (!ReferenceEquals(part, GrammarNode.Empty)) kept.Add(part);
        }
        return kept.Count switch { 0 => GrammarNode.Empty, 1 => kept[0], _ => GrammarNode.Sequence([.. kept]) };
    }

    /// <summary>One of them, those left out that match nothing.</summary>
    public static GrammarNode Alt(params ReadOnlySpan<GrammarNode> options)
    {
        List<GrammarNode> kept = [];
        HashSet<GrammarNode> seen = [];
        foreach (GrammarNode option in options)
            if (!IsNothing(option) && seen.Add(option)) kept.Add(option);
        return kept.Count == 1 ? kept[0] : GrammarNode.Choice([.. kept]);
    }

    /// <summary>Once or not at all.</summary>
    public static GrammarNode Maybe(GrammarNode body) => Times(body, 0, 1);

    /// <summary>So many times; nothing where that cannot be.</summary>
    public static GrammarNode Times(GrammarNode body, int min, int? max)
    {
        if (max < min || (min > 0 && IsNothing(body))) return Nothing;
        if (max == 0 || IsNothing(body) || ReferenceEquals(body, GrammarNode.Empty)) return GrammarNode.Empty;
        return (min, max) is (1, 1) ? body : GrammarNode.Repeat(body, min, max);
    }

    /// <summary>One of these texts.</summary>
    public static GrammarNode Words(IEnumerable<string> words) => Alt([.. words.Select(GrammarNode.Literal)]);
}
