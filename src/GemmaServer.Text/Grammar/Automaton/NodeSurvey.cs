namespace GemmaServer.Text;

/// <summary>What is known of a node before automata are made.</summary>
internal sealed class NodeInfo
{
    /// <summary>How many places use it.</summary>
    public int Uses { get; set; }

    /// <summary>It is reached from itself.</summary>
    public bool IsRecursive { get; set; }

    /// <summary>It becomes an automaton of its own, which others call.</summary>
    public bool IsUnit { get; set; }

    /// <summary>About how many states a copy of it costs.</summary>
    public long Size { get; set; }

    /// <summary>For characters: in UTF-8.</summary>
    public Utf8Range[]? Utf8 { get; set; }

    /// <summary>For what both match, and differences: the automaton.</summary>
    public Automaton? Product { get; set; }

    public bool IsOpen { get; set; }
}

/// <summary>Goes over a grammar once, without recursion, and decides what is copied and what is called.</summary>
internal sealed class NodeSurvey
{
    /// <summary>Repetitions that stay under so many states are written out, longer ones are counted.</summary>
    public const int MaxUnrolled = 96;

    private const int MaxCopied = 24;          // larger shared parts are called
    private const int MaxCopiedCharacters = 64;

    private readonly CompileBudget _budget;
    private readonly Dictionary<GrammarNode, NodeInfo> _infos = [];
    private readonly List<GrammarNode> _postOrder = [];

    public NodeSurvey(GrammarNode root, CompileBudget budget)
    {
        _budget = budget;
        Visit(root);
        foreach (GrammarNode node in _postOrder) Measure(node);
    }

    /// <summary>Sets of characters that are large enough to hold a good part of the vocabulary's tokens.</summary>
    public HashSet<CodePointRange[]> LargeClasses { get; } = new(RangesComparer.Instance);

    public NodeInfo this[GrammarNode node] => _infos[node];

    private static int ChildCount(GrammarNode node) => node switch
    {
        GrammarSequence sequence => sequence.Parts.Count,
        GrammarChoice choice => choice.Options.Count,
        GrammarBoth => 2,
        GrammarRepeat or GrammarRule => 1,
        _ => 0,
    };

    private static GrammarNode Child(GrammarNode node, int at) => node switch
    {
        GrammarSequence sequence => sequence.Parts[at],
        GrammarChoice choice => choice.Options[at],
        GrammarBoth both => at == 0 ? both.A : both.B,
        GrammarRepeat repeat => repeat.Body,
        GrammarRule rule => rule.Body ?? throw new GrammarException($"The rule '{rule.Name}' is not defined."),
        _ => throw new ArgumentOutOfRangeException(nameof(at)),
    };

    private void Visit(GrammarNode root)
    {
        Stack<(GrammarNode Node, int Next)> path = new();
        Open(root, path);
        while (path.TryPop(out (GrammarNode Node, int Next) top))
        {
            _budget.Spend(1);
            if (top.Next == ChildCount(top.Node))
            {
                _infos[top.Node].IsOpen = false;
                _postOrder.Add(top.Node);
                continue;
            }
            path.Push((top.Node, top.Next + 1));
            GrammarNode child = Child(top.Node, top.Next);
            if (_infos.TryGetValue(child, out NodeInfo? known))
            {
                known.Uses++;
                known.IsRecursive |= known.IsOpen;
            }
            else Open(child, path);
        }
    }

    private void Open(GrammarNode node, Stack<(GrammarNode, int)> path)
    {
        if (_infos.Count >= _budget.Limits.MaxNodes) throw CompileBudget.TooMuch();
        _infos.Add(node, new NodeInfo { Uses = 1, IsOpen = true });
        path.Push((node, 0));
    }

    private void Measure(GrammarNode node)
    {
        NodeInfo info = _infos[node];
        switch (node)
        {
            case GrammarLiteral literal: info.Size = literal.Text.Length; break;
            case GrammarChars chars: MeasureCharacters(chars, info); break;
            case GrammarToken: info.Size = 1; break;
            case GrammarRepeat repeat: MeasureRepeat(repeat, info); break;
            case GrammarBoth both:
                info.Product = Products.Make(both, this, _budget);
                info.Size = info.Product.StateCount + info.Product.Ranges.Length;
                break;
            default:
                long size = 1;
                for (int i = 0; i < ChildCount(node); i++) size += SizeInPlace(Child(node, i));
                info.Size = size;
                break;
        }
        int most = node is GrammarChars ? MaxCopiedCharacters : MaxCopied;
        info.IsUnit |= info.IsRecursive || (info.Uses > 1 && info.Size > most);
    }

    private void MeasureCharacters(GrammarChars chars, NodeInfo info)
    {
        CodePointRange[] ranges = CodePointSet.Normalize(chars.Ranges);
        List<Utf8Range> pieces = [];
        Utf8Ranges.Split(ranges, pieces);
        _budget.Spend(chars.Ranges.Count + pieces.Count);
        info.Utf8 = [.. pieces];
        info.Size = pieces.Count;
        const int large = 26;   // letters, but not digits of any kind
        if (CodePointSet.Count(ranges) >= large) LargeClasses.Add(ranges);
    }

    private void MeasureRepeat(GrammarRepeat repeat, NodeInfo info)
    {
        if (repeat.Min < 0 || repeat.Max < repeat.Min) throw new GrammarException($"A repetition of {repeat.Min} to {repeat.Max} times is impossible.");
        NodeInfo body = _infos[repeat.Body];
        long size = SizeInPlace(repeat.Body);
        if (!IsUnrolled(repeat, size)) body.IsUnit = true;
        info.Size = body.IsUnit && Copies(repeat) > MaxUnrolled ? 2 : Copies(repeat) * SizeInPlace(repeat.Body) + 1;
    }

    private static long Copies(GrammarRepeat repeat) => Math.Max(1, repeat.Max ?? repeat.Min + 1L);

    /// <summary>Whether a repetition is written out rather than counted.</summary>
    public bool IsUnrolled(GrammarRepeat repeat) => IsUnrolled(repeat, SizeInPlace(repeat.Body));

    private static bool IsUnrolled(GrammarRepeat repeat, long size) => Copies(repeat) is 1 || Copies(repeat) * size <= MaxUnrolled || (repeat is { Min: 0, Max: null });

    private long SizeInPlace(GrammarNode node) => _infos[node] is { IsUnit: false, IsRecursive: false } info ? info.Size : 1;
}
