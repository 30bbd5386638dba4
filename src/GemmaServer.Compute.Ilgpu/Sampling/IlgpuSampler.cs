using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>From rows of logits to tokens, logprobs and best tokens. Kernels: <see cref="SamplingKernels"/>, <see cref="SelectionKernels"/>.</summary>
/// <remarks>Whole numbers are added up wherever an order would show, so that a row's token depends on the row alone.</remarks>
internal sealed class IlgpuSampler : IDisposable
{
    /// <summary>Lanes that look through a row, at most: 64 fours each at 262,144 tokens.</summary>
    private const int MostColumns = 1024;

    private readonly IlgpuRuntime _runtime;
    private readonly IlgpuRows _rows;
    private readonly IlgpuSlots _slots;
    private readonly IlgpuOutputs _outputs;
    private readonly int _vocabulary, _columns;
    private readonly IlgpuTensor _adjusted;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _maxima, _rawMaxima, _rawSums;
    private readonly MemoryBuffer1D<long, Stride1D.Dense> _drawn;
    private readonly MemoryBuffer1D<int, Stride1D.Dense> _bounds, _listed, _tokens, _results;
    private MemoryBuffer1D<int, Stride1D.Dense> _tops;
    private readonly int[] _hostResults;
    private int[] _hostTops = [];

    private readonly Action<KernelConfig, LogitShape, int, int, int, ArrayView<int>, ArrayView<float>> _patch;
    private readonly Action<KernelConfig, LogitShape, ArrayView<int>, ArrayView<ushort>, ArrayView<int>, ArrayView<float>> _penalise;
    private readonly Action<KernelConfig, LogitShape, int, ArrayView<float>, ArrayView<float>, ArrayView<float>> _survey;
    private readonly Action<KernelConfig, LogitShape, int, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<int>, ArrayView<int>> _cut;
    private readonly Action<KernelConfig, LogitShape, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<long>> _draw;
    private readonly Action<KernelConfig, LogitShape, int, int, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<long>, ArrayView<int>> _pick;
    private readonly Action<
        KernelConfig, LogitShape, int, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<int>> _best;

    public IlgpuSampler(IlgpuRuntime runtime, IlgpuRows rows, IlgpuSlots slots, IlgpuOutputs outputs, int portion, int maxRows, int vocabulary)
    {
        (_runtime, _rows, _slots, _outputs, _vocabulary) = (runtime, rows, slots, outputs, vocabulary);
        _columns = Math.Min(MostColumns, (vocabulary + 3) / 4);
        _patch = runtime.Load("patches of logits", static a => a.LoadStreamKernel<LogitShape, int, int, int, ArrayView<int>, ArrayView<float>>(SamplingKernels.Patch));
        _penalise = runtime.Load("penalties", static a => a.LoadStreamKernel<LogitShape, ArrayView<int>, ArrayView<ushort>, ArrayView<int>, ArrayView<float>>(SamplingKernels.Penalise));
        _survey = runtime.Load("the survey of logits", static a => a.LoadStreamKernel<LogitShape, int, ArrayView<float>, ArrayView<float>, ArrayView<float>>(SamplingKernels.Survey));
        _cut = runtime.Load("top-k and top-p", static a => a.LoadStreamKernel<
            LogitShape, int, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<int>, ArrayView<int>>(SelectionKernels.Cut));
        _draw = runtime.Load("the draw", static a => a.LoadStreamKernel<
            LogitShape, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<long>>(SamplingKernels.Draw));
        _pick = runtime.Load("the choice", static a => a.LoadStreamKernel<
            LogitShape, int, int, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<long>, ArrayView<int>>(SamplingKernels.Pick));
        _best = runtime.Load("the best tokens", static a => a.LoadStreamKernel<
            LogitShape, int, ArrayView<int>, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<int>, ArrayView<int>, ArrayView<int>>(SelectionKernels.Best));
        Logits = new IlgpuTensor(runtime, portion, vocabulary);
        _adjusted = new IlgpuTensor(runtime, portion, vocabulary);
        _maxima = runtime.Allocate<float>(portion * _columns);
        _rawMaxima = runtime.Allocate<float>(portion * _columns);
        _rawSums = runtime.Allocate<float>(portion * _columns);
        _drawn = runtime.Allocate<long>(portion * _columns);
        _bounds = runtime.Allocate<int>(3 * portion);
        _listed = runtime.Allocate<int>(portion);
        _tokens = runtime.Allocate<int>((long)portion * Logits.Stride);
        _results = runtime.Allocate<int>(maxRows * OutputRow.ResultInts);
        _tops = runtime.Allocate<int>(1024);
        _hostResults = new int[maxRows * OutputRow.ResultInts];
    }

