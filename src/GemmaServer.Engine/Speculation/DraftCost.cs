namespace GemmaServer.Engine;

/// <summary>
/// What one more row costs in a decode step, as a share of what a token costs now: the chance of being right that a guess
/// must have to pay. Small where a step is bound by reading the weights, near one where it is bound by arithmetic.
/// </summary>
/// <remarks>
/// Fits seconds = a + b · rows to the decode steps of the last while (least squares, older steps fading). A token of n
/// sequences costs (a + b·n) / n, a row more costs b, so the share is b·n / (a + b·n).
/// </remarks>
internal sealed class DraftCost
{
    /// <summary>Where nothing is known: about what a few rows cost on devices that are bound by memory.</summary>
    public const double Unknown = 0.25;

    /// <summary>Guesses that are wrong six times in seven are not worth their rows even where these are nearly free.</summary>
    public const double Least = 0.15;

    /// <summary>Where rows cost in full, only what is nearly sure is guessed.</summary>
    public const double Most = 0.95;

    private const double Fade = 0.98;
    private double _weight, _rows, _seconds, _rowsRows, _rowsSeconds;

    /// <summary>Takes in a step that decoded only.</summary>
    public void Observe(int rows, double seconds)
    {
        _weight = _weight * Fade + 1;
        _rows = _rows * Fade + rows;
        _seconds = _seconds * Fade + seconds;
        _rowsRows = _rowsRows * Fade + (double)rows * rows;
        _rowsSeconds = _rowsSeconds * Fade + rows * seconds;
    }

    /// <summary>The share for a step of so many sequences, between <see cref="Least"/> and <see cref="Most"/>.</summary>
    public double Share(int sequences)
    {
        double meanRows = _rows / _weight, meanSeconds = _seconds / _weight;
        double variance = _rowsRows / _weight - meanRows * meanRows;
        if (!(variance > 1e-3) || _weight < 8) return Unknown;      // also where there is nothing yet: 0 / 0

        double perRow = Math.Max(0, (_rowsSeconds / _weight - meanRows * meanSeconds) / variance);
        double fixedPart = Math.Max(0, meanSeconds - perRow * meanRows);
        double all = fixedPart + perRow * sequences;
        return all > 0 ? Math.Clamp(perRow * sequences / all, Least, Most) : Unknown;
    }
}
