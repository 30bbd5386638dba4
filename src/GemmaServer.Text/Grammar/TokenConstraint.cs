namespace GemmaServer.Text;

/// <summary>Which tokens may come next in one answer. Belongs to one request; the engine thread alone uses it.</summary>
public abstract class TokenConstraint
{
    /// <summary>
    /// One bit for each token id, set where the token may come next, at least one of them; null where any may. The array is never
    /// changed once it was given out, so that one can be kept for each state of a grammar.
    /// </summary>
    public abstract ulong[]? Allowed { get; }

    /// <summary>Takes the next token in; false, and nothing has changed, where it is not allowed.</summary>
    public abstract bool TryPush(int token);

    /// <summary>Takes the last tokens back: guesses that were only looked at.</summary>
    /// <param name="count">At most as many as were pushed.</param>
    public abstract void Rewind(int count);
}
