namespace GemmaServer.Compute;

/// <summary>Where the weight rows of an expert stand in a matrix.</summary>
/// <param name="Part">All experts' rows.</param>
/// <param name="Stride">Rows from one expert's first to the next one's.</param>
/// <param name="First">First of an expert's rows that count.</param>
/// <param name="Rows">How many count.</param>
internal readonly record struct ExpertRows(GpuPart Part, int Stride, int First, int Rows);

/// <summary>
/// The products of a mixture of experts: <c>y[place] = W_expert · x[place / uses]</c>. Kernels: <c>expert_rows.cl</c>,
/// <c>quantise_places.cl</c>; on CUDA, with activations rounded to bf16, <c>gemm_cuda.cu</c> for more than a few places.
/// </summary>
internal sealed class ExpertProducts(GpuContext gpu, GpuStep step, GpuRouting routing, GpuOptions options) : IDisposable
{
    /// <summary>Places of a tile that lanes go through weight row by weight row.</summary>
    public const int FewPlaces = 8;

    private const int RowGroup = 128, RowLanes = 32, QuantiseGroup = 64;

    private readonly Dictionary<TensorType, Kernels> _kernels = [];
    private readonly Dictionary<TensorType, GpuKernel> _routers = [];
    private readonly GpuKernel _quantise = gpu.Kernel(new KernelSource("quantise_places.cl", [], ("GROUP", QuantiseGroup)), "quantise_rows");
    private readonly Dictionary<(TensorType Type, int Places, bool Gate), GpuKernel> _tensorKernels = [];
    private readonly GpuRoundedRows _rounded = new(gpu);
    private GpuBuffer _codes, _scales;
    private bool _isTensor;

    /// <summary>Places that a group takes in the step's products; 1: every place for itself, so that nothing need be sorted.</summary>
    public int TilePlaces { get; private set; }

    /// <summary>Tiles to launch for.</summary>
    public int Tiles { get; private set; }

    /// <summary>Makes room for inputs in bytes.</summary>
    /// <param name="values">Most values of an input, all its rows together.</param>
    public void Reserve(long values)
    {
        if (HasTensorCores) _rounded.Reserve(1, checked((int)values));
        if (options.Activations != ActivationType.Int8 || !_codes.IsNone) return;
        _codes = gpu.Allocate(values, "experts");
        _scales = gpu.Allocate(values / WeightFormat.Group * 2 * sizeof(int), "experts");
    }

    /// <summary>Decides how the step's places are taken, and sorts them where they are taken together.</summary>
    public void Begin()
    {
        // Reading an expert again for another place costs no more than the sort, until places begin to share most experts.
        bool alone = !options.BatchInvariant && 2 * routing.PlaceGrid <= routing.Experts;
        _isTensor = HasTensorCores && !alone;
        TilePlaces = alone ? 1 : _isTensor ? GpuTile.ExpertPlaces(routing.PlaceGrid / routing.Experts) : FewPlaces;
        Tiles = alone ? routing.PlaceGrid : routing.GroupByExpert(TilePlaces);
    }

    /// <summary>Scores of all experts for the step's rows, always exact: a rounded score swaps experts.</summary>
    /// <param name="x"><c>[rows, columns]</c>.</param>
    /// <param name="router"><c>[experts, columns]</c>.</param>
    /// <param name="scores"><c>[rows, experts]</c>.</param>
    public void Score(GpuTensor x, GpuPart router, GpuTensor scores)
    {
        if (!_routers.TryGetValue(router.Format.Type, out GpuKernel? kernel))
            _routers.Add(router.Format.Type, kernel = RowKernel(router.Format, FewPlaces, whose: 0, isInt8: false));
        Launch(
            kernel, x.Buffer, GpuBuffer.None, x.Columns, new ExpertRows(router, 0, 0, router.Rows), 1, 1, scores.Buffer, false,
            (step.Grid + FewPlaces - 1) / FewPlaces);
    }

