namespace GemmaServer.Compute;

/// <summary>
/// Runs of rows that one group of lanes takes, at a fixed address: <c>| count | 0 | first row, rows | first row, rows | …</c>
/// Slices of few rows (decoding, guesses being checked) are taken row by row and may be split over their context; the others,
/// prompts, in blocks.
/// </summary>
internal sealed class AttentionBlocks(GpuContext gpu, GpuStep step, int rowsPerBlock, bool single, bool all) : IDisposable
{
    /// <summary>Most rows of a slice that are taken one by one.</summary>
    public const int FewRows = 8;

    private readonly StagedInts _list = new(gpu, 2 + 2 * step.MaxRows);

    public int RowsPerBlock => rowsPerBlock;

    /// <summary>Blocks of this step.</summary>
    public int Count { get; private set; }

    /// <summary>Longest context of the listed rows, themselves included.</summary>
    public int LongestContext { get; private set; }

    public GpuBuffer Buffer => _list.Buffer;

    /// <summary>Lists and sends the step's blocks; the last of a prompt, which see most keys, come first.</summary>
    public void Begin()
    {
        Span<int> list = _list.Next();
        (Count, LongestContext) = (0, 0);
        foreach (ref readonly SequenceSlice slice in step.Slices)
        {
            if (!all && slice.QueryLength <= FewRows != single) continue;
            LongestContext = Math.Max(LongestContext, slice.ContextLength + slice.QueryLength);
            for (int first = (slice.QueryLength - 1) / rowsPerBlock * rowsPerBlock; first >= 0; first -= rowsPerBlock)
            {
                list[2 + 2 * Count] = slice.QueryStart + first;
                list[3 + 2 * Count++] = Math.Min(rowsPerBlock, slice.QueryLength - first);
            }
        }
        (list[0], list[1]) = (Count, 0);
        _list.Send(2 + 2 * Count);
    }

    public void Dispose() => _list.Dispose();
}
