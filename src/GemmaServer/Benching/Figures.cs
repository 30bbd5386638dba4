namespace GemmaServer;

/// <summary>Quantiles of measurements.</summary>
internal static class Figures
{
    /// <summary>Between the two nearest ranks, as numpy's default; NaN when there is nothing.</summary>
    /// <param name="sorted">Ascending.</param>
    /// <param name="share">0 … 1.</param>
    public static double Quantile(IReadOnlyList<double> sorted, double share)
    {
        if (sorted.Count == 0) return double.NaN;
        double place = share * (sorted.Count - 1);
        int low = (int)place, high = Math.Min(low + 1, sorted.Count - 1);
        return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
    }

    /// <summary>The middle one.</summary>
    public static double Median(IEnumerable<double> values) => Quantile([.. values.Order()], 0.5);
}
