namespace GemmaServer.Engine;

/// <summary>
/// How many tokens to guess for one sequence: as long as the chance that a guess still counts is above what its row costs.
/// Falls to zero where guesses are mostly wrong, and tries a single one now and then after that.
/// </summary>
/// <remarks>
/// With a chance p for each guess, the k-th counts with p^k, so k ≤ ln(cost) / ln(p). p is the mean over the sequence's own
/// guesses, beginning with a cautious one and fading so that a change of the text shows.
/// </remarks>
/// <param name="most">Most guesses a step.</param>
/// <param name="isLikely">Whether somebody said that the guesses will be right: it begins with many, and with trust in them.</param>
internal sealed class DraftDepth(int most, bool isLikely = false)
{
    private const double FirstChance = 0.3, LikelyChance = 0.9, FirstWeight = 3;    // as if three guesses had been seen
    private const double Fade = 1.0 / 16;
    private const double SureEnough = 0.99;

    /// <summary>Rows between two trials once guessing does not pay: twice as many after each that failed, so that one in a hundred is lost in the end.</summary>
    private const int ShortestPause = 32, LongestPause = 128;

    private double _chance = isLikely ? LikelyChance : FirstChance;
    private int _seen;
    private int _rowsSinceTrial;
    private int _pause = ShortestPause;

    /// <summary>Guesses wanted for the next step; changes only in <see cref="Committed"/>.</summary>
    public int Next { get; private set; } = isLikely ? most : Math.Min(1, most);

    /// <summary>Takes in what became of a step's guesses and settles how many the next step gets.</summary>
    /// <param name="drafts">Guesses that were verified.</param>
    /// <param name="accepted">Those that were right: the first ones.</param>
    /// <param name="cost">What a row costs as a share of a token; see <see cref="DraftCost"/>.</param>
    public void Committed(int drafts, int accepted, double cost)
    {
        // What follows the first wrong guess was never judged.
        for (int i = 0; i < Math.Min(drafts, accepted + 1); i++)
        {
            double weight = Math.Max(Fade, 1 / (FirstWeight + ++_seen));
            _chance += weight * ((i < accepted ? 1 : 0) - _chance);
        }
        if (drafts == 0)
        {
            _rowsSinceTrial++;
        }
        else
        {
            if (accepted > 0) _pause = ShortestPause;
            else if (_rowsSinceTrial >= _pause) _pause = Math.Min(_pause * 2, LongestPause);
            _rowsSinceTrial = 0;
        }

        double chance = Math.Min(_chance, SureEnough);
        Next = chance < cost ? 0 : (int)Math.Min(most, Math.Log(cost) / Math.Log(chance));
        if (Next == 0 && _rowsSinceTrial >= _pause) Next = Math.Min(1, most);
    }
}
