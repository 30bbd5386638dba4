namespace GemmaServer.Text;

/// <summary>An edge by a range of bytes.</summary>
internal readonly record struct ByteRange(byte First, byte Last, int Target);

/// <summary>An edge by a call or by a special token.</summary>
internal readonly record struct SymbolEdge(int Symbol, int Target);

/// <summary>
/// A finite automaton over bytes, calls and special tokens, with the edges of all states end to end. State 0 is the start.
/// Deterministic as a rule; where that would be too large, several edges of a state may take the same byte.
/// </summary>
internal sealed class Automaton
{
    public required bool[] IsEnd { get; init; }

    /// <summary>Where each state's ranges start; one more than there are states.</summary>
    public required int[] RangeStart { get; init; }

    public required ByteRange[] Ranges { get; init; }

    public required int[] CallStart { get; init; }

    public required SymbolEdge[] Calls { get; init; }

    public required int[] TokenStart { get; init; }

    public required SymbolEdge[] Tokens { get; init; }

    public int StateCount => IsEnd.Length;

    public ReadOnlySpan<ByteRange> RangesOf(int state) => Ranges.AsSpan(RangeStart[state]..RangeStart[state + 1]);

    public ReadOnlySpan<SymbolEdge> CallsOf(int state) => Calls.AsSpan(CallStart[state]..CallStart[state + 1]);

    public ReadOnlySpan<SymbolEdge> TokensOf(int state) => Tokens.AsSpan(TokenStart[state]..TokenStart[state + 1]);
}

/// <summary>Puts an automaton together, one state after the other.</summary>
internal sealed class AutomatonWriter
{
    private readonly List<bool> _isEnd = [];
    private readonly List<int> _rangeStart = [0], _callStart = [0], _tokenStart = [0];
    private readonly List<ByteRange> _ranges = [];
    private readonly List<SymbolEdge> _calls = [], _tokens = [];

    public int StateCount => _isEnd.Count;

    public void AddRange(int first, int last, int target)
    {
        bool isSame = _ranges.Count > _rangeStart[^1] && _ranges[^1].Target == target && _ranges[^1].Last == first - 1;
        if (isSame) _ranges[^1] = _ranges[^1] with { Last = (byte)last };
        else _ranges.Add(new((byte)first, (byte)last, target));
    }

    public void AddCall(int call, int target) => _calls.Add(new(call, target));

    public void AddToken(int token, int target) => _tokens.Add(new(token, target));

    public void EndState(bool isEnd)
    {
        _isEnd.Add(isEnd);
        _rangeStart.Add(_ranges.Count);
        _callStart.Add(_calls.Count);
        _tokenStart.Add(_tokens.Count);
    }

    public Automaton ToAutomaton() => new()
    {
        IsEnd = [.. _isEnd],
        RangeStart = [.. _rangeStart],
        Ranges = [.. _ranges],
        CallStart = [.. _callStart],
        Calls = [.. _calls],
        TokenStart = [.. _tokenStart],
        Tokens = [.. _tokens],
    };
}
