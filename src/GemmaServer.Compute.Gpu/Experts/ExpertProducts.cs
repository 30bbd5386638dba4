namespace GemmaServer.Compute;

/// <summary>Where the weight rows of an expert stand in a matrix.</summary>
/// <param name="Matrix">All experts' rows; its parts hold whole experts.</param>
/// <param name="Stride">Rows from one expert's first to the next one's.</param>
/// <param name="First">First of an expert's rows that count.</param>
/// <param name="Count">How many count.</param>
internal readonly record struct ExpertRows(GpuMatrix Matrix, int Stride, int First, int Count);

/// <summary>
/// The products of a mixture of experts: <c>y[place] = W_expert · x[place / uses]</c>. Kernels: <c>expert_rows.cl</c> for few places to
/// an expert, <c>gemm.cl</c> for many; on CUDA, with activations rounded to bf16, <c>gemm_cuda.cu</c> wherever places are sorted.
/// </summary>
internal sealed class ExpertProducts(GpuContext gpu, GpuStep step, GpuRouting routing, GpuOptions options) : IDisposable
{
    /// <summary>Places of the smallest tile.</summary>
    public const int FewPlaces = 8;

    private const int ManyPlaces = 64, RowGroup = 128, GemmGroup = 256, LanesOfRow = 32, GemmRows = 64;

    private readonly record struct Program(TensorType Type, bool MeetsGate, bool IsOdd);

    private readonly Dictionary<Program, Kernels> _kernels = [];

    // Apart, because an expert's width is less than a row's and there are more places than rows.
    private readonly GpuQuantisedRows _rowsInBytes = new(gpu), _placesInBytes = new(gpu);
    private readonly GpuRoundedRows _rowsRounded = new(gpu), _placesRounded = new(gpu);
    private readonly Dictionary<(TensorType Type, int Places, bool MeetsGate), GpuKernel> _tensorKernels = [];
    private readonly bool _hasTensorCores = options.Activations == ActivationType.BF16 && GpuTile.IsFor(gpu.Info);
    private int _tilePlaces, _tiles;

    /// <summary>Makes room for inputs in bytes or in bf16.</summary>
    /// <param name="rows">Rows of a step.</param>
    /// <param name="hidden">Columns of what the gate reads.</param>
    /// <param name="width">Columns of what the down projection reads.</param>
    public void Reserve(int rows, int hidden, int width)
    {
        if (_hasTensorCores)
        {
            _rowsRounded.Reserve(rows, hidden);
            _placesRounded.Reserve(rows * routing.Used, width);
        }
        if (options.Activations != ActivationType.Int8) return;
        _rowsInBytes.Reserve(rows, hidden);
        _placesInBytes.Reserve(rows * routing.Used, width);
    }

    /// <summary>Decides how the step's places are taken, and sorts them where an expert's are taken together.</summary>
    public void Begin()
    {
        _tilePlaces = TilePlaces(routing.PlaceGrid);
        _tiles = _tilePlaces == 1 ? routing.PlaceGrid : routing.GroupByExpert(_tilePlaces);
    }

    /// <summary>y = Gate·x.</summary>
    /// <param name="x"><c>[rows, columns]</c>.</param>
    /// <param name="w">Weights.</param>
    /// <param name="y"><c>[places, w.Count]</c>.</param>
    public void Gate(GpuTensor x, ExpertRows w, GpuTensor y)
    {
        if (IsInt8(w)) _rowsInBytes.Quantise(step.Header, x, step.Grid, 0);
        if (IsTensor) _rowsRounded.Round(step.Header, x.Buffer, x.Columns, step.Grid, 0);
        Run(x, _rowsInBytes, _rowsRounded, w, routing.Used, y, meetsGate: false);
    }

    /// <summary>y = gelu_tanh(y) ⊙ (Up·x), after <see cref="Gate"/> of the same x.</summary>
    public void Up(GpuTensor x, ExpertRows w, bool gateIsInt8, GpuTensor y)
    {
        if (IsInt8(w) && !gateIsInt8) _rowsInBytes.Quantise(step.Header, x, step.Grid, 0);
        Run(x, _rowsInBytes, _rowsRounded, w, routing.Used, y, meetsGate: true);
    }

    /// <summary>y = Down·x.</summary>
    /// <param name="x"><c>[places, columns]</c>.</param>
    /// <param name="w">Weights.</param>
    /// <param name="y"><c>[places, w.Count]</c>.</param>
    public void Down(GpuTensor x, ExpertRows w, GpuTensor y)
    {
        if (IsInt8(w)) _placesInBytes.Quantise(step.Header, x, routing.PlaceGrid, routing.PlaceGrid);
        if (IsTensor) _placesRounded.Round(step.Header, x.Buffer, x.Columns, step.Grid, 0, routing.Used);
        Run(x, _placesInBytes, _placesRounded, w, 1, y, meetsGate: false);
    }

    /// <summary>Whether a product is in integers.</summary>
    public bool IsInt8(ExpertRows w) => options.Activations == ActivationType.Int8 && w.Matrix.HasQuantisedPart;

    public void Dispose()
    {
        _rowsInBytes.Dispose();
        _placesInBytes.Dispose();
        _rowsRounded.Dispose();
        _placesRounded.Dispose();
    }

