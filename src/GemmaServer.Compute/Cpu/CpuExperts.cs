namespace GemmaServer.Compute;

/// <summary>
/// Mixture of experts: routes rows, gathers them by expert so that a batch reads each active expert once, and adds the
/// experts' outputs in ascending expert order, whatever the batch.
/// </summary>
internal sealed class CpuExperts(WorkerPool workers, CpuMatMul matMul) : IDisposable
{
    // The router stays in floats: a rounded score swaps experts.
    private readonly CpuMatMul _exact = new(workers, ActivationType.F32);
    private CpuTensor? _input, _scores, _activation, _output;
    private int[] _chosen = [], _starts = [], _cursor = [], _rows = [], _assignments = [];
    private float[] _shares = [];
    private RowGroup[] _groups = [];
    private int _used, _expertCount;

    /// <summary>Scores every expert for every row and keeps the best, with their weights.</summary>
    public void Route(int rows, CpuTensor x, float[] scale, CpuWeights proj, float[] expertScale, int used, float epsilon)
    {
        (_used, _expertCount) = (used, proj.Rows);
        ReserveRouting(x.Rows, x.Columns);
        RmsNormJob norm = new(x, scale, _input!, epsilon, add: false);
        workers.Run(ref norm, rows);
        _exact.Multiply(_input!.Input(rows), proj, 0, proj.Rows, _scores!.All, _scores.Columns);
        TopExpertsJob top = new(_scores, expertScale, used, _chosen, _shares);
        workers.Run(ref top, rows);
        GroupByExpert(rows);
    }

    /// <summary>y = Σ share · Down_e·(gelu(Gate_e·x) ⊙ (Up_e·x)).</summary>
    public void Run(int rows, CpuTensor x, CpuWeights gate, CpuWeights? up, CpuWeights down, int width, CpuTensor y)
    {
        ReserveOutputs(x.Rows * _used, width, y.Columns);
        int places = rows * _used, groups = 0, gateRows = up is null ? 2 * width : width;
        for (int e = 0; e < _expertCount; e++)
        {
            int start = _starts[e], count = _starts[e + 1] - start;
            if (count > 0) _groups[groups++] = new RowGroup(start, count, gateRows * e, up is null ? gateRows * e + width : width * e);
        }
        InputRows gathered = new(x.All, _rows.AsSpan(0, places), x.Columns);
        matMul.RunGroups(gathered, _groups.AsSpan(0, groups), gate, up ?? gate, width, _activation!.All, width);
        for (int g = 0; g < groups; g++) _groups[g] = _groups[g] with { FirstRow = _groups[g].FirstRow / gateRows * y.Columns };
        matMul.RunGroups(new InputRows(_activation.All, places, width), _groups.AsSpan(0, groups), down, null, y.Columns, _output!.All, y.Columns);
        ScatterJob scatter = new(_output!, _assignments, _shares, _used, y);
        workers.Run(ref scatter, rows);
    }

    public void Dispose()
    {
        _exact.Dispose();
        foreach (CpuTensor? t in (CpuTensor?[])[_input, _scores, _activation, _output]) t?.Dispose();
    }

    /// <summary>Counting sort of (row, choice) by expert. <c>_rows</c>: the input row of each place; <c>_assignments</c>: a row's places, by choice.</summary>
    private void GroupByExpert(int rows)
    {
        Array.Clear(_starts);
        for (int i = 0; i < rows * _used; i++) _starts[_chosen[i] + 1]++;
        for (int e = 0; e < _expertCount; e++) _starts[e + 1] += _starts[e];
        Array.Copy(_starts, _cursor, _expertCount);
        for (int i = 0; i < rows * _used; i++)
        {
            int place = _cursor[_chosen[i]]++;
            _rows[place] = i / _used;
            _assignments[i] = place;
        }
    }

    private void ReserveRouting(int rows, int hidden)
    {
        if (_input is not null) return;
        _input = new CpuTensor(rows, hidden);
        _scores = new CpuTensor(rows, _expertCount);
        _chosen = new int[rows * _used];
        _shares = new float[rows * _used];
        _rows = new int[rows * _used];
        _assignments = new int[rows * _used];
        _starts = new int[_expertCount + 1];
        _cursor = new int[_expertCount];
        _groups = new RowGroup[_expertCount];
    }

    private void ReserveOutputs(int places, int width, int hidden)
    {
        if (_activation is not null) return;
        _activation = new CpuTensor(places, width);
        _output = new CpuTensor(places, hidden);
    }

    /// <summary>Softmax over all experts, the best few in ascending expert order, renormalised, times each expert's own scale.</summary>
    private readonly struct TopExpertsJob(CpuTensor scores, float[] expertScale, int used, int[] chosen, float[] shares) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            Span<float> row = scores.RowSpan(item);
            Span<int> best = chosen.AsSpan(item * used, used);
            Span<float> share = shares.AsSpan(item * used, used);
            float max = float.NegativeInfinity;
            for (int k = 0; k < used; k++)
            {
                int top = 0;
                for (int e = 1; e < row.Length; e++)
                    if (row[e] > row[top]) top = e;
                best[k] = top;
                share[k] = row[top];
                if (k == 0) max = row[top];
                row[top] = float.NegativeInfinity;
            }
            // softmax → top-k → renormalise equals softmax over the chosen ones.
            float sum = 0;
            for (int k = 0; k < used; k++) sum += share[k] = MathF.Exp(share[k] - max);
            for (int k = 0; k < used; k++) share[k] = share[k] / sum * expertScale[best[k]];
            best.Sort(share);
        }
    }

    private readonly struct ScatterJob(CpuTensor outputs, int[] assignments, float[] shares, int used, CpuTensor y) : IWorkerJob
    {
        public void Execute(int item, int worker)
        {
            Span<float> row = y.RowSpan(item);
            row.Clear();
            for (int k = 0; k < used; k++)
            {
                ReadOnlySpan<float> o = outputs.RowSpan(assignments[item * used + k]);
                float share = shares[item * used + k];
                for (int i = 0; i < row.Length; i++) row[i] += o[i] * share;
            }
        }
    }
}
