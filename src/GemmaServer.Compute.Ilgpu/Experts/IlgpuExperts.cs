using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Mixture of experts without a word to the host: tiles of rows are laid out by kernels. Kernels: <see cref="ExpertKernels"/>.</summary>
internal sealed class IlgpuExperts : IDisposable
{
    private readonly IlgpuRuntime _runtime;
    private readonly IlgpuStep _step;
    private readonly IlgpuMatMul _matMul;
    private readonly IlgpuRows _rows;
    private readonly Action<KernelConfig, int, int, int, int, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<float>> _top;
    private readonly Action<KernelConfig, int, int, ArrayView<int>, ArrayView<int>> _count;
    private readonly Action<KernelConfig, int, int, int, int, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<int>> _place;
    private readonly Action<KernelConfig, int, int, int, int, int, ArrayView<float>, ArrayView<int>, ArrayView<float>, ArrayView<float>> _scatter;
    private IlgpuTensor? _input, _scores, _gateUp, _activation, _output;
    private MemoryBuffer1D<int, Stride1D.Dense>? _chosen, _counts, _tiles, _inputs, _places;
    private MemoryBuffer1D<float, Stride1D.Dense>? _shares;
    private int _used, _expertCount;

    public IlgpuExperts(IlgpuRuntime runtime, IlgpuStep step, IlgpuMatMul matMul, IlgpuRows rows)
    {
        (_runtime, _step, _matMul, _rows) = (runtime, step, matMul, rows);
        _top = runtime.Load("the choice of experts", static a => a.LoadStreamKernel<int, int, int, int, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<float>>(ExpertKernels.Top));
        _count = runtime.Load("the count of experts", static a => a.LoadStreamKernel<int, int, ArrayView<int>, ArrayView<int>>(ExpertKernels.Count));
        _place = runtime.Load("the order of experts", static a => a.LoadStreamKernel<
            int, int, int, int, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<int>>(ExpertKernels.Place));
        _scatter = runtime.Load("the sum of experts", static a => a.LoadStreamKernel<
            int, int, int, int, int, ArrayView<float>, ArrayView<int>, ArrayView<float>, ArrayView<float>>(ExpertKernels.Scatter));
    }

    private int TileRows => _matMul.TileRows(_step.RowCount);

    /// <summary>Scores every expert for every row, keeps the best and lays out their tiles.</summary>
    public void Route(IlgpuTensor x, IlgpuVector scale, IlgpuMatrix proj, IlgpuVector expertScale, int used)
    {
        (_used, _expertCount) = (used, proj.Rows);
        ReserveRouting(x.Rows, x.Columns);
        int rows = _step.RowCount, choices = rows * used;
        _rows.RmsNorm(rows, x, scale, _input!, add: false);
        _matMul.Multiply(rows, _input!, proj, _scores!);
        _top(_runtime.Flat(rows), rows, _expertCount, _scores!.Stride, used, _scores.View, expertScale.View, _chosen!.View, _shares!.View);
        _count(_runtime.Flat(_expertCount), choices, _expertCount, _chosen.View, _counts!.View);
        _place(_runtime.Flat(_expertCount), choices, _expertCount, used, TileRows, _chosen.View, _counts.View, _tiles!.View, _inputs!.View, _places!.View);
    }

    /// <summary>y = Σ share · Down_e·(gelu(Gate_e·x) ⊙ (Up_e·x)).</summary>
    public void Run(IlgpuTensor x, IlgpuMatrix gate, IlgpuMatrix? up, IlgpuMatrix down, int width, IlgpuTensor y)
    {
        ReserveOutputs(x.Rows * _used, width, y.Columns);
        int rows = _step.RowCount, choices = rows * _used, tileRows = TileRows;
        int mostTiles = Math.Min(choices, choices / tileRows + _expertCount);
        void Multiply(WeightPart part, int outputs, int expertRows, IlgpuTensor from, bool bySource, IlgpuTensor to, int offset)
        {
            MatMulShape shape = new(part.Blocks, outputs, 0, expertRows, 0, from.Stride, to.Stride, offset, bySource ? 1 : 0);
            _matMul.MultiplyExperts(part, shape, tileRows, mostTiles, _tiles!.View, _inputs!.View, from, bySource ? rows : choices, to.View);
        }
        if (up is null)
        {
            Multiply(gate.Whole, 2 * width, 2 * width, x, bySource: true, _gateUp!, 0);
        }
        else
        {
            Multiply(gate.Whole, width, width, x, bySource: true, _gateUp!, 0);
            Multiply(up.Whole, width, width, x, bySource: true, _gateUp!, width);
        }
        _rows.Gate(choices, width, _gateUp!, _gateUp!, width, _activation!);
        Multiply(down.Whole, y.Columns, y.Columns, _activation!, bySource: false, _output!, 0);
        _scatter(_runtime.Flat((long)rows * y.Columns), rows, y.Columns, _used, _output!.Stride, y.Stride, _output.View, _places!.View, _shares!.View, y.View);
    }

    public void Dispose()
    {
        foreach (IDisposable? d in (IDisposable?[])[_input, _scores, _gateUp, _activation, _output, _chosen, _counts, _tiles, _inputs, _places, _shares]) d?.Dispose();
    }

    private void ReserveRouting(int rows, int hidden)
    {
        if (_input is not null) return;
        _input = new IlgpuTensor(_runtime, rows, hidden);
        _scores = new IlgpuTensor(_runtime, rows, _expertCount);
        _chosen = _runtime.Allocate<int>(rows * _used);
        _shares = _runtime.Allocate<float>(rows * _used);
        _inputs = _runtime.Allocate<int>(rows * _used);
        _places = _runtime.Allocate<int>(rows * _used);
        _counts = _runtime.Allocate<int>(_expertCount);
        // One-row tiles need most.
        _tiles = _runtime.Allocate<int>(4 * (rows * _used + _expertCount + 1));
    }

    private void ReserveOutputs(int places, int width, int hidden)
    {
        if (_activation is not null) return;
        _gateUp = new IlgpuTensor(_runtime, places, 2 * width);
        _activation = new IlgpuTensor(_runtime, places, width);
        _output = new IlgpuTensor(_runtime, places, hidden);
    }
}