    /// <summary>
    /// Places of a tile. Reading an expert again for another place costs no more than the sort, as long as few experts have two; and
    /// a large tile is worth its empty rows when most are full.
    /// </summary>
    private int TilePlaces(int places)
    {
        if (!options.BatchInvariant && 2 * places <= routing.Experts) return 1;
        if (_hasTensorCores) return GpuTile.ExpertPlaces(places / routing.Experts);
        return options.BatchInvariant || places <= 16 * routing.Experts ? FewPlaces : ManyPlaces;
    }

    private bool IsTensor => _hasTensorCores && _tilePlaces > 1;

    private void RunTiles(GpuRoundedRows x, ExpertRows w, GpuPart part, int inputUses, GpuTensor y, int columns, bool meetsGate)
    {
        WeightFormat format = part.Format;
        GpuTile tile = GpuTile.ForExperts(format.Type, _tilePlaces);
        if (!_tensorKernels.TryGetValue((format.Type, _tilePlaces, meetsGate), out GpuKernel? kernel))
        {
            KernelSource source = new(
                "gemm_cuda.cu", ["weights.h", "cuda_tensor.h", "gemm_tile_cuda.h"],
                format.Constants([.. tile.Constants, ("EXPERTS", 1), ("GATED", 0), ("MEETS_GATE", meetsGate ? 1 : 0)]));
            _tensorKernels.Add((format.Type, _tilePlaces, meetsGate), kernel = gpu.Kernel(source, "gemm"));
        }
        KernelCall call = kernel.Begin().Add(routing.Places).Add(routing.Tiles).Add(w.Stride).Add(part.FirstRow / w.Stride).Add(part.Rows / w.Stride);
        part.AddTo(call.Add(inputUses).Add(x.Buffer))
            .Add(w.First).Add(w.Count).Add(y.Buffer).Add(y.Columns).Add(0).Add(columns)
            .Run(tile.Group, _tiles, (w.Count + tile.Columns - 1) / tile.Columns, sharedBytes: tile.SharedBytes(format.Type));
    }

    private void Run(GpuTensor x, GpuQuantisedRows bytes, GpuRoundedRows rounded, ExpertRows w, int inputUses, GpuTensor y, bool meetsGate)
    {
        // A place has one expert: of several parts' launches one computes it, and the others leave it alone.
        foreach (GpuPart part in w.Matrix.Parts)
        {
            if (part.FirstRow % w.Stride != 0 || part.Rows % w.Stride != 0) throw new NotSupportedException("A part of a mixture's weights holds whole experts.");
            if (IsTensor) RunTiles(rounded, w, part, inputUses, y, x.Columns, meetsGate);
            else RunRows(x, bytes, w, part, inputUses, y, meetsGate);
        }
    }

    private void RunRows(GpuTensor x, GpuQuantisedRows bytes, ExpertRows w, GpuPart part, int inputUses, GpuTensor y, bool meetsGate)
    {
        bool isMany = _tilePlaces == ManyPlaces, isInt8 = options.Activations == ActivationType.Int8 && part.Format.IsQuantised;
        Kernels kernels = Of(part.Format, isInt8, new Program(part.Format.Type, meetsGate, x.Columns % WeightFormat.Group != 0));
        GpuKernel kernel = isMany ? kernels.Many : _tilePlaces == 1 ? kernels.Alone : kernels.Few;

        KernelCall call = kernel.Begin().Add(step.Header).Add(routing.Used)
            .Add(_tilePlaces == 1 ? routing.Chosen : routing.Places).Add(routing.Tiles).Add(inputUses)
            .Add(w.Stride).Add(part.FirstRow / w.Stride).Add(part.Rows / w.Stride);
        call = isInt8 ? call.Add(bytes.Codes).Add(bytes.About) : call.Add(x.Buffer);
        call = part.AddTo(call).Add(w.First).Add(w.Count).Add(y.Buffer).Add(y.Columns).Add(0).Add(x.Columns);
        int groupRows = isMany ? GemmRows : RowGroup / LanesOfRow;
        call.Run(isMany ? GemmGroup : RowGroup, (w.Count + groupRows - 1) / groupRows, _tiles);
    }

    /// <summary>All that a matrix may need, so that no later step waits for the compiler.</summary>
    private Kernels Of(WeightFormat format, bool isInt8, Program program)
    {
        if (_kernels.TryGetValue(program, out Kernels? kernels)) return kernels;
        return _kernels[program] = new Kernels(
            Compile("expert_rows", ("PLACES", 1), ("GROUP", RowGroup)), Compile("expert_rows", ("PLACES", FewPlaces), ("GROUP", RowGroup)),
            Compile("gemm", ("TILE_ROWS", ManyPlaces), ("EXPERTS", 1)));

        GpuKernel Compile(string name, (string, int) one, (string, int) other) => gpu.Kernel(
            new KernelSource(
                $"{name}.cl", ["weights.h"],
                format.Constants(
                    ("INT8", isInt8 ? 1 : 0), ("MEETS_GATE", program.MeetsGate ? 1 : 0), ("ODD", program.IsOdd ? 1 : 0), one, other)),
            name);
    }

    /// <summary>By places of a tile: one, few, many.</summary>
    private sealed record Kernels(GpuKernel Alone, GpuKernel Few, GpuKernel Many);
}