    /// <summary>A portion's logits; what is untouched stays here where it is asked for.</summary>
    public IlgpuTensor Logits { get; }

    /// <summary>Pairs of token and logit, once fetched.</summary>
    public ReadOnlySpan<int> Tops => _hostTops;

    /// <summary>Makes room for the step's best tokens.</summary>
    public void Begin()
    {
        if (_tops.Length >= 2 * _outputs.Tops) return;
        _runtime.Finish();
        _tops.Dispose();
        _tops = _runtime.Allocate<int>(4 * _outputs.Tops);
    }

    /// <summary>Samples from rows of <see cref="Logits"/>.</summary>
    /// <param name="start">Output row of the first.</param>
    /// <param name="rows">How many.</param>
    /// <param name="softcap">0 for none.</param>
    /// <param name="keeps">Whether untouched logits shall stay, whatever the outputs ask for.</param>
    public void Run(int start, int rows, float softcap, bool keeps)
    {
        keeps |= _outputs.Keeps;
        LogitShape s = new(start, rows, _vocabulary, Logits.Stride, _columns);
        KernelConfig columns = _runtime.Flat(rows * _columns), perRow = _runtime.Rows(rows);
        int lanes = _runtime.Shape.RowLanes;
        if (softcap != 0) _rows.SoftCap(rows, Logits, softcap);
        if (keeps)
        {
            _survey(columns, s, 1, Logits.View, _rawMaxima.View, _rawSums.View);
            _rows.Copy(rows, Logits, 0, 1f, _adjusted, 0);
        }
        ArrayView<float> logits = (keeps ? _adjusted : Logits).View, maxima = _maxima.View;
        if (_outputs.Biases > 0) _patch(_runtime.Flat(_outputs.Biases), s, 0, _outputs.Biases, 0, _outputs.Patches, logits);
        if (_outputs.Penalises) _penalise(_runtime.Flat((long)rows * _vocabulary), s, _outputs.Table, _slots.Counts, _outputs.Masks, logits);
        if (_outputs.Bans > 0) _patch(_runtime.Flat(_outputs.Bans), s, _outputs.Biases, _outputs.Bans, 1, _outputs.Patches, logits);
        if (_outputs.Draws)
        {
            _survey(columns, s, 0, logits, maxima, _rawSums.View);
            _cut(perRow, s, lanes, _outputs.Table, logits, maxima, _listed.View, _tokens.View, _bounds.View);
        }
        _draw(columns, s, _outputs.Table, logits, maxima, _bounds.View, _drawn.View);
        _pick(perRow, s, lanes, keeps ? 1 : 0, _outputs.Table, Logits.View, _rawMaxima.View, _rawSums.View, _drawn.View, _results.View);
        if (_outputs.Tops > 0)
            _best(perRow, s, lanes, _outputs.Table, Logits.View, _rawMaxima.View, _listed.View, _tokens.View, _results.View, _tops.View);
    }

    /// <summary>All that crosses: tokens, and logprobs where asked for.</summary>
    public void Fetch()
    {
        _runtime.Finish();
        int count = _outputs.Count * OutputRow.ResultInts, tops = 2 * _outputs.Tops;
        _results.View.AsContiguous().Fetch(_hostResults.AsSpan(0, count));
        if (tops == 0) return;
        if (_hostTops.Length < tops) _hostTops = new int[2 * tops];
        _tops.View.AsContiguous().Fetch(_hostTops.AsSpan(0, tops));
    }

    /// <summary>See <see cref="OutputRow.ResultInts"/>.</summary>
    public Span<int> Result(int output) => _hostResults.AsSpan(output * OutputRow.ResultInts, OutputRow.ResultInts);

    /// <summary>Rows of untouched logits to whoever wants to see them; for tests.</summary>
    public void Show(LogitsTap tap, int start, int count)
    {
        float[] logits = new float[count * _vocabulary];
        Logits.Read(logits);
        for (int i = 0; i < count; i++)
        {
            ref readonly OutputFacts output = ref _outputs.Facts[start + i];
            tap(output.Slot, output.Position, logits.AsSpan(i * _vocabulary, _vocabulary));
        }
    }

    public void Dispose()
    {
        foreach (IDisposable d in (IDisposable[])[Logits, _adjusted, _maxima, _rawMaxima, _rawSums, _drawn, _bounds, _listed, _tokens, _results, _tops]) d.Dispose();
    }
}
