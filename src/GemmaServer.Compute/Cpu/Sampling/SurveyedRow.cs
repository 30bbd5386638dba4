namespace GemmaServer.Compute;

/// <summary>A row of logits with the greatest of each of its <see cref="LogitBlocks"/>.</summary>
/// <param name="logits">One for each token id.</param>
/// <param name="maxima">By block.</param>
/// <param name="cap">What the logits are still to be soft-capped with; 0 for nothing.</param>
internal readonly ref struct SurveyedRow(Span<float> logits, Span<float> maxima, float cap)
{
    public Span<float> Logits { get; } = logits;

    public Span<float> Maxima { get; } = maxima;

    public float Cap { get; } = cap;

    /// <summary>Bars what is not allowed, if anything is, and finds the maxima.</summary>
    public void Survey(ulong[]? allowed)
    {
        if (allowed is not null) LogitMask.Apply(Logits, allowed);
        LogitBlocks.Survey(Logits, Maxima);
    }

    public void Set(int token, float value) => LogitBlocks.Set(Logits, Maxima, token, value);
}
