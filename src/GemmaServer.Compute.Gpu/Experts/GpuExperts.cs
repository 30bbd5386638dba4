namespace GemmaServer.Compute;

/// <summary>
/// Mixture of experts. Few rows read their experts one by one; more rows are sorted by expert, so that each active expert is read
/// once for several. Every place's output is kept until all are there, and a row's are added in ascending order of experts.
/// </summary>
internal sealed class GpuExperts : IDisposable
{
    private readonly GpuContext _gpu;
    private readonly GpuRows _rows;
    private readonly GpuMatMul _exact;
    private readonly GpuRouting _routing;
    private readonly ExpertProducts _products;
    private GpuTensor? _input, _scores, _activation, _output;
    private int _maxRows;

    public GpuExperts(GpuContext gpu, GpuStep step, GpuOptions options)
    {
        _gpu = gpu;
        _rows = new GpuRows(gpu, step, options.Epsilon);
        // The router stays in floats: a rounded score swaps experts.
        _exact = new GpuMatMul(gpu, step, options with { Activations = ActivationType.F32 });
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
        _exact.Multiply(_input, proj, _scores);
        _routing.Choose(_scores, expertScale);
    }

    /// <summary>y = Σ share · Down_e·(gelu_tanh(Gate_e·x) ⊙ (Up_e·x)).</summary>
    public void Run(GpuTensor x, GpuMatrix gate, GpuMatrix? up, GpuMatrix down, int expertWidth, GpuTensor y)
    {
        int places = _maxRows * _routing.Used;
        _activation ??= new GpuTensor(_gpu, places, expertWidth);
        _output ??= new GpuTensor(_gpu, places, y.Columns);
        _products.Reserve(_maxRows, x.Columns, expertWidth);

        ExpertRows gates = new(gate, up is null ? 2 * expertWidth : expertWidth, 0, expertWidth);
        ExpertRows ups = up is null ? gates with { First = expertWidth } : new ExpertRows(up, expertWidth, 0, expertWidth);
        _products.Begin();
        _products.Gate(x, gates, _activation);
        _products.Up(x, ups, _products.IsInt8(gates), _activation);
        _products.Down(_activation, new ExpertRows(down, y.Columns, 0, y.Columns), _output);
        _routing.Sum(_output.Buffer, y);
    }

    public void Dispose()
    {
        foreach (GpuTensor? t in (GpuTensor?[])[_input, _scores, _activation, _output]) t?.Dispose();
        _products.Dispose();
        _routing.Dispose();
        _exact.Dispose();
    }
}