    /// <summary>The step's products with one matrix.</summary>
    /// <param name="x"><c>[rows · used / inputUses, columns]</c>.</param>
    /// <param name="columns">Columns of x.</param>
    /// <param name="w">Weights.</param>
    /// <param name="inputUses">Places that share a row of x: all of a row's, or one.</param>
    /// <param name="y"><c>[rows · used, w.Rows]</c>, by place.</param>
    /// <param name="gate">Whether y holds a gate: y = gelu_tanh(y) ⊙ W·x.</param>
    /// <param name="sameInput">Whether x is what the product before this one read.</param>
    public void Multiply(GpuBuffer x, int columns, ExpertRows w, int inputUses, GpuBuffer y, bool gate, bool sameInput)
    {
        if (_isTensor)
        {
            MultiplyTiles(x, columns, w, inputUses, y, gate, sameInput);
            return;
        }
        bool isInt8 = options.Activations == ActivationType.Int8 && w.Part.Format.IsQuantised;
        if (isInt8 && !sameInput) Quantise(x, columns, routing.Used / inputUses);
        Kernels kernels = Of(w.Part.Format, isInt8);
        Launch(TilePlaces == 1 ? kernels.Alone : kernels.Few, isInt8 ? _codes : x, _scales, columns, w, routing.Used, inputUses, y, gate, Tiles);
    }

    /// <summary>Whether a product with these weights left its input in the form that it needed.</summary>
    public bool KeepsInput(GpuPart part) => _isTensor || part.Format.IsQuantised;

    public void Dispose()
    {
        _rounded.Dispose();
        if (_codes.IsNone) return;
        gpu.Free(_codes);
        gpu.Free(_scales);
    }

    private bool HasTensorCores { get; } = options.Activations == ActivationType.BF16 && GpuTile.IsFor(gpu.Info);

    private void MultiplyTiles(GpuBuffer x, int columns, ExpertRows w, int inputUses, GpuBuffer y, bool gate, bool sameInput)
    {
        if (!sameInput) _rounded.Round(step.Header, x, columns, step.Grid, 0, routing.Used / inputUses);
        WeightFormat format = w.Part.Format;
        GpuTile tile = GpuTile.ForExperts(format.Type, TilePlaces);
        if (!_tensorKernels.TryGetValue((format.Type, TilePlaces, gate), out GpuKernel? kernel))
        {
            KernelSource source = new(
                "gemm_cuda.cu", ["weights.h", "cuda_tensor.h", "gemm_tile_cuda.h"],
                format.Constants([.. tile.Constants, ("EXPERTS", 1), ("GATED", 0), ("MEETS_GATE", gate ? 1 : 0)]));
            _tensorKernels.Add((format.Type, TilePlaces, gate), kernel = gpu.Kernel(source, "gemm"));
        }
        w.Part.AddTo(kernel.Begin().Add(routing.Places).Add(routing.Tiles).Add(w.Stride).Add(inputUses).Add(_rounded.Buffer))
            .Add(w.First).Add(w.Rows).Add(y).Add(w.Rows).Add(0).Add(columns)
            .Run(tile.Group, Tiles, (w.Rows + tile.Columns - 1) / tile.Columns, sharedBytes: tile.SharedBytes(format.Type));
    }

    private void Launch(
        GpuKernel kernel, GpuBuffer x, GpuBuffer scales, int columns, ExpertRows w, int used, int inputUses, GpuBuffer y, bool gate, int tiles) =>
        w.Part.AddTo(kernel.Begin().Add(step.Header).Add(routing.Chosen).Add(routing.Places).Add(routing.Tiles).Add(x).Add(scales))
            .Add(y).Add(columns).Add(w.Part.RowGroups).Add(w.Stride).Add(w.First).Add(w.Rows).Add(used).Add(inputUses).Add(gate ? 1 : 0)
            .Run(RowGroup, (w.Rows + RowGroup / RowLanes - 1) / (RowGroup / RowLanes), tiles);

    private void Quantise(GpuBuffer x, int columns, int uses)
    {
        int groups = columns / WeightFormat.Group;
        _quantise.Begin().Add(step.Header).Add(x).Add(_codes).Add(_scales).Add(groups).Add(uses)
            .Run(QuantiseGroup, (step.Grid * uses * groups + QuantiseGroup - 1) / QuantiseGroup);
    }

    /// <summary>All that a type may need, so that no later step waits for the compiler.</summary>
    private Kernels Of(WeightFormat format, bool isInt8)
    {
        if (!_kernels.TryGetValue(format.Type, out Kernels? kernels))
            _kernels.Add(format.Type, kernels = new Kernels(RowKernel(format, 1, whose: 1, isInt8), RowKernel(format, FewPlaces, whose: 2, isInt8)));
        return kernels;
    }

    private GpuKernel RowKernel(WeightFormat format, int places, int whose, bool isInt8) => gpu.Kernel(
        new KernelSource(
            "expert_rows.cl", ["weights.h", "expert_input.h"],
            format.Constants(("GROUP", RowGroup), ("PLACES", places), ("WHOSE", whose), ("INT8", isInt8 ? 1 : 0))),
        "expert_rows");

    private sealed record Kernels(GpuKernel Alone, GpuKernel Few);
}
