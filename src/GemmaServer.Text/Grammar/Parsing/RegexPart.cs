namespace GemmaServer.Text;

/// <summary>
/// What a part of a regular expression matches, sorted by where it must stand: anywhere, at the start of the text, at its end, or
/// both. This is how <c>^</c> and <c>$</c> are followed wherever they are.
/// </summary>
internal sealed class RegexPart
{
    private const int AtStart = 1, AtEnd = 2, Kinds = 4;

    private readonly GrammarNode?[] _nodes = new GrammarNode?[Kinds];
    private readonly bool[] _isEmpty = new bool[Kinds];   // whether the empty text is among them

    /// <summary><c>^</c>.</summary>
    public static RegexPart Start { get; } = EmptyAt(AtStart);

    /// <summary><c>$</c>.</summary>
    public static RegexPart End { get; } = EmptyAt(AtEnd);

    private static RegexPart Empty { get; } = EmptyAt(0);

    private bool HasAnchors => _nodes[1] is not null || _nodes[2] is not null || _nodes[3] is not null;

    /// <summary>A node that does not match the empty text.</summary>
    public static RegexPart Of(GrammarNode node)
    {
        RegexPart part = new();
        part._nodes[0] = node;
        return part;
    }

    public static RegexPart Choice(List<RegexPart> options)
    {
        if (options.Count == 1) return options[0];
        RegexPart choice = new();
        for (int kind = 0; kind < Kinds; kind++)
        {
            List<GrammarNode> nodes = [];
            foreach (RegexPart option in options)
            {
                if (option._nodes[kind] is not { } node) continue;
                nodes.Add(node);
                choice._isEmpty[kind] |= option._isEmpty[kind];
            }
            if (nodes.Count > 0) choice._nodes[kind] = GrammarNode.Choice([.. nodes]);
        }
        return choice;
    }

    public static RegexPart Sequence(List<RegexPart> parts)
    {
        if (parts.Count == 0) return Empty;
        // Long runs without anchors are one flat node.
        RegexPart? before = null;
        for (int i = 0; i < parts.Count;)
        {
            int end = i;
            while (end < parts.Count && !parts[end].HasAnchors) end++;
            RegexPart next = end - i > 1 ? Plain(parts, i, end) : parts[i];
            i = Math.Max(end, i + 1);
            before = before is null ? next : Join(before, next);
        }
        return before!;
    }

    /// <summary>So many times; null where that has an anchor.</summary>
    public RegexPart? Repeat(int min, int? max)
    {
        if (HasAnchors)
        {
            if ((min, max) is (1, 1)) return this;
            return (min, max) is (0, 1) ? Choice([Empty, this]) : null;
        }
        RegexPart part = new();
        if (_nodes[0] is null) return min == 0 ? Empty : part;
        part._nodes[0] = GrammarNode.Repeat(_nodes[0]!, min, max);
        part._isEmpty[0] = min == 0 || _isEmpty[0];
        return part;
    }

    /// <summary>The texts that match as a whole.</summary>
    public GrammarNode Exactly() => Union(static (node, _) => node);

    /// <summary>The texts with a part that matches.</summary>
    public GrammarNode Anywhere()
    {
        GrammarNode any = GrammarNode.Repeat(GrammarNode.AnyChar, 0, null);
        return Union((node, kind) => GrammarNode.Sequence(
            (kind & AtStart) != 0 ? GrammarNode.Empty : any, node, (kind & AtEnd) != 0 ? GrammarNode.Empty : any));
    }

    private GrammarNode Union(Func<GrammarNode, int, GrammarNode> framed)
    {
        List<GrammarNode> nodes = [];
        for (int kind = 0; kind < Kinds; kind++)
            if (_nodes[kind] is { } node) nodes.Add(framed(node, kind));
        return nodes.Count == 1 ? nodes[0] : GrammarNode.Choice([.. nodes]);
    }

    private static RegexPart EmptyAt(int kind)
    {
        RegexPart part = new();
        part._nodes[kind] = GrammarNode.Empty;
        part._isEmpty[kind] = true;
        return part;
    }

    private static RegexPart Plain(List<RegexPart> parts, int start, int end)
    {
        RegexPart joined = new();
        List<GrammarNode> nodes = [];
        joined._isEmpty[0] = true;
        for (int i = start; i < end; i++)
        {
            if (parts[i]._nodes[0] is not { } node) return new RegexPart();   // matches nothing
            nodes.Add(node);
            joined._isEmpty[0] &= parts[i]._isEmpty[0];
        }
        joined._nodes[0] = GrammarNode.Sequence([.. nodes]);
        return joined;
    }

    private static RegexPart Join(RegexPart a, RegexPart b)
    {
        RegexPart[] pairs = new RegexPart[Kinds * Kinds];
        for (int i = 0; i < pairs.Length; i++) pairs[i] = Join(a, i / Kinds, b, i % Kinds);
        return Choice([.. pairs]);
    }

    private static RegexPart Join(RegexPart a, int kindOfA, RegexPart b, int kindOfB)
    {
        RegexPart joined = new();
        if (a._nodes[kindOfA] is not { } first || b._nodes[kindOfB] is not { } second) return joined;
        // What must be at the start has nothing before it, and what must be at the end nothing behind it.
        bool isFirstEmpty = (kindOfB & AtStart) != 0, isSecondEmpty = (kindOfA & AtEnd) != 0;
        if ((isFirstEmpty && !a._isEmpty[kindOfA]) || (isSecondEmpty && !b._isEmpty[kindOfB])) return joined;
        if (isFirstEmpty) first = GrammarNode.Empty;
        if (isSecondEmpty) second = GrammarNode.Empty;
        int kind = kindOfA | kindOfB;
        joined._nodes[kind] = GrammarNode.Sequence(first, second);
        joined._isEmpty[kind] = a._isEmpty[kindOfA] && b._isEmpty[kindOfB];
        return joined;
    }
}
