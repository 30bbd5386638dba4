using ILGPU;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>
/// What kernels know of the step:
/// <code>
/// rows     [rows][4]                  token, position, slice, slot
/// starts   [groups][maxSequences]     where a slice's pages begin in tables: page p of it is tables[start + p]
/// tables   [grows]                    page ids; of a sliding group only those that the step can reach
/// </code>
/// Tokens are on the host at once, because sampling is.
/// </summary>
internal sealed class IlgpuStep(IlgpuRuntime runtime) : IDisposable
{
    public const int RowInts = 4;

    private StepNumbers? _rows, _starts, _tables;
    private KvCachePlan? _plan;

    /// <summary>The same for the host's part: sampling.</summary>
    public CpuStep Host { get; } = new();

    public int RowCount => Host.RowCount;

    public int MaxRows { get; private set; }

    /// <summary>Stride of the table starts.</summary>
    public int MaxSequences { get; private set; }

    public ArrayView<int> Rows => _rows!.View;

    public ArrayView<int> Starts => _starts!.View;

    public ArrayView<int> Tables => _tables!.View;

    /// <summary>The pool whose tables are sent.</summary>
    public void UseCache(KvCachePlan plan) => _plan = plan;

    public void Reserve(int rows, int sequences)
    {
        Dispose();
        (MaxRows, MaxSequences) = (rows, sequences);
        Host.Reserve(rows, sequences, workers: 1, scratchFloats: 1);
        _rows = new StepNumbers(runtime, rows * RowInts);
        _starts = new StepNumbers(runtime, Math.Max(1, _plan?.Groups.Count ?? 1) * sequences);
        _tables = new StepNumbers(runtime, Math.Max(256, 64 * sequences));
    }

    public void Begin(StepBatch batch, ReadOnlySpan<int> lastSampled)
    {
        Host.Begin(batch, lastSampled);
        Span<int> rows = _rows!.Host;
        for (int s = 0; s < Host.SliceCount; s++)
        {
            ref readonly SequenceSlice slice = ref Host.Slices[s];
            for (int row = slice.QueryStart; row < slice.QueryStart + slice.QueryLength; row++)
            {
                Span<int> r = rows.Slice(row * RowInts, RowInts);
                (r[0], r[1], r[2], r[3]) = (Host.Tokens[row], Host.Position(row), s, slice.Slot);
            }
        }
        _rows.Send(RowCount * RowInts);
        SendTables();
    }

    /// <summary>Rows go on from their guesses.</summary>
    public void SendTokens()
    {
        for (int row = 0; row < RowCount; row++) _rows!.Host[row * RowInts] = Host.Tokens[row];
        _rows!.Send(RowCount * RowInts);
    }

    public void Dispose()
    {
        _rows?.Dispose();
        _starts?.Dispose();
        _tables?.Dispose();
    }

    private void SendTables()
    {
        if (_plan is null) return;
        int needed = 0;
        for (int g = 0; g < _plan.Groups.Count; g++)
            foreach (ref readonly SequenceSlice slice in Host.Slices) needed += Math.Max(0, PageEnd(g, slice) - FirstPage(g, slice));
        _tables!.Ensure(needed);
        int at = 0;
        for (int g = 0; g < _plan.Groups.Count; g++)
        {
            for (int s = 0; s < Host.SliceCount; s++)
            {
                ref readonly SequenceSlice slice = ref Host.Slices[s];
                int first = FirstPage(g, slice), count = Math.Max(0, PageEnd(g, slice) - first);
                _starts!.Host[g * MaxSequences + s] = at - first;
                slice.Blocks.Pages(g).Slice(Math.Min(first, slice.Blocks.Pages(g).Length), count).CopyTo(_tables.Host.AsSpan(at));
                at += count;
            }
        }
        _starts!.Send(_plan.Groups.Count * MaxSequences);
        _tables.Send(at);
    }

    private int FirstPage(int group, in SequenceSlice slice)
    {
        KvGroup g = _plan!.Groups[group];
        return g.Window == 0 ? 0 : Math.Max(0, slice.ContextLength - g.Window + 1) / g.TokensPerPage;
    }

    /// <summary>A drafter's row has no page of its own: it reads those that are there.</summary>
    private int PageEnd(int group, in SequenceSlice slice) => Math.Min(
        (slice.ContextLength + slice.QueryLength - 1) / _plan!.Groups[group].TokensPerPage + 1, slice.Blocks.Pages(group).Length);
}
