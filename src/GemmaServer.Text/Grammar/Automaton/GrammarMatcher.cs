namespace GemmaServer.Text;

/// <summary>Holds one answer to a grammar.</summary>
/// <remarks>
/// Once the grammar has come to its end, it says nothing of what follows: <see cref="Allowed"/> is null and every token is taken.
/// Tokens that were pushed can be taken back up to <see cref="MaxRewind"/> of them.
/// </remarks>
/// <param name="grammar">May be shared.</param>
public sealed class GrammarMatcher(CompiledGrammar grammar) : TokenConstraint
{
    /// <summary>How far back <see cref="Rewind"/> reaches: four times what speculation guesses at most.</summary>
    public const int MaxRewind = 256;

    private readonly GrammarState[] _before = new GrammarState[MaxRewind];   // a ring
    private GrammarState _state = grammar.Start;
    private long _pushed;
    private int _kept;

    /// <inheritdoc/>
    public override ulong[]? Allowed => _state.IsFinished ? null : grammar.Mask(_state);

    /// <summary>The text so far may end here.</summary>
    public bool IsComplete => _state.IsComplete;

    /// <summary>The text so far can only end here.</summary>
    public bool IsFinished => _state.IsFinished;

    /// <inheritdoc/>
    public override bool TryPush(int token)
    {
        GrammarState next = _state.IsFinished ? _state : grammar.Push(_state, token);
        if (next == GrammarState.Dead) return false;
        _before[_pushed++ % MaxRewind] = _state;
        _kept = Math.Min(_kept + 1, MaxRewind);
        _state = next;
        return true;
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentOutOfRangeException">More than were pushed, or more than <see cref="MaxRewind"/>.</exception>
    public override void Rewind(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, _kept);
        if (count == 0) return;
        _pushed -= count;
        _kept -= count;
        _state = _before[_pushed % MaxRewind];
    }
}
