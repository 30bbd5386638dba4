using System.Text;

namespace GemmaServer.Text;

/// <summary>Writes nodes into a <see cref="GrammarGraph"/>; a list of what is left to do takes the place of recursion.</summary>
/// <param name="survey">What is called and what copied.</param>
/// <param name="budget">For all of it.</param>
/// <param name="isRegular">Copy everything, and refuse what cannot be: for operands of intersections.</param>
internal sealed class GraphBuilder(NodeSurvey survey, CompileBudget budget, bool isRegular)
{
    private readonly GrammarGraph _graph = new(budget);
    private readonly Dictionary<GrammarNode, int> _units = [];
    private readonly List<GrammarNode> _unitNodes = [];
    private readonly Stack<(GrammarNode Node, int From, int To, bool IsUnit)> _open = new();

    public GrammarGraph Build(GrammarNode root)
    {
        Unit(root);
        for (int i = 0; i < _unitNodes.Count; i++)
        {
            int start = _graph.AddState(), end = _graph.AddState();
            _graph.Units.Add((start, end));
            _open.Push((_unitNodes[i], start, end, true));
            while (_open.TryPop(out (GrammarNode Node, int From, int To, bool IsUnit) item)) Write(item.Node, item.From, item.To, item.IsUnit);
        }
        return _graph;
    }

    private int Unit(GrammarNode node)
    {
        if (_units.TryGetValue(node, out int unit)) return unit;
        unit = _unitNodes.Count;
        _units.Add(node, unit);
        _unitNodes.Add(node);
        return unit;
    }

    private void Write(GrammarNode node, int from, int to, bool isUnit)
    {
        NodeInfo info = survey[node];
        budget.Spend(1);
        if (isRegular && info.IsRecursive) throw new GrammarException("A recursive rule cannot take part in an intersection or a difference.");
        if (!isRegular && !isUnit && info.IsUnit)
        {
            _graph.AddCall(from, new(Unit(node), 1, 1), to);
            return;
        }
        switch (node)
        {
            case GrammarLiteral literal: WriteLiteral(literal.Text, from, to); break;
            case GrammarChars: WriteCharacters(info.Utf8!, from, to); break;
            case GrammarToken token:
                if (isRegular) throw new GrammarException("A special token cannot take part in an intersection or a difference.");
                _graph.AddEdge(from, EdgeKind.Token, token.Id, 0, to);
                break;
            case GrammarSequence sequence: WriteSequence(sequence.Parts, from, to); break;
            case GrammarChoice choice:
                foreach (GrammarNode option in choice.Options) Push(option, from, to);
                break;
            case GrammarRepeat repeat: WriteRepeat(repeat, from, to); break;
            case GrammarBoth: WriteProduct(info.Product!, from, to); break;
            case GrammarRule rule: Push(rule.Body!, from, to); break;
            default: throw new ArgumentException($"{node.GetType()} is no known node.", nameof(node));
        }
    }

    private void Push(GrammarNode node, int from, int to)
    {
        budget.Spend(1);
        _open.Push((node, from, to, false));
    }

    private void WriteLiteral(string text, int from, int to)
    {
        byte[] bytes;
        try
        {
            bytes = s_strict.GetBytes(text);
        }
        catch (EncoderFallbackException)
        {
            throw new GrammarException("A text has half of a surrogate pair, which no UTF-8 can spell.");
        }
        for (int i = 0; i < bytes.Length; i++)
        {
            int next = i == bytes.Length - 1 ? to : _graph.AddState();
            _graph.AddEdge(from, EdgeKind.Bytes, bytes[i], bytes[i], next);
            from = next;
        }
        if (bytes.Length == 0) _graph.AddEdge(from, EdgeKind.Empty, 0, 0, to);
    }

    private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private void WriteCharacters(Utf8Range[] pieces, int from, int to)
    {
        foreach (Utf8Range piece in pieces)
        {
            int state = from;
            for (int at = 0; at < piece.Length; at++)
            {
                int next = at == piece.Length - 1 ? to : _graph.AddState();
                _graph.AddEdge(state, EdgeKind.Bytes, piece.Low(at), piece.High(at), next);
                state = next;
            }
        }
    }

    private void WriteSequence(IReadOnlyList<GrammarNode> parts, int from, int to)
    {
        if (parts.Count == 0) _graph.AddEdge(from, EdgeKind.Empty, 0, 0, to);
        for (int i = 0; i < parts.Count; i++)
        {
            int next = i == parts.Count - 1 ? to : _graph.AddState();
            Push(parts[i], from, next);
            from = next;
        }
    }

    private void WriteRepeat(GrammarRepeat repeat, int from, int to)
    {
        // Ends of repetitions are states of their own: the caller's may have other ways in and out.
        if (!isRegular && !survey.IsUnrolled(repeat))
        {
            _graph.AddCall(from, new(Unit(repeat.Body), repeat.Min, repeat.Max ?? int.MaxValue), to);
            return;
        }
        for (int i = 0; i < repeat.Min; i++)
        {
            int next = _graph.AddState();
            Push(repeat.Body, from, next);
            from = next;
        }
        if (repeat.Max is not { } max)
        {
            int loop = _graph.AddState();
            _graph.AddEdge(from, EdgeKind.Empty, 0, 0, loop);
            Push(repeat.Body, loop, loop);
            from = loop;
            max = 0;
        }
        for (int i = repeat.Min; i < max; i++)
        {
            _graph.AddEdge(from, EdgeKind.Empty, 0, 0, to);
            int next = _graph.AddState();
            Push(repeat.Body, from, next);
            from = next;
        }
        _graph.AddEdge(from, EdgeKind.Empty, 0, 0, to);
    }

    private void WriteProduct(Automaton product, int from, int to)
    {
        int[] states = new int[product.StateCount];
        for (int i = 0; i < states.Length; i++) states[i] = _graph.AddState();
        _graph.AddEdge(from, EdgeKind.Empty, 0, 0, states[0]);
        for (int i = 0; i < states.Length; i++)
        {
            foreach (ByteRange range in product.RangesOf(i)) _graph.AddEdge(states[i], EdgeKind.Bytes, range.First, range.Last, states[range.Target]);
            if (product.IsEnd[i]) _graph.AddEdge(states[i], EdgeKind.Empty, 0, 0, to);
        }
    }
}
