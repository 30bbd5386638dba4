namespace GemmaServer.Text;

/// <summary>
/// Lets an answer think for so many tokens: then the thought is closed, and none is opened again. Counted are the tokens between
/// <c>&lt;|channel&gt;</c> and <c>&lt;channel|&gt;</c>, the channel's name included, over all thoughts of the answer.
/// </summary>
public sealed class ThoughtBudget : TokenConstraint
{
    private readonly TokenConstraint? _inner;
    private readonly int _open;
    private readonly int _close;
    private readonly int _budget;
    private readonly int _vocabularySize;
    private readonly ulong[] _onlyClose;
    private readonly List<State> _past = [];
    private State _now;
    private ulong[]? _unopened, _unopenedFrom;      // the last mask that the opener was taken out of, and the result

    /// <param name="inner">What else the answer keeps to; null for nothing.</param>
    /// <param name="special">The channel's tokens.</param>
    /// <param name="vocabularySize">Token ids are below it.</param>
    /// <param name="budget">Tokens; 0 does not let a thought begin.</param>
    /// <param name="start">Whether the prompt left a thought open.</param>
    public ThoughtBudget(TokenConstraint? inner, SpecialTokens special, int vocabularySize, int budget, PromptState start)
    {
        (_inner, _open, _close, _budget, _vocabularySize) = (inner, special.ChannelStart, special.ChannelEnd, budget, vocabularySize);
        _now = new State(0, start == PromptState.ThoughtOpen);
        _onlyClose = TokenMask.Of(vocabularySize, _close);
    }

    private enum Rule { None, MustClose, MayNotOpen }

    /// <inheritdoc/>
    public override ulong[]? Allowed
    {
        get
        {
            ulong[]? inner = _inner?.Allowed;
            return RuleFor(inner) switch
            {
                Rule.MustClose => _onlyClose,
                Rule.MayNotOpen => WithoutOpener(inner),
                _ => inner,
            };
        }
    }

    /// <inheritdoc/>
    public override bool TryPush(int token)
    {
        ulong[]? allowed = Allowed;
        if (!TokenMask.Has(allowed, token) || _inner?.TryPush(token) == false) return false;
        _past.Add(_now);
        if (token == _open) _now = _now with { IsOpen = true };
        else if (token == _close) _now = _now with { IsOpen = false };
        else if (_now.IsOpen) _now = _now with { Spent = _now.Spent + 1 };
        return true;
    }

    /// <inheritdoc/>
    public override void Rewind(int count)
    {
        if (count == 0) return;
        _inner?.Rewind(count);
        _now = _past[^count];
        _past.RemoveRange(_past.Count - count, count);
    }

    private Rule RuleFor(ulong[]? inner)
    {
        if (_now.Spent < _budget) return Rule.None;
        // Where a character is half spelled, a grammar lets nothing but its rest come: the thought is closed behind it.
        if (_now.IsOpen) return TokenMask.Has(inner, _close) ? Rule.MustClose : Rule.None;
        return _open >= 0 && TokenMask.Has(inner, _open) ? Rule.MayNotOpen : Rule.None;
    }

    private ulong[]? WithoutOpener(ulong[]? inner)
    {
        if (_unopened is null || !ReferenceEquals(inner, _unopenedFrom))
        {
            _unopenedFrom = inner;
            _unopened = TokenMask.Without(inner ?? TokenMask.All(_vocabularySize), _open) ?? inner;
        }
        return _unopened;
    }

    private readonly record struct State(int Spent, bool IsOpen);
}
