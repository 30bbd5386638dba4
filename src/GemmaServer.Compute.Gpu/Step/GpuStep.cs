namespace GemmaServer.Compute;

/// <summary>
/// What kernels know of the step, at fixed addresses on the device, so that a recorded graph can be run again over other values:
/// <code>
/// header       [16]                       rows, slices, outputs, …: STEP_… in prelude.h
/// rows         [maxRows][4]               token (−1: the slot's last sampled), position, slice, slot
/// slices       [maxSequences][4]          first row, rows, positions before the first row, slot
/// table starts [groups][maxSequences]     where a slice's pages begin in tables: page p of it is tables[start + p]
/// tables       [grows]                    page ids; of a sliding group only those that the step can reach
/// tokens       [maxRows]                  made on the device: the row's token
/// last sampled [maxSequences]             by slot, kept between steps on the device
/// </code>
/// </summary>
internal sealed unsafe class GpuStep : IDisposable
{
    public const int HeaderInts = 16, RowInts = 4, SliceInts = 4;

    private readonly GpuContext _gpu;
    private readonly GpuKernel _resolve;
    private StagedInts _header = null!, _rows = null!, _slices = null!, _starts = null!, _tables = null!;
    private KvCachePlan? _plan;
    private SequenceSlice[] _sliceCopies = [];
    private int _maxSequences;

    public GpuStep(GpuContext gpu)
    {
        _gpu = gpu;
        _resolve = gpu.Kernel(new KernelSource("step.cl"), "resolve_tokens");
    }

    /// <summary>Rows of this step.</summary>
    public int RowCount { get; private set; }

    /// <summary>
    /// Groups to launch for a kernel of one group a row: at least <see cref="RowCount"/>. Decode steps are rounded up, so that few
    /// recorded graphs serve all batch sizes; groups beyond the header's rows return at once.
    /// </summary>
    public int Grid { get; private set; }

    /// <summary>Whether every slice is one row.</summary>
    public bool IsDecode { get; private set; }

    /// <summary>Whether every slice is one row that samples one token: such steps repeat, kernel for kernel.</summary>
    public bool IsPlainDecode { get; private set; }

    /// <summary>Longest context of the step, its own rows included.</summary>
    public int LongestContext { get; private set; }

    /// <summary>Counts reallocations of what is at fixed addresses otherwise: part of a graph's key.</summary>
    public int Generation { get; private set; }

    public int MaxRows { get; private set; }

    public ReadOnlySpan<SequenceSlice> Slices => _sliceCopies.AsSpan(0, SliceCount);

    public int SliceCount { get; private set; }

    public GpuBuffer Header => _header.Buffer;

    public GpuBuffer Rows => _rows.Buffer;

    public GpuBuffer SliceTable => _slices.Buffer;

    public GpuBuffer TableStarts => _starts.Buffer;

    public GpuBuffer Tables => _tables.Buffer;

    public GpuBuffer Tokens { get; private set; }

    public GpuBuffer LastSampled { get; private set; }

    /// <summary>Sequences that fit: the stride of the table starts.</summary>
    public int MaxSequences => _maxSequences;

    /// <summary>The pool whose tables are sent.</summary>
    public void UseCache(KvCachePlan plan) => _plan = plan;

    public void Reserve(int maxRows, int maxSequences)
    {
        (MaxRows, _maxSequences) = (maxRows, maxSequences);
        _sliceCopies = new SequenceSlice[maxSequences];
        _header = new StagedInts(_gpu, HeaderInts);
        _rows = new StagedInts(_gpu, maxRows * RowInts);
        _slices = new StagedInts(_gpu, maxSequences * SliceInts);
        _starts = new StagedInts(_gpu, Math.Max(1, _plan?.Groups.Count ?? 1) * maxSequences);
        _tables = new StagedInts(_gpu, Math.Max(1024, 64 * maxSequences));
        Tokens = _gpu.Allocate((long)maxRows * sizeof(int), "step inputs");
        LastSampled = _gpu.Allocate((long)maxSequences * sizeof(int), "step inputs");
        _gpu.Clear(LastSampled, LastSampled.Bytes);
    }

