namespace GemmaServer.Compute;

/// <summary>
/// Mixture of experts. Few rows read their experts one by one; more rows are sorted by expert, so that each active expert is read
/// once for several. Every place's output is kept until all are there, and a row's are added in ascending order of experts.
/// </summary>
internal sealed class GpuExperts : IDisposable
{
    private readonly GpuContext _gpu;
    private readonly GpuRows _rows;
    private readonly GpuRouting _routing;
    private readonly ExpertProducts _products;
    private GpuTensor? _input, _scores, _activation, _output;
    private int _maxRows;

    public GpuExperts(GpuContext gpu, GpuStep step, GpuOptions options)
    {
        _gpu = gpu;
        _rows = new GpuRows(gpu, step, options.Epsilon);
        _routing = new GpuRouting(gpu, step);
        _products = new ExpertProducts(gpu, step, _routing, options);
    }

    /// <summary>Rows of a step. Room is taken at the first one that has experts: only then is their shape known.</summary>
    public void Reserve(int maxRows) => _maxRows = maxRows;

    /// <summary>Scores every expert for every row and keeps the best, with their weights.</summary>
    public void Route(GpuTensor x, GpuVector scale, GpuMatrix proj, GpuVector expertScale, int used)
    {
        _routing.Reserve(_maxRows, proj.Rows, used, ExpertProducts.FewPlaces);
        _input ??= new GpuTensor(_gpu, _maxRows, x.Columns);
        _scores ??= new GpuTensor(_gpu, _maxRows, proj.Rows);
        _rows.RmsNorm(x, scale, _input, add: false);
        _products.Score(_input, OnlyPart(proj), _scores);
        _routing.Choose(_scores, expertScale);
    }

    /// <summary>y = Σ share · Down_e·(gelu_tanh(Gate_e·x) ⊙ (Up_e·x)).</summary>
    public void Run(GpuTensor x, GpuMatrix gate, GpuMatrix? up, GpuMatrix down, int expertWidth, GpuTensor y)
    {
        int places = _maxRows * _routing.Used;
        _activation ??= new GpuTensor(_gpu, places, expertWidth);
        _output ??= new GpuTensor(_gpu, places, y.Columns);
        _products.Reserve(Math.Max((long)_maxRows * x.Columns, (long)places * expertWidth));

        bool isTogether = up is null;
        ExpertRows gates = new(OnlyPart(gate), isTogether ? 2 * expertWidth : expertWidth, 0, expertWidth);
        ExpertRows ups = isTogether ? gates with { First = expertWidth } : new ExpertRows(OnlyPart(up!), expertWidth, 0, expertWidth);
        _products.Begin();
        _products.Multiply(x.Buffer, x.Columns, gates, _routing.Used, _activation.Buffer, gate: false, sameInput: false);
        _products.Multiply(x.Buffer, x.Columns, ups, _routing.Used, _activation.Buffer, gate: true, sameInput: _products.KeepsInput(gates.Part));
        _products.Multiply(_activation.Buffer, expertWidth, new ExpertRows(OnlyPart(down), y.Columns, 0, y.Columns), 1, _output.Buffer, gate: false, sameInput: false);
        _routing.Sum(_output.Buffer, y);
    }

    public void Dispose()
    {
        foreach (GpuTensor? t in (GpuTensor?[])[_input, _scores, _activation, _output]) t?.Dispose();
        _products.Dispose();
        _routing.Dispose();
    }

    private static GpuPart OnlyPart(GpuMatrix matrix) =>
        matrix.Parts.Length == 1 ? matrix.Parts[0] : throw new NotSupportedException("Experts are stacked in one tensor.");
}
