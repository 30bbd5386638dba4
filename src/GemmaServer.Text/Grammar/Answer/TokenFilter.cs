namespace GemmaServer.Text;

/// <summary>
/// Keeps an answer to a list of tokens, or from runs of tokens (words that must not come). Gives way where it would leave nothing
/// of what the grammar inside allows.
/// </summary>
public sealed class TokenFilter : TokenConstraint
{
    private const int MostKnown = 64;       // masks of 32 KB each in a full vocabulary

    private readonly TokenConstraint? _inner;
    private readonly ulong[] _all;
    private readonly ulong[]? _only;
    private readonly int[][] _runs;
    private readonly List<int> _tokens = [];
    private readonly Dictionary<Key, ulong[]?> _known = [];

    /// <param name="inner">What else the answer keeps to; null for nothing.</param>
    /// <param name="vocabularySize">Token ids are below it.</param>
    /// <param name="only">The tokens that may come; null for all.</param>
    /// <param name="runs">Tokens that may not come one after another; of at least two tokens each, since single ones can be banned.</param>
    public TokenFilter(TokenConstraint? inner, int vocabularySize, IReadOnlyList<int>? only, IReadOnlyList<int[]> runs)
    {
        _inner = inner;
        _all = TokenMask.All(vocabularySize);
        _only = only is null ? null : TokenMask.Of(vocabularySize, [.. only]);
        _runs = [.. runs];
    }

    /// <inheritdoc/>
    public override ulong[]? Allowed
    {
        get
        {
            ulong[]? inner = _inner?.Allowed;
            int last = EndOfRuns(out int banned);
            if (_only is null && banned == 0) return inner;
            Key key = new(inner, banned == 1 ? last : -1);
            if (banned <= 1 && _known.TryGetValue(key, out ulong[]? known)) return known;
            ulong[]? mask = Filter(inner);
            if (banned > 1) return mask;
            if (_known.Count == MostKnown) _known.Clear();
            return _known[key] = mask;
        }
    }

    /// <inheritdoc/>
    public override bool TryPush(int token)
    {
        if (!TokenMask.Has(Allowed, token) || _inner?.TryPush(token) == false) return false;
        _tokens.Add(token);
        return true;
    }

    /// <inheritdoc/>
    public override void Rewind(int count)
    {
        _inner?.Rewind(count);
        _tokens.RemoveRange(_tokens.Count - count, count);
    }

    private ulong[]? Filter(ulong[]? inner)
    {
        ulong[]? mask = _only is null ? inner : inner is null ? _only : TokenMask.Common(inner, _only) ?? inner;
        foreach (int[] run in _runs)
        {
            if (!IsBegun(run)) continue;
            ulong[] before = mask ?? _all;
            mask = TokenMask.Without(before, run[^1]) ?? before;
        }
        return mask;
    }

    /// <summary>The last token of a run of which all others have come; how many such runs there are.</summary>
    private int EndOfRuns(out int count)
    {
        count = 0;
        int last = -1;
        foreach (int[] run in _runs)
        {
            if (!IsBegun(run)) continue;
            count++;
            last = run[^1];
        }
        return last;
    }

    private bool IsBegun(int[] run)
    {
        int length = run.Length - 1;
        if (_tokens.Count < length) return false;
        for (int i = 0; i < length; i++)
            if (_tokens[_tokens.Count - length + i] != run[i]) return false;
        return true;
    }

    private readonly record struct Key(ulong[]? Inner, int Banned);
}