    /// <summary>Sends a batch and resolves its tokens.</summary>
    public void Begin(StepBatch batch)
    {
        (RowCount, SliceCount, LongestContext, IsDecode, IsPlainDecode) = (batch.TokenCount, batch.SequenceCount, 0, true, true);
        batch.Slices.CopyTo(_sliceCopies);
        Span<int> rows = _rows.Next(), slices = _slices.Next(), header = _header.Next();
        for (int s = 0; s < SliceCount; s++)
        {
            ref readonly SequenceSlice slice = ref batch.Slices[s];
            Span<int> about = slices.Slice(s * SliceInts, SliceInts);
            (about[0], about[1], about[2], about[3]) = (slice.QueryStart, slice.QueryLength, slice.ContextLength, slice.Slot);
            LongestContext = Math.Max(LongestContext, slice.ContextLength + slice.QueryLength);
            IsDecode &= slice.QueryLength == 1;
            IsPlainDecode &= slice is { QueryLength: 1, Sample: true, DraftsWanted: 0, PromptLogprobs: < 0 };
            for (int i = 0; i < slice.QueryLength; i++)
            {
                int row = slice.QueryStart + i;
                Span<int> r = rows.Slice(row * RowInts, RowInts);
                (r[0], r[1], r[2], r[3]) = (batch.Tokens[row], slice.ContextLength + i, s, slice.Slot);
            }
        }
        header.Clear();
        (header[0], header[1]) = (RowCount, SliceCount);
        Grid = IsDecode ? Math.Min(MaxRows, DecodeBucket(RowCount)) : RowCount;
        SendTables();
        _header.Send(HeaderInts);
        _rows.Send(RowCount * RowInts);
        _slices.Send(SliceCount * SliceInts);
        _resolve.Begin().Add(Header).Add(Rows).Add(LastSampled).Add(Tokens).Run(64, (RowCount + 63) / 64);
    }

    /// <summary>A slot's last token, from the host.</summary>
    public void SetLastSampled(int slot, int token) => _gpu.Upload(LastSampled, (long)slot * sizeof(int), &token, sizeof(int));

    public void Dispose()
    {
        if (_header is null) return;
        foreach (StagedInts staged in (StagedInts[])[_header, _rows, _slices, _starts, _tables]) staged.Dispose();
        _gpu.Free(Tokens);
        _gpu.Free(LastSampled);
    }

    /// <summary>1, 2, 4, 8, then multiples of 8 up to 64, of 32 above.</summary>
    private static int DecodeBucket(int rows) => rows switch
    {
        <= 2 => rows,
        <= 4 => 4,
        <= 64 => (rows + 7) / 8 * 8,
        _ => (rows + 31) / 32 * 32,
    };

    private void SendTables()
    {
        if (_plan is null) return;
        Span<int> starts = _starts.Next();
        int needed = 0;
        for (int g = 0; g < _plan.Groups.Count; g++)
            foreach (ref readonly SequenceSlice slice in Slices) needed += PageCount(g, slice);
        if (needed > _tables.Capacity)
        {
            // Queued kernels may still read the old one.
            _gpu.Finish();
            _tables.Dispose();
            _tables = new StagedInts(_gpu, Math.Max(needed, 2 * _tables.Capacity));
            Generation++;
        }
        Span<int> tables = _tables.Next();
        int at = 0;
        for (int g = 0; g < _plan.Groups.Count; g++)
        {
            for (int s = 0; s < SliceCount; s++)
            {
                ref readonly SequenceSlice slice = ref Slices[s];
                int first = FirstPage(g, slice), count = PageCount(g, slice);
                starts[g * _maxSequences + s] = at - first;
                if (count > 0) slice.Blocks.Pages(g).Slice(first, count).CopyTo(tables[at..]);
                at += count;
            }
        }
        _starts.Send(_plan.Groups.Count * _maxSequences);
        _tables.Send(at);
    }

    private int FirstPage(int group, in SequenceSlice slice)
    {
        KvGroup g = _plan!.Groups[group];
        return g.Window == 0 ? 0 : Math.Max(0, slice.ContextLength - g.Window + 1) / g.TokensPerPage;
    }

    /// <summary>Pages from <see cref="FirstPage"/> on that the slice's rows see or write.</summary>
    private int PageCount(int group, in SequenceSlice slice)
    {
        // A drafter's row has no page of its own: it reads those that are there, of a window of one none.
        int reached = (slice.ContextLength + slice.QueryLength - 1) / _plan!.Groups[group].TokensPerPage + 1;
        return Math.Max(0, Math.Min(reached, slice.Blocks.Pages(group).Length) - FirstPage(group, slice));
    }
}
