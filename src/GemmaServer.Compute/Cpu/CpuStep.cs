namespace GemmaServer.Compute;

/// <summary>What the kernels ask about the step: tokens with slots resolved, each row's position and slice.</summary>
internal sealed class CpuStep
{
    private int[] _tokens = [];
    private int[] _positions = [];
    private int[] _sliceOfRow = [];
    private SequenceSlice[] _slices = [];
    private ulong[]?[] _allowed = [];
    private float[][] _scratch = [];

    public int RowCount { get; private set; }

    public int SliceCount { get; private set; }

    public ReadOnlySpan<int> Tokens => _tokens.AsSpan(0, RowCount);

    public void Reserve(int rows, int sequences, int workers, int scratchFloats)
    {
        _tokens = new int[rows];
        _positions = new int[rows];
        _sliceOfRow = new int[rows];
        _slices = new SequenceSlice[sequences];
        _allowed = new ulong[]?[rows];
        _scratch = new float[workers][];
        for (int w = 0; w < workers; w++) _scratch[w] = new float[scratchFloats];
    }

    public void Begin(StepBatch batch, ReadOnlySpan<int> lastSampled)
    {
        RowCount = batch.TokenCount;
        SliceCount = batch.SequenceCount;
        batch.Slices.CopyTo(_slices);
        for (int s = 0; s < SliceCount; s++)
        {
            ref readonly SequenceSlice slice = ref batch.Slices[s];
            for (int i = 0; i < slice.QueryLength; i++)
            {
                int row = slice.QueryStart + i, token = batch.Tokens[row];
                _tokens[row] = token == StepBatch.LastSampled ? lastSampled[slice.Slot] : token;
                _positions[row] = slice.ContextLength + i;
                _sliceOfRow[row] = s;
                _allowed[row] = batch.Allowed(row);
            }
        }
    }

    /// <summary>Replaces a row's token: a drafter's row goes on from its own guess.</summary>
    public void SetToken(int row, int token) => _tokens[row] = token;

    public int Position(int row) => _positions[row];

    /// <inheritdoc cref="StepBatch.Allowed"/>
    public ulong[]? Allowed(int row) => _allowed[row];

    public int Slot(int row) => _slices[_sliceOfRow[row]].Slot;

    public ref readonly SequenceSlice Slice(int row) => ref _slices[_sliceOfRow[row]];

    public ReadOnlySpan<SequenceSlice> Slices => _slices.AsSpan(0, SliceCount);

    public Span<float> Scratch(int worker) => _scratch[worker];
}
